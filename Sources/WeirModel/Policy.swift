import WeirNet

/// How connections to names, or to the destination of a PROXY header, leave: from which source addresses, or through which
/// gateways. The first policy whose constraints all hold decides; where none does, the route's own settings hold.
public struct Policy: Sendable, Equatable {
    /// Every constraint that is not empty holds.
    public struct Match: Sendable, Equatable {
        /// The client's address (the PROXY header's where one is believed).
        public var clients: [CIDR] = []
        /// The client's address is one of those that `Configuration.clientLabels` gives all of these labels.
        public var clientLabels: [String: String] = [:]
        public var serverNames: [ServerNamePattern] = []
        /// The address that is connected to, after names have been resolved.
        public var destinations: [CIDR] = []
        /// Addresses in `destinations` that are not meant.
        public var exceptDestinations: [CIDR] = []

        public init() {}
    }

    public enum Action: Sendable, Equatable {
        /// From this pool of `Configuration.sources`.
        case source(String)
        /// Through an endpoint of this cluster, which is told of the destination by a PROXY header.
        case gateways(String)
        /// As the route's own settings say; policies behind it are not asked.
        case route
    }

    /// Unique; a metric label.
    public var name: String
    public var match: Match
    public var action: Action

    public init(name: String, match: Match = Match(), action: Action) {
        self.name = name
        self.match = match
        self.action = action
    }
}

/// Addresses of clients, and what they are labelled with, such as the name and the namespace of an application.
public struct ClientLabels: Sendable, Equatable {
    public var labels: [String: String]
    public var addresses: [CIDR]

    public init(_ labels: [String: String], addresses: [CIDR]) {
        self.labels = labels
        self.addresses = addresses
    }
}

extension Configuration {
    /// The addresses of all clients that have these labels, and perhaps others.
    package func addresses(labelled wanted: [String: String]) -> [CIDR] {
        clientLabels.filter { entry in wanted.allSatisfy { entry.labels[$0.key] == $0.value } }.flatMap(\.addresses)
    }

    func checkPolicies(_ found: inout FaultList) {
        var names: Set<String> = []
        let sourceNames = Set(sources.map(\.name))
        for policy in policies {
            let part = "policy \"\(policy.name)\""
            if policy.name.isEmpty { found.add(part, "has no name") }
            if !names.insert(policy.name).inserted { found.add(part, "this name is used twice") }
            if policy.match.destinations.isEmpty, !policy.match.exceptDestinations.isEmpty {
                found.add(part, "excepts destinations of none: list the `destinations`")
            }
            switch policy.action {
            case .source(let name):
                if !sourceNames.contains(name) { found.add(part, "there is no source \"\(name)\"") }
            case .gateways(let name):
                guard let cluster = clusters.first(where: { $0.name == name }) else {
                    found.add(part, "there is no cluster \"\(name)\"")
                    continue
                }
                if cluster.upstream.sendProxy == nil {
                    found.add(
                        part, "cluster \"\(name)\" has no send_proxy, so its gateways would not know the destination")
                }
            case .route: break
            }
        }
    }

    /// Policies that can hold for nobody.
    func idlePolicies() -> [ConfigurationFault] {
        policies.filter { !$0.match.clientLabels.isEmpty && addresses(labelled: $0.match.clientLabels).isEmpty }.map {
            ConfigurationFault(part: "policy \"\($0.name)\"", message: "no client has all of its labels")
        }
    }
}
