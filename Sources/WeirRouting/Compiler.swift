import WeirMemory
import WeirModel
import WeirNet

/// Turns a configuration into the arrays of a `RouteView`. Time grows as n log n with what is written in it.
struct Compiler {
    private let configuration: Configuration
    private let slots: [String: Int]
    private let metricIndex: (MetricSubject) -> Int32
    private let placeIndex: ((MetricSubject) -> Int32)?

    private var listeners: [CompiledListener]
    private var routes: [CompiledRoute] = []
    private var routeLimits: [CompiledRouteLimits] = []
    private var splits: [CompiledSplit] = []
    private var shares: [CompiledShare] = []
    private var clusters: [CompiledCluster] = []
    private var endpoints: [CompiledEndpoint] = []
    private var upstreams: [CompiledUpstream] = []
    private var hashSlots: [Int32] = []
    private var sources: SourceLayout
    private var upstreamOptions: [UpstreamOptions] = []
    private var policies: [CompiledPolicy] = []
    private var policyNames: [CompiledPattern] = []
    private var hostNames: [ServerName] = []
    private var steps: [AddressStep] = []
    private var names: NameTableBuilder
    private var candidates: [Int32] = []
    private var protocols: [CompiledProtocol] = []
    private var protocolIndices: [String: Int32] = [:]
    private var routeProtocols: [Int32] = []
    private var destinations: [CompiledDestination] = []
    private var destinationPorts: [CompiledPorts] = []

    private var listenerNames: [String?]
    private var routeNames: [String] = []
    private var endpointDescriptions: [String] = []
    private var clusterIndices: [String: Int32] = [:]

    init(
        _ configuration: Configuration, slots: [String: Int], key: SipKey,
        interfaceIndex: (String) -> Int32?, metricIndex: @escaping (MetricSubject) -> Int32,
        placeIndex: ((MetricSubject) -> Int32)?
    ) {
        self.configuration = configuration
        sources = SourceLayout(configuration.sources, interfaceIndex: interfaceIndex)
        self.slots = slots
        self.metricIndex = metricIndex
        self.placeIndex = placeIndex
        // Every slot has a record, so that a session of a listener that a reload has removed finds a hole.
        precondition(slots.values.allSatisfy { (0..<RouteView.slotCount).contains($0) })
        listeners = Array(repeating: CompiledListener(), count: RouteView.slotCount)
        listenerNames = Array(repeating: nil, count: RouteView.slotCount)
        var nameCount = 0
        for listener in configuration.listeners {
            for index in listener.routes.indices { nameCount += listener.routes[index].match.serverNames.count }
        }
        names = NameTableBuilder(key: key, nameCountMax: nameCount)
    }

    mutating func compile() -> CompiledConfiguration {
        for cluster in configuration.clusters { add(cluster) }
        for listener in configuration.listeners { add(listener) }
        for policy in configuration.policies { add(policy) }
        let destinationGuard = compiledGuard(configuration.destinations)
        let names = names.finished(candidates: &candidates)
        let steps = FlatArray(steps)
        let view = RouteView(
            generation: 0,
            listeners: FlatArray(listeners),
            routes: FlatArray(routes),
            routeLimits: FlatArray(routeLimits),
            splits: FlatArray(splits),
            shares: FlatArray(shares),
            clusters: FlatArray(clusters),
            endpoints: FlatArray(endpoints),
            upstreams: FlatArray(upstreams),
            hashSlots: FlatArray(hashSlots),
            sourceAddresses: FlatArray(sources.addresses),
            policies: FlatArray(policies),
            policyNames: FlatArray(policyNames),
            hostNames: FlatArray(hostNames),
            destinationGuard: destinationGuard(steps),
            steps: steps,
            names: names,
            candidates: FlatArray(candidates),
            protocols: FlatArray(protocols),
            routeProtocols: FlatArray(routeProtocols),
            destinations: FlatArray(destinations),
            destinationPorts: FlatArray(destinationPorts))
        return CompiledConfiguration(
            arrays: view, listenerNames: listenerNames, routeNames: routeNames,
            clusterNames: configuration.clusters.map(\.name), endpointDescriptions: endpointDescriptions)
    }

    // MARK: Clusters

