import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirUpstream

// From the route to addresses: what a worker does between its decision and the first connect.

extension Decision {
    /// Goes where the route leads.
    mutating func follow(_ index: Int, _ resolve: Explainer.Resolve) {
        let route = explainer.route(index, at: slot)
        switch route.action {
        case .deny(let denial):
            explanation.target = .init(kind: .deny, denial: denial)
            refuse(.routeDenied)
        case .forward(let forward):
            let name = explanation.serverName
            guard !name.isNone else {
                explanation.target = .init(kind: .serverName)
                return refuse(.serverNameMissing)
            }
            var port = localPort
            if case .fixed(let fixed) = forward.port { port = fixed }
            explanation.target = .init(kind: .serverName)
            connect(destination(name, port: port, resolve), by: forward.upstream, resolve)
        case .proxyDestination(let options):
            explanation.target = .init(kind: .proxyDestination)
            guard let proxiedDestination else { return refuse(.noDestination) }
            connect(destination(proxiedDestination, .header), by: options, resolve)
        case .cluster(let name):
            explanation.target = .init(kind: .cluster)
            explanation.verdict.target = "cluster \(name.quoted)"
            enter([name], resolve)
        case .split(let shares):
            explanation.target = .init(kind: .split)
            let drawn = shares.filter { $0.weight > 0 }
            let total = drawn.reduce(0) { $0 + $1.weight }
            explanation.verdict.target =
                "one of " + drawn.map { "\($0.cluster.quoted) \($0.weight)" }.joined(separator: ", ")
            enter(drawn.map(\.cluster), resolve)
            for (index, share) in drawn.enumerated() {
                explanation.target?.clusters[index].percent = 100 * Double(share.weight) / Double(total)
            }
        case .originalDestination(let options):
            explanation.target = .init(kind: .originalDestination)
            if proxiedDestination == nil, inquiry.destination == nil {
                note("Nobody is said to have redirected the client (--destination): it asks for the listener itself.")
            }
            let original = SocketAddress(wanted.ip.unmapped, port: wanted.port)
            connect(destination(original, proxiedDestination == nil ? .original : .header), by: options, resolve)
        }
        addLimits(route)
    }

    /// The port that the client connected to; 0: not known.
    private var localPort: UInt16 { (socketDestination ?? listener.address).port }

    // MARK: Addresses

    /// `privateNames`: of the cluster whose endpoint the name is.
    private func destination(
        _ name: ServerName, port: UInt16, privateNames: Bool = false, _ resolve: Explainer.Resolve
    ) -> Explanation.Destination {
        var found = Explanation.Destination(host: name.description, port: port, source: .notAsked)
        guard let answer = resolve(name) else { return found }
        guard answer.status == .found else {
            found.source = .failed(answer.status)
            return found
        }
        found.source = .answered(isStale: answer.isStale)
        // Workers let them take turns, so the order says nothing.
        found.addresses = (0..<answer.addresses.count).map { answer.addresses[$0] }
            .sorted { ($0.family.rawValue, $0.high, $0.low) < ($1.family.rawValue, $1.high, $1.low) }
            .map { checked($0, port, isWritten: false, privateNames: privateNames) }
        return found
    }

    private func destination(
        _ address: SocketAddress, _ source: Explanation.Destination.Source
    ) -> Explanation.Destination {
        Explanation.Destination(
            host: address.ip.description, port: address.port, source: source,
            addresses: [checked(address.ip, address.port, isWritten: source == .written)])
    }

    /// What the guard says.
    private func checked(
        _ ip: IPAddress, _ port: UInt16, isWritten: Bool, privateNames: Bool = false
    ) -> Explanation.Address {
        func block(_ list: [DestinationPolicy.Exemption]) -> CIDR? {
            list.first { $0.block.unmapped.contains(ip.unmapped) && $0.ports?.contains(port) ?? true }?.block
        }
        func verdict(privateNames: Bool) -> GuardVerdict {
            view.destinationGuard.verdict(
                for: SocketAddress(ip, port: port), exemptLiteral: isWritten, privateNames: privateNames)
        }
        let rules = explainer.configuration.destinations
        switch verdict(privateNames: privateNames) {
        case .denied(let rule):
            return .init(ip: ip, guard: .denied(rule, block: rule == .configuredDeny ? block(rules.deny) : nil))
        case .allowed:
            if isWritten { return .init(ip: ip, guard: .allowed(.isWritten)) }
            // Only where nothing else lets it through.
            if privateNames, verdict(privateNames: false) != .allowed {
                return .init(ip: ip, guard: .allowed(.isPrivateName))
            }
            return .init(ip: ip, guard: .allowed(block(rules.allow).map { .exempted($0) } ?? .isPublic))
        }
    }

