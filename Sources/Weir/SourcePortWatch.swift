import WeirNet
import WeirUpstream

/// What is said about source ports that get scarce: a line when a pair of source and destination passes four fifths of its
/// ports, and one when it is below seven tenths again (S0-5).
package struct SourcePortWatch {
    private struct Pair: Hashable {
        let source: IPAddress
        let destination: SocketAddress
    }

    /// Lines about single pairs in one look; beyond, one line says how many more there are.
    private static let lineCountMax = 20

    /// The pairs of which it was said that they are scarce.
    private var scarce: Set<Pair> = []

    package init() {}

    /// `readings`: every pair of the ledger; `limit`: its ports for each. A pair that is there no more has no ports in use.
    package mutating func lines(_ readings: [PortLedger.Reading], limit: Int) -> [String] {
        var rising: [PortLedger.Reading] = []
        var easing: [Pair] = []
        var present: Set<Pair> = []
        for reading in readings {
            let pair = Pair(source: reading.source, destination: reading.destination)
            present.insert(pair)
            let used = reading.standing.used
            if used * 5 >= limit * 4 {
                if scarce.insert(pair).inserted { rising.append(reading) }
            } else if used * 10 < limit * 7, scarce.remove(pair) != nil {
                easing.append(pair)
            }
        }
        for pair in scarce where !present.contains(pair) {
            scarce.remove(pair)
            easing.append(pair)
        }
        rising.sort { ($0.standing.used, "\($0.destination)") > ($1.standing.used, "\($1.destination)") }
        let risen = rising.map { reading in
            "source ports get scarce: \(reading.standing.used) of \(limit) from \(SourcePortFamilies.name(reading.source)) to "
                + "\(reading.destination) are used, \(reading.standing.timeWait) of them in TIME_WAIT; add source "
                + "addresses or endpoints, or widen net.ipv4.ip_local_port_range"
        }
        let eased = easing.map {
            "enough source ports again from \(SourcePortFamilies.name($0.source)) to \($0.destination)"
        }.sorted()
        return Self.bounded(risen, "more pairs are short of source ports")
            + Self.bounded(eased, "more pairs have enough source ports again")
    }

    private static func bounded(_ lines: [String], _ rest: String) -> [String] {
        guard lines.count > lineCountMax else { return lines }
        return lines.prefix(lineCountMax) + ["\(lines.count - lineCountMax) \(rest)"]
    }
}
