import WeirModel
import WeirNet

/// The routes of Istio's documents, before they are put into the order in which Envoy would take them.
///
/// Envoy looks at the destination's port and the longest block around its address, then at the server name, then at the
/// client; how VirtualServices list their rules counts among equals only. Weir looks at the server name first. Where
/// that makes a difference it is said.
struct IstioRoutes {
    /// A listener.
    struct Place: Hashable, Comparable {
        var port: UInt16
        /// nil: wherever manifests are listened for.
        var address: IPAddress?

        static func < (a: Place, b: Place) -> Bool {
            (a.port, a.address?.description ?? "") < (b.port, b.address?.description ?? "")
        }
    }

    private struct Entry {
        var route: Route
        var place: Place
        var position: SourcePosition
        /// Which list it stands in: there its place means something.
        var list: String
        /// How closely it says where a connection goes.
        var closeness: (port: Int, address: Int) {
            // They are all of one length.
            let length = route.match.destinations.first?.prefixLength ?? -1
            return (route.match.destinationPorts.isEmpty ? 0 : 1, length)
        }
    }

    private var entries: [Entry] = []
    private var placesByPort: [UInt16: Set<Place>] = [:]

    /// Where routes ask for listeners at a port.
    func places(ofPort port: UInt16) -> Set<Place> { placesByPort[port] ?? [] }

    /// Adds a route, and one more for each further length of its blocks: Envoy takes the longest block around an address
    /// among those of all routes, whatever else stands in the list of its route.
    mutating func add(_ route: Route, at place: Place, list: String, position: SourcePosition) {
        placesByPort[place.port, default: []].insert(place)
        let lengths = Dictionary(grouping: route.match.destinations, by: \.prefixLength)
        var parts = lengths.isEmpty ? [route] : []
        for (length, blocks) in lengths.sorted(by: { $0.key > $1.key }) {
            var part = route
            if !parts.isEmpty { part.name += "/prefix-\(length)" }
            part.match.destinations = blocks
            parts.append(part)
        }
        for part in parts { entries.append(Entry(route: part, place: place, position: position, list: list)) }
    }

    /// Hands the routes to their listeners.
    func finish(_ listeners: inout ManifestListeners, _ findings: Findings) {
        reportListOrder(findings)
        let places = Dictionary(grouping: entries, by: \.place)
        for place in places.keys.sorted() {
            let sorted = places[place]!.enumerated().sorted { first, second in
                let (a, b) = (first.element.closeness, second.element.closeness)
                return (a.port, a.address, second.offset) > (b.port, b.address, first.offset)
            }.map(\.element)
            reportUnreached(sorted, findings)
            reportDestinationOrder(sorted, findings)
            for entry in sorted {
                listeners.add(entry.route, port: place.port, address: place.address, at: entry.position)
            }
        }
    }

    /// Istio's reference says that the first rule of a list holds; Envoy, and so Istio, takes the narrowest name.
    private func reportListOrder(_ findings: Findings) {
        var seen: [String: [ServerNamePattern: String]] = [:]
        for entry in entries where entry.route.match.isNameOnly {
            let list = "\(entry.place.port) \(entry.place.address?.description ?? "") \(entry.list)"
            for pattern in entry.route.match.serverNames {
                for wider in pattern.wider {
                    guard let first = seen[list]?[wider], first != entry.route.name else { continue }
                    findings.notice(
                        entry.position,
                        "\(entry.route.name): \(quoted(wider.text)) of \(first) stands before "
                            + "\(quoted(pattern.text)): the narrower name is taken first, as Envoy does"
                    )
                }
                seen[list, default: [:]][pattern] = entry.route.name
            }
        }
    }

    private func reportUnreached(_ sorted: [Entry], _ findings: Findings) {
        // nil stands for what has no name.
        var taken: [ServerNamePattern?: String] = [:]
        for entry in sorted {
            let match = entry.route.match
            let patterns: [ServerNamePattern?] = match.serverNames.isEmpty ? [nil] : match.serverNames.map { $0 }
            if let first = taken[patterns[0]], patterns.allSatisfy({ taken[$0] != nil }) {
                findings.notice(
                    entry.position,
                    "\(entry.route.name) takes no connection at port \(entry.place.port): \(first) takes them before")
            }
            guard match.isNameOnly else { continue }
            for pattern in patterns where taken[pattern] == nil { taken[pattern] = entry.route.name }
        }
    }

    private func reportDestinationOrder(_ sorted: [Entry], _ findings: Findings) {
        var byDestination: [ServerNamePattern?: String] = [:]
        for entry in sorted where !entry.route.match.destinations.isEmpty {
            let names = entry.route.match.serverNames
            for pattern in names.isEmpty ? [nil] : names.map({ $0 }) { byDestination[pattern] = entry.route.name }
        }
        if byDestination.isEmpty { return }
        for entry in sorted where entry.route.match.destinations.isEmpty {
            for pattern in entry.route.match.serverNames {
                let wider: [ServerNamePattern?] = pattern.wider + [nil]
                guard let other = wider.lazy.compactMap({ byDestination[$0] }).first else { continue }
                findings.notice(
                    entry.position,
                    "\(entry.route.name) takes \(quoted(pattern.text)) before \(other) takes its destinations: "
                        + "server names go first here, in Envoy destinations do"
                )
            }
        }
    }
}