    // MARK: To a name or a destination

    private mutating func connect(
        _ found: Explanation.Destination, by options: UpstreamOptions, _ resolve: Explainer.Resolve
    ) {
        var found = found
        let target = found.text
        explanation.verdict.target = target
        var source = explainer.source(of: options)
        if let policy = policy(for: found) {
            let written = explainer.configuration.policies[policy.index]
            explanation.verdict.policy = written.name
            explanation.target?.policy = policy.part
            switch written.action {
            case .source(let name):
                source = explainer.pool(name)
            case .gateways(let name):
                explanation.target?.destination = found
                explanation.verdict.target = "\(target) through cluster \(name.quoted)"
                enter([name], resolve)
                return
            case .route: break
            }
        }
        found.choose(source)
        explanation.target?.destination = found
        explanation.target?.source = source
        explanation.verdict.source = source.name
        if let reason = found.refusal { refuse(reason) }
    }

    /// The policy that decides about the first address that the guard allows. nil: none, or nobody can know yet.
    private mutating func policy(
        for destination: Explanation.Destination
    ) -> (index: Int, part: Explanation.PolicyPart)? {
        let policies = explainer.configuration.policies
        if policies.isEmpty { return nil }
        let (client, name) = (explanation.client.address, explanation.serverName)
        let allowed = destination.addresses.filter(\.isAllowed).map(\.ip)
        guard let first = allowed.first else {
            guard destination.source == .notAsked else { return nil }
            return policyOfAnyAddress()
        }
        if Set(allowed.map { view.policy(client: client, name: name, destination: $0) }).count > 1 {
            note("The addresses take turns, and not all have the same policy: this is about \(first).")
        }
        guard let found = view.policy(client: client, name: name, destination: first) else { return nil }
        let passed = (0..<found).map { index in
            let failing = view.failing(policy: index, client: client, name: name, destination: first)
            return (policies[index], failing)
        }
        return (found, part(found, passed, first))
    }

    /// The same before there is an address, where none of the policies that could hold asks for it.
    private mutating func policyOfAnyAddress() -> (index: Int, part: Explanation.PolicyPart)? {
        let (client, name) = (explanation.client.address, explanation.serverName)
        var passed: [(Policy, PolicyConstraint?)] = []
        for (index, policy) in explainer.configuration.policies.enumerated() {
            let failing = view.failing(policy: index, client: client, name: name, destination: .v4Any)
            let isAboutOthers = failing == .clients || failing == .clientLabels
            if !isAboutOthers, !policy.match.destinations.isEmpty {
                note("Policies are asked about addresses, and the name was not resolved.")
                return nil
            }
            guard let failing else { return (index, part(index, passed, nil)) }
            passed.append((policy, failing))
        }
        return nil
    }

    private func part(
        _ index: Int, _ passed: [(Policy, PolicyConstraint?)], _ address: IPAddress?
    ) -> Explanation.PolicyPart {
        let policy = explainer.configuration.policies[index]
        var cluster: String?
        if case .gateways(let name) = policy.action { cluster = name }
        return Explanation.PolicyPart(
            name: policy.name,
            passed: passed.compactMap { policy, failing in
                failing.map { .init(name: policy.name, why: why($0, policy.match, address)) }
            },
            cluster: cluster, leavesAsRoute: policy.action == .route)
    }

