import WeirModel

/// The `routes` of a listener, and the `policies` that replace what they say.
extension NativeWriter {
    /// `index` counts the listener's routes from zero.
    mutating func route(_ route: Route, _ index: Int, in listener: String) -> YAMLOutput {
        let part = Provenance.part(listener: listener, route: route.name)
        let place = provenance.place(ofRoute: route.name, listener: listener)
        var section = YAMLFields()
        if route.name != "route-\(index + 1)" || route.onRemoved != .keep { section.add("name", .text(route.name)) }
        section.add("match", match(route.match))
        switch route.action {
        case .cluster(let name):
            section.add("to", .mapping([.init(key: "cluster", value: .text(name))]))
        case .split(let shares):
            let own = 1
            let items = shares.map { share in
                var section = YAMLFields()
                section.add("name", .text(share.cluster))
                section.add("weight", number(share.weight, unless: own))
                return YAMLOutput.mapping(section.fields)
            }
            section.add("to", .mapping([.init(key: "clusters", value: .list(items))]))
        case .forward(let forward):
            var target = YAMLFields()
            switch forward.port {
            case .fixed(let port): target.add("port", .word("\(port)"))
            case .listener: target.add("port", .word("listener"))
            }
            addUpstream(forward.upstream, part, to: &target)
            section.add("to", .mapping([.init(key: "server_name", value: .mapping(target.fields))]))
        case .proxyDestination(let upstream):
            var target = YAMLFields()
            addUpstream(upstream, part, to: &target)
            section.add("to", .mapping([.init(key: "proxy_destination", value: .mapping(target.fields))]))
        case .originalDestination(let upstream):
            var target = YAMLFields()
            addUpstream(upstream, part, to: &target)
            section.add("to", .mapping([.init(key: "original_destination", value: .mapping(target.fields))]))
        case .deny(let denial):
            section.add("deny", .word(denial.nativeText))
        }
        section.add("limits", limits(route.limits, part))
        section.add("on_removed", liveSessions(route.onRemoved, part))
        return YAMLOutput.mapping(section.fields).block.commented(place.map { ["from \($0)"] } ?? [])
    }

    mutating func liveSessions(_ choice: LiveSessions, _ part: String) -> YAMLOutput? {
        switch choice {
        case .keep: return nil
        case .close: return .word("close")
        case .drain(let time):
            var section = YAMLFields()
            section.add("drain", duration(time, part))
            return section.mapping
        }
    }

    private mutating func limits(_ limits: RouteLimits, _ part: String) -> YAMLOutput? {
        // The same keys for a route and for a listener.
        var same = ListenerLimits()
        same.connections = limits.connections
        same.connectionsPerClient = limits.connectionsPerClient
        same.rate = limits.rate
        same.ratePerClient = limits.ratePerClient
        return self.limits(same, part)
    }

    private func match(_ match: RouteMatch) -> YAMLOutput? {
        var section = YAMLFields()
        if !match.serverNames.isEmpty { section.add("server_names", serverNames(match.serverNames)) }
        if !match.clients.isEmpty { section.add("clients", blocks(match.clients)) }
        if !match.alpn.isEmpty { section.add("alpn", .list(match.alpn.map { .text($0) })) }
        if !match.destinations.isEmpty { section.add("destinations", blocks(match.destinations)) }
        if !match.exceptDestinations.isEmpty { section.add("except_destinations", blocks(match.exceptDestinations)) }
        if !match.destinationPorts.isEmpty {
            section.add("destination_ports", .list(match.destinationPorts.map { .word($0.nativeText) }))
        }
        return section.mapping
    }

    /// `connect`, `send_proxy`, `source` and `source_addresses`.
    mutating func addUpstream(_ options: UpstreamOptions, _ part: String, to section: inout YAMLFields) {
        let own = UpstreamOptions()
        var connect = YAMLFields()
        connect.add("timeout", duration(options.connectTimeout, part, unless: own.connectTimeout))
        connect.add("attempts", number(options.attempts, unless: own.attempts))
        // What the reader takes where nothing is said.
        let total = max(own.connectTotal, options.connectTimeout)
        connect.add("total", duration(options.connectTotal, part, unless: total))
        connect.add("retry_early_close", boolean(options.retriesEarlyClose, unless: own.retriesEarlyClose))
        connect.add("keepalive", options.keepalive.map { keepalive($0, part) })
        section.add("connect", connect.mapping)
        section.add("send_proxy", options.sendProxy.map { sendProxy($0) })
        section.add("source", options.source.map { .text($0) })
        if !options.sourceAddresses.isEmpty { section.add("source_addresses", addresses(options.sourceAddresses)) }
    }

