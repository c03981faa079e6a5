import WeirModel
import WeirNet

/// Of EnvoyFilters two patches are read: one that has a listener take PROXY headers, and one that adds to it a way to a
/// cluster for the destinations that such headers name. What else could be patched is Envoy's own.
extension ManifestLowering {
    private static let proxyProtocolFilters: Set<String> = [
        "envoy.filters.listener.proxy_protocol", "envoy.listener.proxy_protocol",
    ]
    private static let tcpProxyFilters: Set<String> = ["envoy.filters.network.tcp_proxy", "envoy.tcp_proxy"]

    /// `gateways`: the namespaces that have one.
    func readEnvoyFilters(_ gateways: Set<String>, _ rules: IstioRules, _ routes: inout IstioRoutes) {
        for (manifest, spec) in istio("EnvoyFilter") {
            let selector = spec.fields("workloadSelector")?.labels("labels") ?? [:]
            guard isForThisWorkload(manifest, selector) else { continue }
            let namespace = manifest.namespace
            guard !selector.isEmpty || namespace == Istio.rootNamespace || gateways.contains(namespace) else {
                manifest.unsupported(
                    "is for the proxies of namespace \(namespace), which has no Gateway: without a workloadSelector only "
                        + "those of \(Istio.rootNamespace) and of namespaces with a Gateway are applied")
                continue
            }
            // An order among filters; the two that are read are in each other's way in none.
            spec.passOver("priority")
            for (index, patch) in spec.list("configPatches").enumerated() {
                read(patch, "\(manifest.kind)/\(manifest.path)/\(index)", manifest, rules, &routes)
            }
        }
    }

    private func read(
        _ fields: ManifestFields, _ name: String, _ manifest: Manifest, _ rules: IstioRules,
        _ routes: inout IstioRoutes
    ) {
        let target = fields.text("applyTo")?.value ?? ""
        let patch = fields.fields("patch")
        let operation = patch?.text("operation")?.value ?? ""
        guard let port = listenerPort(fields, routes) else { return fields.passOver() }
        guard let value = patch?.fields("value") else {
            fields.error(fields.position, "patch", "a patch has a value")
            return fields.passOver()
        }
        switch (target, operation) {
        case ("LISTENER", "MERGE"):
            acceptProxy(value, port)
        case ("FILTER_CHAIN", "ADD"):
            guard let route = route(value, name, manifest, rules, listener: port) else { return }
            let places = Set(listeners.addresses(ofPort: port).map { IstioRoutes.Place(port: port, address: $0) })
                .union(routes.places(ofPort: port))
            for place in places.isEmpty ? [IstioRoutes.Place(port: port)] : places {
                routes.add(route, at: place, list: name, position: fields.position)
            }
        default:
            refuse(fields, "applyTo", "\(operation) of \(target)")
        }
    }

    private func refuse(_ fields: ManifestFields, _ key: String, _ what: String) {
        let message =
            "\(what) is not read: only MERGE of a LISTENER with the proxy_protocol filter, "
            + "and ADD of a FILTER_CHAIN with tcp_proxy"
        if fields.has(key) {
            fields.unsupported(key, message)
        } else {
            fields.unsupported(at: fields.position, message)
        }
        fields.passOver()
    }

    /// The port of the listener that the patch is for; nil, and reported, where there is none.
    private func listenerPort(_ fields: ManifestFields, _ routes: IstioRoutes) -> UInt16? {
        guard let match = fields.fields("match"), let listener = match.fields("listener") else {
            refuse(fields, "match", "a patch without match.listener")
            return nil
        }
        if let context = match.text("context"), !["ANY", "GATEWAY", "SIDECAR_OUTBOUND"].contains(context.value) {
            match.unsupported("context", "\(context.value) has no listeners here")
            return nil
        }
        let name = listener.text("name")
        // `0.0.0.0_8443`
        let named = name.flatMap { $0.value.split(separator: "_").last }.flatMap { decimal($0) }
            .flatMap { UInt16(exactly: $0) }
        let number = listener.port("portNumber")
        guard let port = number ?? named else {
            refuse(fields, "match", "a listener without portNumber")
            return nil
        }
        if let name, named != port {
            listener.unsupported("name", "no listener is called \(quoted(name.value)) at port \(port)")
            return nil
        }
        guard
            listeners.has(port: port) || !routes.places(ofPort: port).isEmpty || settings.listeners[port] != nil
        else {
            listener.unsupported(
                at: listener.position, "no document asks for a listener at port \(port): there is nothing to patch")
            return nil
        }
        return port
    }