    private mutating func add(_ cluster: Cluster) {
        let index = Int32(clusters.count)
        precondition(clusterIndices.updateValue(index, forKey: cluster.name) == nil, "two clusters of one name")
        // Groups of one priority lie together; within one, the order is the one written.
        let ordered = cluster.endpoints.enumerated().sorted {
            ($0.element.priority, $0.offset) < ($1.element.priority, $1.offset)
        }
        let extent = Extent(first: endpoints.count, count: ordered.count)
        for (_, endpoint) in ordered { add(endpoint, of: cluster, index) }
        if cluster.balance == .sourceHash { addHashSlots(extent.indices) }
        let subject = MetricSubject.cluster(cluster.name)
        clusters.append(
            CompiledCluster(
                cluster, metric: metricIndex(subject), place: placeIndex?(subject) ?? index, endpoints: extent,
                upstream: add(cluster.upstream)))
    }

    private mutating func add(_ endpoint: Endpoint, of owner: Cluster, _ cluster: Int32) {
        let host: CompiledEndpoint.Host
        switch endpoint.host {
        case .address(let ip):
            host = .address(ip)
        case .name(let name):
            host = .name(Int32(hostNames.count))
            hostNames.append(name)
        }
        let description = endpoint.description
        endpointDescriptions.append(description)
        let subject = MetricSubject.endpoint(cluster: owner.name, description: description)
        endpoints.append(
            CompiledEndpoint(
                metric: metricIndex(subject),
                cluster: cluster,
                place: placeIndex?(subject) ?? Int32(endpoints.count),
                host: host,
                port: endpoint.port,
                weight: Int32(endpoint.weight),
                priority: Int32(clamping: endpoint.priority),
                isDown: endpoint.isDown,
                maxFails: owner.outlierDetection == nil ? Int32(clamping: endpoint.maxFails) : 0,
                failTimeout: endpoint.failTimeout.clampedNanoseconds,
                connectionsMax: endpoint.connectionsMax.map { UInt64($0) } ?? .max))
    }

    /// One table for each group of one priority.
    private mutating func addHashSlots(_ range: Range<Int>) {
        var start = range.lowerBound
        while start < range.upperBound {
            let end = range[start...].first { endpoints[$0].priority != endpoints[start].priority } ?? range.upperBound
            let group = (start..<end).map { (name: endpointDescriptions[$0], weight: Int(endpoints[$0].weight)) }
            let slots = MaglevTable.slots(group)
            endpoints[start].groupSlots = Extent(first: hashSlots.count, count: slots.count)
            hashSlots += slots.map { Int32(start) + $0 }
            start = end
        }
    }

    /// Thousands of routes mostly repeat the options of the one before.
    private mutating func add(_ options: UpstreamOptions) -> Int32 {
        if upstreamOptions.last != options {
            upstreamOptions.append(options)
            upstreams.append(CompiledUpstream(options, sources.sources(of: options)))
        }
        return Int32(upstreams.count - 1)
    }

    // MARK: Listeners

    private mutating func add(_ listener: Listener) {
        guard let slot = slots[listener.name] else { preconditionFailure("listener \(listener.name) has no slot") }
        precondition(!listeners[slot].exists, "two listeners in slot \(slot)")
        listenerNames[slot] = listener.name

        var compiled = CompiledListener()
        compiled.exists = true
        compiled.metric = metricIndex(.listener(listener.name))
        compiled.address = listener.address
        compiled.detectsTLS = listener.detect.contains(.tls)
        compiled.detectsHTTP = listener.detect.contains(.http)
        compiled.helloByteCountMax = Int32(listener.hello.byteCountMax)
        compiled.allowsECH = listener.hello.allowECH
        compiled.preambleTimeout = listener.timeouts.preamble.clampedNanoseconds
        compiled.helloTimeout = listener.timeouts.hello.clampedNanoseconds
        compiled.idleTimeout = listener.timeouts.idle.clampedNanoseconds
        compiled.halfCloseTimeout = listener.timeouts.halfClose.clampedNanoseconds
        compiled.sessionTimeout = listener.timeouts.session?.clampedNanoseconds ?? .max
        compiled.connectionsMax = listener.limits.connections ?? .max
        compiled.connectionsPerClientMax = listener.limits.connectionsPerClient ?? .max
        compiled.rate = RateBound(listener.limits.rate)
        compiled.ratePerClient = RateBound(listener.limits.ratePerClient)
        compiled.passesHalfClose = listener.halfClose
        let rules = listener.clients.rules.map { AddressTable.Rule($0.block, $0.allow ? 1 : 0) }
        compiled.clients = AddressTable(
            rules, otherwise: listener.clients.otherwiseAllow ? 1 : 0, appendingTo: &steps)
        if let accept = listener.acceptProxy {
            compiled.acceptsProxy = true
            compiled.proxyHeaderByteCountMax = Int32(accept.headerByteCountMax)
            compiled.acceptsIPv4InTCP6 = accept.acceptIPv4InTCP6
            compiled.proxyPeers = table(of: accept.from)
        }
        addRoutes(of: listener, slot, to: &compiled)
        listeners[slot] = compiled
    }