    private mutating func keepalive(_ keepalive: TCPKeepalive, _ part: String) -> YAMLOutput {
        let own = TCPKeepalive()
        var section = YAMLFields()
        section.add("idle", duration(keepalive.idle, part, unless: own.idle))
        section.add("interval", duration(keepalive.interval, part, unless: own.interval))
        section.add("probes", number(keepalive.probes, unless: own.probes))
        return .mapping(section.fields)
    }

    private func sendProxy(_ header: SendProxy) -> YAMLOutput {
        let version = YAMLOutput.word(header.version == .v1 ? "v1" : "v2")
        if header == SendProxy(header.version) { return version }
        var section = YAMLFields()
        section.add("version", version)
        section.add("authority", boolean(header.authority, unless: false))
        section.add("crc32c", boolean(header.crc32c, unless: false))
        section.add("unique_id", boolean(header.uniqueID, unless: false))
        section.add("alpn", boolean(header.alpn, unless: false))
        if !header.forwardedTLVs.isEmpty {
            let forwarded = SendProxy.ForwardedTLV.allCases.filter { header.forwardedTLVs.contains($0) }
            section.add("forward_tlvs", .list(forwarded.map { .word($0.nativeText) }))
        }
        if !header.custom.isEmpty {
            // `0xE0` is quoted: another reader would take it for a number.
            let custom = header.custom.map { tlv in
                YAMLOutput.Field(key: "0x" + String(tlv.type, radix: 16, uppercase: true), value: .text(tlv.text))
            }
            section.add("custom", .mapping(custom))
        }
        section.add("pad_to", number(header.padTo, unless: 0))
        return .mapping(section.fields)
    }

    // MARK: Policies

    mutating func policy(_ policy: Policy) -> YAMLOutput {
        var section = YAMLFields()
        section.add("name", .text(policy.name))
        var match = YAMLFields()
        if !policy.match.clients.isEmpty { match.add("clients", blocks(policy.match.clients)) }
        if !policy.match.clientLabels.isEmpty { match.add("client_labels", labels(policy.match.clientLabels)) }
        if !policy.match.serverNames.isEmpty { match.add("server_names", serverNames(policy.match.serverNames)) }
        if !policy.match.destinations.isEmpty { match.add("destinations", blocks(policy.match.destinations)) }
        if !policy.match.exceptDestinations.isEmpty {
            match.add("except_destinations", blocks(policy.match.exceptDestinations))
        }
        section.add("match", match.mapping)
        switch policy.action {
        case .source(let name): section.add("source", .text(name))
        case .gateways(let cluster): section.add("gateways", .text(cluster))
        case .route: section.add("to", .word("route"))
        }
        return YAMLOutput.mapping(section.fields).block.commented(from(Provenance.part(policy: policy.name)))
    }

    mutating func clientLabels(_ entry: ClientLabels) -> YAMLOutput {
        if entry.labels.isEmpty { cannotSay("client_labels", "that addresses have no label") }
        return .mapping([
            .init(key: "labels", value: labels(entry.labels)), .init(key: "addresses", value: blocks(entry.addresses)),
        ])
    }

    private func labels(_ labels: [String: String]) -> YAMLOutput {
        .mapping(labels.sorted { $0.key < $1.key }.map { .init(key: $0.key, value: .text($0.value)) })
    }
}

extension Denial {
    fileprivate var nativeText: String {
        switch self {
        case .unrecognizedName: "unrecognized_name"
        case .accessDenied: "access_denied"
        case .reset: "reset"
        case .close: "close"
        }
    }
}

extension SendProxy.ForwardedTLV {
    fileprivate var nativeText: String {
        switch self {
        case .authority: "authority"
        case .alpn: "alpn"
        case .uniqueID: "unique_id"
        }
    }
}
