import WeirNet
import WeirTelemetry
import WeirUpstream

/// The port ledger as the exposition and the admin endpoint show it (S0-5, S1-4).
///
/// Destinations are addresses that were connected to, never text from the wire, and their number is bounded: the pairs that
/// have the most ports, then the most connects, stand by themselves; the rest is summed for each source under the
/// destination `other`. Counters of `other` may therefore fall.
package struct SourcePortFamilies {
    package static let pairCountMax = 1000
    private static let rest = "other"

    private let limit: Int
    /// The most used first.
    private let readings: [PortLedger.Reading]
    private let untracked: UInt64
    private let evicted: (succeeded: UInt64, failed: UInt64)
    private let pairCountMax: Int

    /// Reads the whole ledger.
    package init(_ ledger: PortLedger, now: Instant, pairCountMax: Int = Self.pairCountMax) {
        var readings: [PortLedger.Reading] = []
        ledger.forEachPair(now: now) { readings.append($0) }
        limit = ledger.limit
        untracked = ledger.untrackedCount
        evicted = ledger.evicted
        self.pairCountMax = pairCountMax
        self.readings = readings.sorted(by: Self.isBefore)
    }

    /// Every pair, for `SourcePortWatch`.
    package var pairs: [PortLedger.Reading] { readings }

    private static func isBefore(_ a: PortLedger.Reading, _ b: PortLedger.Reading) -> Bool {
        if a.standing.used != b.standing.used { return a.standing.used > b.standing.used }
        let (left, right) = (a.succeeded &+ a.failed, b.succeeded &+ b.failed)
        if left != right { return left > right }
        if a.source != b.source { return a.source.sortKey < b.source.sortKey }
        if a.destination.ip != b.destination.ip { return a.destination.ip.sortKey < b.destination.ip.sortKey }
        return a.destination.port < b.destination.port
    }

    // MARK: Metrics

    package func families() -> [MetricFamily] {
        let shown = readings.prefix(pairCountMax)
        let others = others()
        func samples(_ value: (PortLedger.Reading) -> Int) -> [MetricFamily.Sample] {
            shown.map { MetricFamily.Sample(.integer(UInt64(max(0, value($0)))), labels: Self.labels($0)) }
        }
        func withOthers(
            _ value: (PortLedger.Reading) -> Int, _ other: (Sum) -> UInt64
        ) -> [MetricFamily.Sample] {
            samples(value)
                + others.map { source, sum in
                    MetricFamily.Sample(
                        .integer(other(sum)), labels: [("source", source), ("destination", Self.rest)])
                }
        }
        return [
            MetricFamily(
                "weir_source_ports_in_use", help: "Ports of connections from a source address to a destination.",
                .gauge, withOthers({ $0.standing.inUse }, { $0.inUse })),
            MetricFamily(
                "weir_source_ports_time_wait", help: "Ports that the kernel holds back for a minute after a close.",
                .gauge, withOthers({ $0.standing.timeWait }, { $0.timeWait })),
            MetricFamily(
                "weir_source_ports_limit", help: "Ports that there are from a source address to one destination.",
                .gauge, samples { _ in limit }),
            MetricFamily(
                "weir_source_ports_headroom", help: "Ports of them that are neither in use nor held back.", .gauge,
                samples { limit - $0.standing.used }),
            MetricFamily(
                "weir_source_connects_total", help: "Connects from a source address to a destination, by result.",
                .counter, connects(shown, others)),
            MetricFamily(
                "weir_source_connect_seconds_total", help: "Time that successful connects took together.", .counter,
                shown.map {
                    MetricFamily.Sample(.decimal(Double($0.connectTime) / 1e9), labels: Self.labels($0))
                }),
            MetricFamily(
                "weir_source_untracked_total", help: "Connects whose ports were not counted, for want of a place.",
                .counter, .integer(untracked)),
        ]
    }

    private struct Sum {
        var inUse: UInt64 = 0
        var timeWait: UInt64 = 0
        var succeeded: UInt64 = 0
        var failed: UInt64 = 0
    }

    /// What is not shown by itself, by source; what pairs had that gave way to others, under no source's name.
    private func others() -> [(source: String, sum: Sum)] {
        var sums: [IPAddress: Sum] = [:]
        for reading in readings.dropFirst(pairCountMax) {
            var sum = sums[reading.source] ?? Sum()
            sum.inUse += UInt64(reading.standing.inUse)
            sum.timeWait += UInt64(reading.standing.timeWait)
            sum.succeeded &+= reading.succeeded
            sum.failed &+= reading.failed
            sums[reading.source] = sum
        }
        var others = sums.sorted { $0.key.sortKey < $1.key.sortKey }.map { (source: Self.name($0.key), sum: $0.value) }
        if evicted.succeeded > 0 || evicted.failed > 0 {
            others.append((Self.rest, Sum(succeeded: evicted.succeeded, failed: evicted.failed)))
        }
        return others
    }

    private func connects(
        _ shown: ArraySlice<PortLedger.Reading>, _ others: [(source: String, sum: Sum)]
    ) -> [MetricFamily.Sample] {
        var samples: [MetricFamily.Sample] = []
        func add(_ labels: [(name: String, value: String)], _ succeeded: UInt64, _ failed: UInt64) {
            samples.append(MetricFamily.Sample(.integer(succeeded), labels: labels + [("result", "success")]))
            samples.append(MetricFamily.Sample(.integer(failed), labels: labels + [("result", "failure")]))
        }
        for reading in shown { add(Self.labels(reading), reading.succeeded, reading.failed) }
        for (source, sum) in others {
            add([("source", source), ("destination", Self.rest)], sum.succeeded, sum.failed)
        }
        return samples
    }

    /// The unspecified address stands for what the kernel chooses.
    package static func name(_ source: IPAddress) -> String { source.isUnspecified ? "any" : "\(source)" }

    private static func labels(_ reading: PortLedger.Reading) -> [(name: String, value: String)] {
        [("source", name(reading.source)), ("destination", "\(reading.destination)")]
    }

    // MARK: The matrix

    /// Who reached whom: a line for each pair under a line of headings, in columns, the most used first.
    package func matrix(now: Instant) -> [String] {
        let headings = [
            "source", "destination", "state", "used", "time_wait", "ok", "ok_ago", "failed", "failed_ago", "error",
        ]
        let rows = [headings] + readings.prefix(pairCountMax).map { Self.row($0, now) }
        let widths = headings.indices.map { column in rows.map { $0[column].utf8.count }.max() ?? 0 }
        var lines = rows.map { row in
            zip(row.dropLast(), widths).map { cell, width in
                cell + String(repeating: " ", count: width - cell.utf8.count + 2)
            }.joined() + row[row.count - 1]
        }
        if readings.count > pairCountMax { lines.append("and \(readings.count - pairCountMax) more") }
        return lines
    }

    private static func row(_ reading: PortLedger.Reading, _ now: Instant) -> [String] {
        let standing = reading.standing
        let state =
            switch standing.exclusion {
            case .none: "in"
            case .trialDue: "on trial"
            case .until(let end): "out for \((end.nanoseconds(since: now) + 999_999_999) / 1_000_000_000)s"
            }
        func ago(_ moment: Instant) -> String {
            moment.nanoseconds == 0 ? "-" : "\(now.nanoseconds(since: moment) / 1_000_000_000)s"
        }
        return [
            name(reading.source), "\(reading.destination)", state, "\(standing.used)", "\(standing.timeWait)",
            "\(reading.succeeded)", ago(standing.succeededAt), "\(reading.failed)", ago(reading.failedAt),
            reading.lastError == 0 ? "-" : systemMessage(reading.lastError),
        ]
    }
}

extension IPAddress {
    /// IPv4 before IPv6, each by its bits.
    fileprivate var sortKey: (UInt8, UInt64, UInt64) { (family.rawValue, high, low) }
}
