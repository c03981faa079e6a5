import WeirMemory
import WeirModel
import WeirNet

/// What a worker looks at for each connection: plain arrays that belong to a `RouteTable`, without reference counts.
/// Good for as long as that table lives. Every query is free of allocation.
package struct RouteView: BitwiseCopyable, Sendable {
    /// Listeners that can exist at once.
    package static let slotCount = Configuration.listenerCountMax

    /// Chosen by whoever compiled it.
    package internal(set) var generation: UInt64
    /// By slot, all `slotCount` of them; look at `exists` first.
    package let listeners: FlatArray<CompiledListener>
    package let routes: FlatArray<CompiledRoute>
    package let routeLimits: FlatArray<CompiledRouteLimits>
    package let splits: FlatArray<CompiledSplit>
    package let shares: FlatArray<CompiledShare>
    package let clusters: FlatArray<CompiledCluster>
    package let endpoints: FlatArray<CompiledEndpoint>
    package let upstreams: FlatArray<CompiledUpstream>
    /// Indices of endpoints: the tables that `CompiledEndpoint.groupSlots` names.
    package let hashSlots: FlatArray<Int32>
    /// The members of all pools of source addresses; `CompiledSources` names extents of it.
    package let sourceAddresses: FlatArray<IPAddress>
    /// In the order in which they are tried.
    package let policies: FlatArray<CompiledPolicy>
    let policyNames: FlatArray<CompiledPattern>
    /// Names of endpoints that have one.
    package let hostNames: FlatArray<ServerName>
    package internal(set) var destinationGuard: DestinationGuard

    /// Steps of the listeners' and routes' address tables.
    let steps: FlatArray<AddressStep>
    let names: NameTable
    /// Route indices, in the order in which they are tried.
    let candidates: FlatArray<Int32>
    let protocols: FlatArray<CompiledProtocol>
    /// Indices into `protocols`.
    let routeProtocols: FlatArray<Int32>
    let destinations: FlatArray<CompiledDestination>
    let destinationPorts: FlatArray<CompiledPorts>

    /// Whether the listener takes clients from `address`: its first rule that contains the address decides.
    package func allowsClient(listener slot: Int, _ address: IPAddress) -> Bool {
        listeners[slot].clients.value(of: address.unmapped, in: steps) != 0
    }

    /// Whether a PROXY header from the socket peer `address` is believed. False where the listener takes none.
    package func trustsProxyPeer(listener slot: Int, _ address: IPAddress) -> Bool {
        let listener = listeners[slot]
        return listener.acceptsProxy && listener.proxyPeers.value(of: address.unmapped, in: steps) != 0
    }

    /// The route that takes the connection; nil where none does.
    ///
    /// An exact name goes before the longest wildcard suffix, before any name, before no constraint on names. Among
    /// routes with the same pattern the first written whose other constraints hold takes it; where none does, the less
    /// specific patterns are asked. Without a name (`.none`) only routes without server names are. `destination`: where the
    /// client wanted to go; nil: nobody knows, and no route that asks for one holds.
    package func route(
        listener slot: Int, name: ServerName, client: IPAddress, alpn: ALPNOffer, destination: SocketAddress? = nil
    ) -> Int? {
        var nobody = FirstThatHolds()
        return route(
            listener: slot, name: name, client: client, alpn: alpn, destination: destination, observer: &nobody)
    }

    /// The same look-up, as `observer` hears of it and ends it; nil where it does not end it.
    package func route<Observer: LookupObserver>(
        listener slot: Int, name: ServerName, client: IPAddress, alpn: ALPNOffer, destination: SocketAddress?,
        observer: inout Observer
    ) -> Int? {
        let client = client.unmapped
        if !name.isNone,
            let route = name.withBytes({ route(listener: slot, named: $0, client, alpn, destination, &observer) })
        {
            return route
        }
        return firstThatHolds(listeners[slot].noConstraint, .noConstraint, client, alpn, destination, &observer)
    }

    private func route<Observer: LookupObserver>(
        listener slot: Int, named name: Span<UInt8>, _ client: IPAddress, _ alpn: ALPNOffer,
        _ destination: SocketAddress?, _ observer: inout Observer
    ) -> Int? {
        var found = NameTable.Found()
        names.find(
            name, listener: slot, suffixLabelCountMax: Int(listeners[slot].suffixLabelCountMax), &found)
        if found.exact >= 0,
            let route = firstThatHolds(names.exact(found.exact), .exact, client, alpn, destination, &observer)
        {
            return route
        }
        var index = found.suffixCount
        while index > 0 {
            index -= 1
            let entry = found.suffixes[index]
            let pattern = MatchedPattern.wildcard(suffixByteCount: names.byteCount(entry))
            let extent = names.wildcard(entry)
            if let route = firstThatHolds(extent, pattern, client, alpn, destination, &observer) { return route }
        }
        return firstThatHolds(listeners[slot].anyName, .anyName, client, alpn, destination, &observer)
    }

    private func firstThatHolds<Observer: LookupObserver>(
        _ extent: Extent, _ pattern: MatchedPattern, _ client: IPAddress, _ alpn: ALPNOffer,
        _ destination: SocketAddress?, _ observer: inout Observer
    ) -> Int? {
        for index in extent.indices {
            let route = Int(candidates[index])
            let failing = failing(route, client, alpn, destination)
            if observer.asked(route, by: pattern, failing: failing) { return route }
        }
        return nil
    }

    /// The first constraint of a route that does not hold.
    private func failing(
        _ index: Int, _ client: IPAddress, _ alpn: ALPNOffer, _ destination: SocketAddress?
    ) -> RouteConstraint? {
        let (clients, wanted) = (routes[index].clients, routes[index].alpn)
        if clients.count > 0, clients.value(of: client, in: steps) == 0 { return .clients }
        let asked = routes[index].destination
        if asked >= 0, let failing = failing(destinations[Int(asked)], destination) { return failing }
        if wanted.isEmpty { return nil }
        for one in wanted.indices where protocols[Int(routeProtocols[one])].isOffered(by: alpn) { return nil }
        return .alpn
    }

    private func failing(_ asked: CompiledDestination, _ destination: SocketAddress?) -> RouteConstraint? {
        guard let destination else { return .destinations }
        let addresses = asked.addresses
        if addresses.count > 0, addresses.value(of: destination.ip.unmapped, in: steps) == 0 { return .destinations }
        if asked.ports.isEmpty { return nil }
        for index in asked.ports.indices where destinationPorts[index].contains(destination.port) { return nil }
        return .destinationPorts
    }

    /// The cluster of a split that `draw`, any number, falls to: the same one for the same number.
    package func cluster(ofSplit index: Int32, draw: UInt64) -> Int32 {
        let split = splits[Int(index)]
        var rest = draw.multipliedFullWidth(by: split.weight).high
        for share in split.shares.indices {
            let weight = UInt64(shares[share].weight)
            if rest < weight { return shares[share].cluster }
            rest -= weight
        }
        preconditionFailure("what is drawn is below the sum of the weights")
    }

    /// Everything but what `OwnAddresses` holds, which is replaced more often.
    func deallocate() {
        listeners.deallocate()
        routes.deallocate()
        routeLimits.deallocate()
        splits.deallocate()
        shares.deallocate()
        clusters.deallocate()
        endpoints.deallocate()
        upstreams.deallocate()
        hashSlots.deallocate()
        sourceAddresses.deallocate()
        policies.deallocate()
        policyNames.deallocate()
        hostNames.deallocate()
        steps.deallocate()
        names.deallocate()
        candidates.deallocate()
        protocols.deallocate()
        routeProtocols.deallocate()
        destinations.deallocate()
        destinationPorts.deallocate()
        destinationGuard.allowedPorts.deallocate()
        destinationGuard.deniedPorts.deallocate()
    }
}
