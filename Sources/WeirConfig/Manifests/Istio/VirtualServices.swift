import WeirModel
import WeirNet

extension ManifestLowering {
    func readVirtualServices(
        _ gateways: [String: IstioGateway?], _ workloads: [IstioWorkload], _ rules: IstioRules,
        _ routes: inout IstioRoutes
    ) {
        let sources = VirtualService.Sources(clientAddresses(workloads))
        for (manifest, spec) in istio("VirtualService") {
            guard let service = VirtualService(manifest, spec, self) else { continue }
            for kind in [VirtualService.Rule.Kind.tls, .tcp] {
                for (index, fields) in spec.list(kind.rawValue).enumerated() {
                    let rule = VirtualService.Rule(kind: kind, index: index, fields: fields)
                    add(rule, of: service, gateways, sources, rules, &routes)
                }
            }
            spec.unsupported(
                "http", "HTTP is not routed: what is encrypted is not seen; `tls` and `tcp` are read")
        }
    }

    /// Who is known to connect from where, by labels and namespace.
    private func clientAddresses(_ workloads: [IstioWorkload]) -> [VirtualService.Source] {
        pods.filter { !$0.hasNodesAddress }.map {
            .init(namespace: $0.namespace, labels: $0.labels, addresses: $0.addresses)
        }
            + workloads.map { workload in
                guard case .address(let address)? = workload.host else {
                    return .init(namespace: workload.namespace, labels: workload.labels, addresses: [])
                }
                return .init(namespace: workload.namespace, labels: workload.labels, addresses: [address])
            }
    }

    private func add(
        _ rule: VirtualService.Rule, of service: VirtualService, _ gateways: [String: IstioGateway?],
        _ sources: VirtualService.Sources, _ rules: IstioRules, _ routes: inout IstioRoutes
    ) {
        let matches = rule.fields.list("match")
        let shares = rule.fields.list("route").compactMap {
            VirtualService.Share($0, behindHello: rule.kind == .tls)
        }
        if shares.isEmpty { rule.fields.error(rule.fields.position, "route", "a rule has at least one destination") }
        if matches.isEmpty, rule.kind == .tls {
            return rule.fields.error(
                rule.fields.position, "match", "a rule of `tls` has at least one match with sniHosts")
        }
        if shares.isEmpty { return }
        // A rule of `tcp` without a match takes everything.
        let conditions: [ManifestFields?] = matches.isEmpty ? [nil] : matches.map { $0 }
        for (number, match) in conditions.enumerated() {
            guard let condition = VirtualService.Condition(match, rule.kind, service, sources) else { continue }
            let places = places(of: condition, rule, service, gateways)
            let name = "\(service.manifest.title.replacing(" ", with: "/"))/\(rule.kind)/\(rule.index)"
            for (place, names) in places.sorted(by: { $0.key < $1.key }) {
                let target = target(of: shares, place.port, service, rules, refusedBy: name)
                var route = Route(name: number == 0 ? name : "\(name)/\(number)", action: target.action)
                route.limits = target.limits
                route.match.serverNames = names
                route.match.clients = condition.clients
                route.match.destinations = condition.destinations
                let position = match?.position ?? rule.fields.position
                routes.add(route, at: place, list: "\(service.manifest.path) \(rule.kind)", position: position)
            }
        }
    }

    // MARK: Where a rule listens

    /// The listeners, and for which server names at each.
    private func places(
        of condition: VirtualService.Condition, _ rule: VirtualService.Rule, _ service: VirtualService,
        _ gateways: [String: IstioGateway?]
    ) -> [IstioRoutes.Place: [ServerNamePattern]] {
        var places: [IstioRoutes.Place: [ServerNamePattern]] = [:]
        var isForOthersOnly = true
        var leftOut: Set<UInt16> = []
        for name in condition.gateways ?? service.gateways {
            if name.value == Istio.mesh {
                isForOthersOnly = false
                for port in condition.port.map({ [$0] }) ?? meshPorts(service, rule) {
                    // A Gateway says who may use its port and for which names, which nobody asks of the mesh.
                    guard !listeners.isClaimed(port) else {
                        leftOut.insert(port)
                        continue
                    }
                    places[.init(port: port), default: []] += condition.names
                }
                continue
            }
            let path = name.value.contains("/") ? name.value : "\(service.manifest.namespace)/\(name.value)"
            switch gateways[path] {
            case nil:
                isForOthersOnly = false
                service.spec.unsupported(at: name.position, "no document describes Gateway \(path)")
            case .some(nil):
                break
            case .some(let gateway?):
                isForOthersOnly = false
                add(gateway, condition, rule, service, &places)
            }
        }
        for port in leftOut.sorted() {
            rule.fields.unsupported(
                at: condition.position,
                "routes of the mesh are never at a gateway, and one has port \(port): this is left out there; name the "
                    + "Gateway in `gateways`, or give the mesh a process of its own"
            )
        }
        if places.isEmpty, leftOut.isEmpty, !isForOthersOnly {
            rule.fields.unsupported(at: condition.position, "there is no port at which it would be listened for")
        }
        return places.mapValues { names in
            var seen: Set<ServerNamePattern> = []
            return names.filter { seen.insert($0).inserted }
        }
    }