    private func why(_ constraint: PolicyConstraint, _ match: Policy.Match, _ address: IPAddress?) -> String {
        let client = explanation.client.address
        switch constraint {
        case .clients:
            return "the client \(client) is not in \(match.clients.map(\.description).listed())"
        case .clientLabels:
            let labels = match.clientLabels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)".quoted }
            return "the client \(client) has not the labels \(labels.listed())"
        case .destinations:
            let destination = address?.description ?? "the destination"
            let excepted = match.exceptDestinations.first { block in address.map { block.contains($0) } ?? false }
            if let excepted { return "\(destination) is in \(excepted), which it excepts" }
            return "\(destination) is not in \(match.destinations.map(\.description).listed())"
        case .serverNames:
            let name = explanation.serverName
            let wanted = match.serverNames.map(\.text).listed()
            return name.isNone ? "there is no server name, and it asks for \(wanted)" : "\(name) is not \(wanted)"
        }
    }

    // MARK: To clusters

    /// Looks at all that the clusters have; refused where none of it can be connected to.
    private mutating func enter(_ names: [String], _ resolve: Explainer.Resolve) {
        var refusals: [CloseReason.Other?] = []
        for name in names {
            guard let index = explainer.clusterIndices[name] else { preconditionFailure("there is no cluster \(name)") }
            let part = knownClusters?[index] ?? cluster(index, resolve)
            knownClusters?[index] = part
            explanation.target?.clusters.append(part)
            addLimits(explainer.configuration.clusters[index])
            if refusals.isEmpty { explanation.verdict.source = part.source.name }
            refusals.append(part.refusal)
        }
        let reasons = refusals.compactMap { $0 }
        guard let reason = reasons.first else { return }
        if reasons.count == refusals.count {
            refuse(reason)
        } else {
            note("Not every cluster that may be drawn can be connected to: the others' sessions are refused.")
        }
    }

    private func cluster(_ index: Int, _ resolve: Explainer.Resolve) -> Explanation.ClusterPart {
        let written = explainer.configuration.clusters[index]
        let source = explainer.source(of: written.upstream)
        let endpoints = view.clusters[index].endpoints.indices.map { endpoint in
            let record = view.endpoints[endpoint]
            var found: Explanation.Destination
            switch record.host {
            case .address(let ip): found = destination(SocketAddress(ip, port: record.port), .written)
            case .name(let name):
                found = destination(
                    view.hostNames[Int(name)], port: record.port, privateNames: written.privateNames, resolve)
            }
            found.choose(source)
            return Explanation.EndpointPart(
                name: explainer.table.endpointDescription(endpoint), weight: Int(record.weight),
                priority: Int(record.priority), isDown: record.isDown, destination: found)
        }
        return Explanation.ClusterPart(
            name: written.name, balance: written.balance.word, endpoints: endpoints, source: source,
            preferred: knownClusters == nil ? preferred(index) : nil)
    }

    /// Where every endpoint is good.
    private func preferred(_ cluster: Int) -> String? {
        guard view.clusters[cluster].balance == .sourceHash else { return nil }
        var balancer = Balancer(view: view, board: EndpointBoard())
        let endpoint = balancer.choose(
            cluster: cluster, client: StableHash.of(explanation.client.address), tried: TriedEndpoints(),
            now: Instant(nanoseconds: 0))
        return endpoint.map { explainer.table.endpointDescription($0) }
    }

    // MARK: Limits

    mutating func addLimits(_ limits: ProcessLimits) {
        add("process", nil, "connections", limits.connections)
        add("process", nil, "rate", limits.rate)
    }

    mutating func addLimits(_ limits: ListenerLimits) {
        let name = listener.name
        add("listener", name, "connections", limits.connections)
        add("listener", name, "per_client.connections", limits.connectionsPerClient)
        add("listener", name, "rate", limits.rate)
        add("listener", name, "per_client.rate", limits.ratePerClient)
    }

    private mutating func addLimits(_ route: Route) {
        add("route", route.name, "connections", route.limits.connections)
        add("route", route.name, "per_client.connections", route.limits.connectionsPerClient)
        add("route", route.name, "rate", route.limits.rate)
        add("route", route.name, "per_client.rate", route.limits.ratePerClient)
    }

    private mutating func addLimits(_ cluster: Cluster) {
        if knownClusters != nil { return }
        add("cluster", cluster.name, "connections", cluster.limits.connections)
        add("cluster", cluster.name, "pending", cluster.limits.pending)
        add("cluster", cluster.name, "rate", cluster.limits.rate)
        for endpoint in cluster.endpoints {
            add("endpoint", "\(cluster.name) \(endpoint)", "max_connections", endpoint.connectionsMax)
        }
    }

    private mutating func add(_ scope: String, _ subject: String?, _ name: String, _ value: Int?) {
        guard let value else { return }
        explanation.limits.append(.init(scope: scope, subject: subject, name: name, value: String(value)))
    }

    private mutating func add(_ scope: String, _ subject: String?, _ name: String, _ value: RateLimit?) {
        guard let value else { return }
        explanation.limits.append(.init(scope: scope, subject: subject, name: name, value: value.text))
    }
}