    // MARK: MERGE of a LISTENER

    private func acceptProxy(_ value: ManifestFields, _ port: UInt16) {
        let key = value.either("listener_filters", "listenerFilters")
        let filters = value.list(key)
        guard filters.count == 1, Self.proxyProtocolFilters.contains(filters[0].text("name")?.value ?? "") else {
            return refuse(value, key, "a listener filter other than proxy_protocol")
        }
        if let settings = filters[0].fields(filters[0].either("typed_config", "typedConfig")) {
            settings.passOver("@type")
            for option in settings.keys where option != "@type" {
                settings.unsupported(option, "of the proxy_protocol filter is not read")
            }
        }
        listeners.acceptProxy(
            AcceptProxy(from: ClientPolicy.privateNetworks.rules.map(\.block)), port: port, at: filters[0].position)
        filters[0].say(
            filters[0].position,
            "PROXY headers at port \(port) are believed from private networks, in Envoy from everybody; "
                + "`accept_proxy` of a native listener with `manifest_port: \(port)` says otherwise"
        )
    }

    // MARK: ADD of a FILTER_CHAIN

    private func route(
        _ value: ManifestFields, _ name: String, _ manifest: Manifest, _ rules: IstioRules, listener: UInt16
    ) -> Route? {
        value.passOver("name")
        let filters = value.list("filters")
        guard filters.count == 1, Self.tcpProxyFilters.contains(filters[0].text("name")?.value ?? ""),
            let settings = filters[0].fields(filters[0].either("typed_config", "typedConfig")),
            let cluster = settings.text("cluster")
        else {
            refuse(value, "filters", "a chain that is not one tcp_proxy with a cluster")
            return nil
        }
        settings.passOver("@type", "stat_prefix", "statPrefix")
        guard let match = match(value) else { return nil }
        let parts = cluster.value.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 4, parts[0] == "outbound", let port = decimal(parts[1]).flatMap({ UInt16(exactly: $0) }),
            port > 0
        else {
            settings.unsupported("cluster", "\(quoted(cluster.value)) is not outbound|port|subset|host")
            return Route(name: name, match: match, action: .deny(.reset))
        }
        let host = ManifestText(value: parts[3], position: cluster.position)
        let qualified = qualified(host, settings, namespace: manifest.namespace)
        let choice = rules.choice(host: qualified, catalogue.services[qualified], client: manifest.namespace)
        if let idle = choice?.policy(port: port, subset: parts[2]).connectionPool?.idle {
            listeners.idle(listener, idle)
        }
        let action = clusters.action(
            host: host.value, namespace: manifest.namespace, port: port, subset: parts[2], at: host.position,
            report: { settings.unsupported(at: host.position, $0) })
        return Route(name: name, match: match, action: action ?? .deny(.reset))
    }

    /// nil, and reported, where it cannot be read: without it the chain would take everything.
    private func match(_ value: ManifestFields) -> RouteMatch? {
        var match = RouteMatch()
        let key = value.either("filter_chain_match", "filterChainMatch")
        guard value.has(key) else { return match }
        guard let fields = value.fields(key) else { return nil }
        let port = fields.either("destination_port", "destinationPort")
        if fields.has(port) {
            guard let number = fields.port(port) else { return nil }
            match.destinationPorts = [number...number]
        }
        for range in fields.list(fields.either("prefix_ranges", "prefixRanges")) {
            guard let block = block(range) else { return nil }
            match.destinations.append(block)
        }
        let known: Set<String> = ["destination_port", "destinationPort", "prefix_ranges", "prefixRanges"]
        let others = fields.keys.filter { !known.contains($0) && fields.has($0) }
        for other in others { fields.unsupported(other, "is not read: the chain is left out") }
        return others.isEmpty ? match : nil
    }

    private func block(_ range: ManifestFields) -> CIDR? {
        let key = range.either("address_prefix", "addressPrefix")
        guard let text = range.text(key), let address = IPAddress(text.value) else {
            range.error(range.position, key, "expected an address")
            return nil
        }
        let length = range.either("prefix_len", "prefixLen")
        if range.has(length) {
            return range.integer(length, 0...address.bitCount).map { CIDR(address, prefixLength: $0) }
        }
        range.say(range.position, "without prefix_len it means every address, as in Envoy")
        return CIDR(address, prefixLength: 0)
    }
}

extension ManifestFields {
    /// The name that a field is written under: Protocol Buffers have two for each.
    fileprivate func either(_ name: String, _ other: String) -> String { has(other) ? other : name }
}