    private func add(
        _ gateway: IstioGateway, _ condition: VirtualService.Condition, _ rule: VirtualService.Rule,
        _ service: VirtualService, _ places: inout [IstioRoutes.Place: [ServerNamePattern]]
    ) {
        let traffic: IstioGateway.Server.Traffic = rule.kind == .tls ? .passthrough : .opaque
        for server in gateway.servers where server.traffic == traffic && (condition.port ?? server.port) == server.port
        {
            let wanted = rule.kind == .tls ? condition.names : service.hosts
            let allowed = wanted.flatMap { server.allowed($0, namespace: service.manifest.namespace) }
            if allowed.isEmpty { continue }
            let place = IstioRoutes.Place(port: server.port, address: server.address)
            places[place, default: []] += rule.kind == .tls ? allowed : []
        }
    }

    /// The ports of what the documents know of the hosts, of the kind that the rule is about.
    private func meshPorts(_ service: VirtualService, _ rule: VirtualService.Rule) -> [UInt16] {
        let ports = service.hostNames.flatMap { host -> [Service.Port] in
            if let known = catalogue.service(host, namespace: service.manifest.namespace) { return known.ports }
            guard let pattern = try? ServerNamePattern(host) else { return [] }
            return pattern.wider.lazy.compactMap { self.catalogue.services[$0.text] }.first?.ports ?? []
        }
        let tls: Set<String> = ["TLS", "HTTPS"]
        let others: Set<String> = ["TCP", "MONGO", "MYSQL", "REDIS"]
        let wanted = rule.kind == .tls ? tls : others
        return Set(ports.filter { wanted.contains($0.transport) }.map(\.number)).sorted()
    }

    // MARK: Where a rule leads

    private func target(
        of shares: [VirtualService.Share], _ listenerPort: UInt16, _ service: VirtualService, _ rules: IstioRules,
        refusedBy name: String
    ) -> VirtualService.Target {
        let refused = VirtualService.Target(action: .deny(.reset))
        // Nothing falls through to a route that asks for less.
        if shares.count == 1 { return target(of: shares[0], listenerPort, service, rules) ?? refused }
        let clusters = shares.filter { $0.weight > 0 }.map { share in
            switch target(of: share, listenerPort, service, rules)?.action {
            case .cluster(let name):
                return ClusterShare(cluster: name, weight: share.weight)
            case .forward, .originalDestination:
                share.fields.unsupported(
                    at: share.fields.position,
                    "only destinations with endpoints can share by weight: what would go there is refused")
            default:
                break
            }
            return ClusterShare(cluster: self.clusters.nobody(name, at: share.host.position), weight: share.weight)
        }
        if clusters.isEmpty {
            shares[0].fields.error(shares[0].fields.position, "weight", "no destination has a weight above 0")
        }
        return clusters.isEmpty ? refused : VirtualService.Target(action: .split(clusters))
    }

    /// nil, and reported, where nobody can be reached.
    private func target(
        of share: VirtualService.Share, _ listenerPort: UInt16, _ service: VirtualService, _ rules: IstioRules
    ) -> VirtualService.Target? {
        let namespace = service.manifest.namespace
        let qualified = qualified(share.host, share.fields, namespace: namespace)
        let known = catalogue.services[qualified]
        let port = share.port ?? (known?.ports.count == 1 ? known!.ports[0].number : listenerPort)
        if known == nil, share.isBlackHole {
            share.fields.say(
                share.host.position, "\(quoted(share.host.value)) is nobody's service: connections are refused here")
            return VirtualService.Target(action: .deny(.reset))
        }
        if known == nil, !share.subset.isEmpty {
            share.fields.unsupported(
                "subset", "no document describes \(quoted(share.host.value)), so nobody is in a subset of it")
            return nil
        }
        let policy = rules.choice(host: qualified, known, client: namespace)?.policy(port: port, subset: share.subset)
        if let idle = policy?.connectionPool?.idle { listeners.idle(listenerPort, idle) }
        guard let known, known.resolution == .clientsName || known.resolution == .originalDestination else {
            return clusters.action(
                host: share.host.value, namespace: namespace, port: port, subset: share.subset,
                at: share.host.position, report: { share.fields.unsupported(at: share.host.position, $0) }
            ).map { VirtualService.Target(action: $0) }
        }
        return forward(share, known, port, policy)
    }

    /// To whatever the client asked for: the name in its hello, or the address that it was redirected from.
    ///
    /// No cluster carries the policy there: its limit holds for each route, and what of it is about endpoints is reported.
    private func forward(
        _ share: VirtualService.Share, _ service: Service, _ port: UInt16, _ policy: TrafficPolicy?
    ) -> VirtualService.Target? {
        guard let servicePort = service.port(port) else {
            share.fields.unsupported(at: share.host.position, "service \(quoted(service.host)) has no port \(port)")
            return nil
        }
        guard share.subset.isEmpty else {
            share.fields.unsupported(
                at: share.host.position,
                "\(quoted(service.host)) has no endpoints of its own, so nobody is in subset \(quoted(share.subset)) of it"
            )
            return nil
        }
        var settings = Cluster(name: "", endpoints: [])
        policy?.apply(to: &settings, nil)
        policy?.reportWhatNeedsEndpoints(service.host)
        var limits = RouteLimits()
        limits.connections = settings.limits.connections
        let target = servicePort.target ?? port
        if service.resolution == .clientsName || share.isBehindHello {
            if service.resolution == .originalDestination {
                share.fields.say(
                    share.host.position,
                    "\(quoted(service.host)) has resolution NONE: the name in the hello is asked for anew, "
                        + "not the address that the client knows"
                )
            }
            let forward = DynamicForward(port: .fixed(target), upstream: settings.upstream)
            return .init(action: .forward(forward), limits: limits)
        }
        share.fields.say(
            share.host.position,
            "\(quoted(service.host)) has resolution NONE: connections go where they were redirected from; "
                + "others are refused"
        )
        return .init(action: .originalDestination(settings.upstream), limits: limits)
    }
}