extension Explainer {
    func pool(_ name: String) -> Explanation.Source {
        guard let pool = configuration.sources.first(where: { $0.name == name }) else {
            preconditionFailure("there is no source \(name)")
        }
        return .pool(pool)
    }

    func source(of options: UpstreamOptions) -> Explanation.Source {
        if let name = options.source { return pool(name) }
        return options.sourceAddresses.isEmpty ? .kernel : .addresses(options.sourceAddresses)
    }
}

extension Explanation.Source {
    /// nil: the kernel chooses.
    var name: String? {
        switch self {
        case .kernel: nil
        case .pool(let pool): pool.name.quoted
        case .addresses(let all): all.map(\.description).joined(separator: ", ")
        }
    }

    /// Whether an address of `family` can be connected to from there.
    func has(_ family: IPAddress.Family) -> Bool {
        let members: [IPAddress] =
            switch self {
            case .kernel: []
            case .pool(let pool): pool.addresses
            case .addresses(let all): all
            }
        return members.isEmpty || members.contains { $0.unmapped.family == family }
    }
}

extension Explanation.Address {
    /// By the guard.
    package var isAllowed: Bool { if case .allowed = self.guard { true } else { false } }
    var isUsable: Bool { isAllowed && hasSource }
}

extension Explanation.Destination {
    /// `host:port`.
    var text: String {
        let port = port == 0 ? "the port that the client connects to" : String(port)
        return IPAddress(host)?.family == .v6 ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    /// Connects from there.
    mutating func choose(_ pool: Explanation.Source) {
        for index in addresses.indices { addresses[index].hasSource = pool.has(addresses[index].ip.unmapped.family) }
    }

    /// Why nothing of it can be connected to; nil: something can, as far as one knows.
    var refusal: CloseReason.Other? {
        switch source {
        case .notAsked: return nil
        case .failed(let status):
            return switch status {
            case .found, .noAddress: .nameHasNoAddress
            case .noSuchName: .nameNotFound
            case .serverFailure: .resolverFailed
            case .timedOut: .resolverTimedOut
            case .refusedTooMany, .cancelled: .resolverOverloaded
            }
        case .written, .header, .original, .answered:
            if addresses.contains(where: \.isUsable) { return nil }
            return addresses.allSatisfy(\.isAllowed) ? .connectUnreachable : .destinationDenied
        }
    }
}

extension Explanation.ClusterPart {
    /// Why no session gets through it; nil: one may.
    var refusal: CloseReason.Other? {
        let refusals = endpoints.filter { !$0.isDown }.map(\.destination.refusal)
        if refusals.isEmpty { return .noEndpoint }
        if refusals.contains(where: { $0 == nil }) { return nil }
        return refusals.last ?? nil
    }
}

extension Cluster.Balance {
    /// As native YAML has it.
    var word: String {
        switch self {
        case .roundRobin: "round_robin"
        case .sourceHash: "source_hash"
        case .leastConnections: "least_connections"
        case .random: "random"
        }
    }
}

extension RateLimit {
    /// `500/s`, `30/m burst 5`.
    var text: String {
        let (seconds, attoseconds) = period.components
        let per: String
        switch (seconds, attoseconds) {
        case (1, 0): per = "/s"
        case (60, 0): per = "/m"
        case (3600, 0): per = "/h"
        default: per = " in \(seconds * 1000 + attoseconds / 1_000_000_000_000_000)ms"
        }
        return "\(count)\(per)" + (burst == count ? "" : " burst \(burst)")
    }
}
