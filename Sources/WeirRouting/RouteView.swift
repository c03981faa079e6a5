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
    package let clusters: FlatArray<CompiledCluster>
    package let endpoints: FlatArray<CompiledEndpoint>
    package let upstreams: FlatArray<CompiledUpstream>
    /// Indices of endpoints: the tables that `CompiledEndpoint.groupSlots` names.
    package let hashSlots: FlatArray<Int32>
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
    /// specific patterns are asked. Without a name (`.none`) only routes without server names are.
    package func route(
        listener slot: Int, name: ServerName, client: IPAddress, alpn: ALPNOffer
    ) -> Int? {
        let client = client.unmapped
        if !name.isNone, let route = name.withBytes({ route(listener: slot, named: $0, client, alpn) }) { return route }
        return firstThatHolds(listeners[slot].noConstraint, client, alpn)
    }

    private func route(
        listener slot: Int, named name: Span<UInt8>, _ client: IPAddress, _ alpn: ALPNOffer
    ) -> Int? {
        var found = NameTable.Found()
        names.find(
            name, listener: slot, suffixLabelCountMax: Int(listeners[slot].suffixLabelCountMax), &found)
        if found.exact >= 0, let route = firstThatHolds(names.exact(found.exact), client, alpn) { return route }
        var index = found.suffixCount
        while index > 0 {
            index -= 1
            if let route = firstThatHolds(names.wildcard(found.suffixes[index]), client, alpn) { return route }
        }
        return firstThatHolds(listeners[slot].anyName, client, alpn)
    }

    private func firstThatHolds(_ extent: Extent, _ client: IPAddress, _ alpn: ALPNOffer) -> Int? {
        for index in extent.indices {
            let route = Int(candidates[index])
            if holds(route, client, alpn) { return route }
        }
        return nil
    }

    private func holds(_ index: Int, _ client: IPAddress, _ alpn: ALPNOffer) -> Bool {
        let (clients, wanted) = (routes[index].clients, routes[index].alpn)
        if clients.count > 0, clients.value(of: client, in: steps) == 0 { return false }
        if wanted.isEmpty { return true }
        for one in wanted.indices where protocols[Int(routeProtocols[one])].isOffered(by: alpn) { return true }
        return false
    }

    /// Everything but what `OwnAddresses` holds, which is replaced more often.
    func deallocate() {
        listeners.deallocate()
        routes.deallocate()
        clusters.deallocate()
        endpoints.deallocate()
        upstreams.deallocate()
        hashSlots.deallocate()
        hostNames.deallocate()
        steps.deallocate()
        names.deallocate()
        candidates.deallocate()
        protocols.deallocate()
        routeProtocols.deallocate()
        destinationGuard.allowedPorts.deallocate()
        destinationGuard.deniedPorts.deallocate()
    }
}