    private mutating func addRoutes(of listener: Listener, _ slot: Int, to compiled: inout CompiledListener) {
        var anyName: [Int32] = []
        var noConstraint: [Int32] = []
        for route in listener.routes {
            let index = add(route, listener: listener.name, slot)
            if routes[Int(index)].destination >= 0 { compiled.matchesDestinations = true }
            if routes[Int(index)].action == .originalDestination { compiled.followsRedirections = true }
            if route.match.serverNames.isEmpty { noConstraint.append(index) }
            for pattern in route.match.serverNames {
                switch pattern {
                case .exact(let name):
                    names.add(index, exact: name, listener: slot)
                case .wildcard(let suffix):
                    names.add(index, wildcard: suffix, listener: slot)
                    var labelCount: Int32 = 1
                    for index in 0..<suffix.byteCount where suffix[index] == UInt8(ascii: ".") { labelCount += 1 }
                    compiled.suffixLabelCountMax = max(compiled.suffixLabelCountMax, labelCount)
                case .any:
                    anyName.append(index)
                }
            }
        }
        compiled.anyName = Extent(first: candidates.count, count: anyName.count)
        candidates += anyName
        compiled.noConstraint = Extent(first: candidates.count, count: noConstraint.count)
        candidates += noConstraint
    }

    private mutating func add(_ route: Route, listener name: String, _ slot: Int) -> Int32 {
        var denial = Denial.unrecognizedName
        var cluster: Int32 = -1
        var forwardPort: UInt16 = 0
        var upstream: Int32 = -1
        let action: CompiledAction
        switch route.action {
        case .cluster(let name):
            action = .cluster
            cluster = index(ofCluster: name)
            upstream = clusters[Int(cluster)].upstream
        case .split(let shares):
            action = .split
            cluster = add(shares)
        case .forward(let forward):
            action = .forward
            if case .fixed(let port) = forward.port { forwardPort = port }
            upstream = add(forward.upstream)
        case .proxyDestination(let options):
            action = .proxyDestination
            denial = .reset
            upstream = add(options)
        case .originalDestination(let options):
            action = .originalDestination
            denial = .reset
            upstream = add(options)
        case .deny(let how):
            action = .deny
            denial = how
        }
        let protocols = Extent(first: routeProtocols.count, count: route.match.alpn.count)
        for name in route.match.alpn { routeProtocols.append(index(ofProtocol: name)) }
        routeNames.append(route.name)
        let subject = MetricSubject.route(listener: name, name: route.name)
        routes.append(
            CompiledRoute(
                metric: metricIndex(subject),
                listener: Int32(slot),
                action: action,
                denial: denial,
                forwardPort: forwardPort,
                cluster: cluster,
                upstream: upstream,
                limits: add(route.limits, of: subject),
                clients: route.match.clients.isEmpty
                    ? AddressTable(first: 0, count: 0) : table(of: route.match.clients),
                alpn: protocols,
                destination: addDestination(route.match)))
        return Int32(routes.count - 1)
    }

    /// The index of a route's limits; -1 where it has none.
    private mutating func add(_ limits: RouteLimits, of subject: MetricSubject) -> Int32 {
        guard limits.isAny else { return -1 }
        let index = Int32(routeLimits.count)
        routeLimits.append(CompiledRouteLimits(limits, place: placeIndex?(subject) ?? index))
        return index
    }

    /// The index of what `match` asks of the destination; -1 where that is nothing.
    private mutating func addDestination(_ match: RouteMatch) -> Int32 {
        if match.destinations.isEmpty, match.destinationPorts.isEmpty { return -1 }
        let ports = Extent(first: destinationPorts.count, count: match.destinationPorts.count)
        destinationPorts += match.destinationPorts.map { CompiledPorts($0) }
        let addresses = table(of: match.destinations, except: match.exceptDestinations)
        destinations.append(CompiledDestination(addresses: addresses, ports: ports))
        return Int32(destinations.count - 1)
    }

    private func index(ofCluster name: String) -> Int32 {
        guard let index = clusterIndices[name] else { preconditionFailure("there is no cluster \(name)") }
        return index
    }

    /// The index of a new split.
    private mutating func add(_ parts: [ClusterShare]) -> Int32 {
        let drawn = parts.filter { $0.weight > 0 }
        precondition(!drawn.isEmpty, "a split whose weights are all 0")
        let extent = Extent(first: shares.count, count: drawn.count)
        shares += drawn.map { CompiledShare(cluster: index(ofCluster: $0.cluster), weight: Int32($0.weight)) }
        splits.append(CompiledSplit(shares: extent, weight: drawn.reduce(0) { $0 + UInt64($1.weight) }))
        return Int32(splits.count - 1)
    }

    private mutating func index(ofProtocol name: String) -> Int32 {
        if let known = protocolIndices[name] { return known }
        let index = Int32(protocols.count)
        protocols.append(CompiledProtocol(name))
        protocolIndices[name] = index
        return index
    }

    /// 1 for addresses inside one of the blocks.
    private mutating func table(of blocks: [CIDR]) -> AddressTable {
        AddressTable(blocks.map { AddressTable.Rule($0, 1) }, otherwise: 0, appendingTo: &steps)
    }

    /// 1 for addresses inside one of `blocks` and none of `excepted`; no table where there are no blocks.
    private mutating func table(of blocks: [CIDR], except excepted: [CIDR]) -> AddressTable {
        if blocks.isEmpty { return AddressTable(first: 0, count: 0) }
        let rules = excepted.map { AddressTable.Rule($0, 0) } + blocks.map { AddressTable.Rule($0, 1) }
        return AddressTable(rules, otherwise: 0, appendingTo: &steps)
    }

    // MARK: Policies

    private mutating func add(_ policy: Policy) {
        let match = policy.match
        let none = AddressTable(first: 0, count: 0)
        let names = Extent(first: policyNames.count, count: match.serverNames.count)
        policyNames += match.serverNames.map { CompiledPattern($0) }
        let clients = match.clients.isEmpty ? none : table(of: match.clients)
        let labelled =
            match.clientLabels.isEmpty ? none : table(of: configuration.addresses(labelled: match.clientLabels))
        let destinations = table(of: match.destinations, except: match.exceptDestinations)
        let action: CompiledPolicy.Action =
            switch policy.action {
            case .source(let name): .sources(sources.sources(named: name))
            case .gateways(let name): .gateways(cluster: index(ofCluster: name))
            case .route: .route
            }
        policies.append(
            CompiledPolicy(
                metric: metricIndex(.policy(policy.name)), action: action, clients: clients, labelled: labelled,
                names: names, destinations: destinations))
    }

    // MARK: Guard

    /// Adds the guard's tables; the guard itself needs the finished array of steps.
    private mutating func compiledGuard(
        _ policy: DestinationPolicy
    ) -> (FlatArray<AddressStep>) -> DestinationGuard {
        let classes = AddressTable(GuardRule.classes, otherwise: 0, appendingTo: &steps)
        let allowed = table(of: policy.allow.filter { $0.ports == nil }.map(\.block))
        let denied = table(of: policy.deny.filter { $0.ports == nil }.map(\.block))
        return { steps in
            DestinationGuard(
                steps: steps,
                classes: classes,
                allowedAnyPort: allowed,
                deniedAnyPort: denied,
                allowedPorts: Self.portBlocks(policy.allow),
                deniedPorts: Self.portBlocks(policy.deny),
                own: OwnAddresses(listeners: [], localAddresses: []))
        }
    }

    private static func portBlocks(
        _ exemptions: [DestinationPolicy.Exemption]
    ) -> FlatArray<DestinationGuard.PortBlock> {
        FlatArray(
            exemptions.compactMap { exemption in
                exemption.ports.map {
                    DestinationGuard.PortBlock(
                        block: exemption.block.unmapped, lowPort: $0.lowerBound, highPort: $0.upperBound)
                }
            })
    }
}
