import WeirModel
import WeirNet

/// Ingresses: hosts that are passed through with their TLS (port 443), or told apart by their `Host` (port 80).
extension ManifestLowering {
    private static let httpPort: UInt16 = 80
    private static let tlsPort: UInt16 = 443
    private static let controller = "k8s.io/ingress-nginx"

    /// A service as any version of the API writes it.
    private struct Backend {
        var service: String
        var port: String
        var position: SourcePosition
    }

    /// Where a host, or every other one, leads.
    private struct HostRoute {
        /// nil: any host, and none.
        var host: ServerNamePattern?
        /// The last part of the route's name.
        var label: String
        /// nil: it has paths, and none of them can be led on.
        var backend: Backend?
        var position: SourcePosition
    }

    /// What all Ingresses have asked for so far.
    private struct Taken {
        /// By port and host: whose it is.
        var hosts: [String: String] = [:]
        /// Led on once it is known which hosts are closed.
        var routes: [(manifest: Manifest, annotations: IngressAnnotations, route: HostRoute, port: UInt16)] = []
        /// Hosts with TLS that would have to be ended here.
        var terminated: [(manifest: Manifest, pattern: ServerNamePattern, position: SourcePosition)] = []
        /// Those come after every other route.
        var defaults: [(manifest: Manifest, annotations: IngressAnnotations, route: HostRoute)] = []
    }

    func lowerIngresses() {
        let others = readIngressClasses()
        var taken = Taken()
        let all = manifests.all("Ingress", "networking.k8s.io") + manifests.all("Ingress", "extensions")
        for manifest in Manifest.oldestFirst(all) { lowerIngress(manifest, others, &taken) }
        let closed = closeGuardedHosts(&taken)
        for (manifest, annotations, route, port) in taken.routes where route.backend != nil {
            if closed.contains(key(route, port)) {
                manifest.fields.unsupported(at: route.position, "host \(quoted(route.label)) is refused to everybody")
            } else if isFree(route, port, manifest, &taken) {
                add(route, port, annotations, manifest)
            }
        }
        for (manifest, annotations, route) in taken.defaults {
            if isFree(route, Self.httpPort, manifest, &taken) { add(route, Self.httpPort, annotations, manifest) }
        }
        refuseTheRest(taken)
    }

    /// Classes that other controllers serve, and which.
    private func readIngressClasses() -> [String: String] {
        var others: [String: String] = [:]
        for manifest in manifests.all("IngressClass", "networking.k8s.io") {
            let spec = manifest.fields.fields("spec")
            if let controller = spec?.text("controller")?.value, controller != Self.controller {
                others[manifest.name] = controller
            }
            spec?.unsupported("parameters", "parameters of a class are not read")
        }
        return others
    }

    private func lowerIngress(_ manifest: Manifest, _ others: [String: String], _ taken: inout Taken) {
        guard let spec = manifest.spec() else { return }
        let name = spec.text("ingressClassName") ?? manifest.annotations["kubernetes.io/ingress.class"]
        if let name, let controller = others[name.value] {
            spec.passOver()
            return manifest.fields.say(name.position, "class \(quoted(name.value)) is \(controller)'s: passed over")
        }
        if let name, name.value != "nginx" {
            manifest.fields.say(name.position, "class \(quoted(name.value)) is taken as that of ingress-nginx")
        }
        let annotations = IngressAnnotations(manifest)
        if annotations.isCanary {
            return manifest.unsupported("a canary adds to another Ingress: this is not supported")
        }
        let fallback = spec.fields("defaultBackend") ?? spec.fields("backend")
        let defaultBackend = fallback.flatMap(backend)
        var routes = hostRoutes(spec, defaultBackend, isPassthrough: annotations.isPassthrough)
        let terminated = readTLS(spec, annotations)
        let port = annotations.isPassthrough ? Self.tlsPort : Self.httpPort
        if let terminated {
            let hosts = terminated.isEmpty ? routes.compactMap(\.host) : terminated
            for pattern in hosts { taken.terminated.append((manifest, pattern, spec.position)) }
        }
        routes.removeAll { route in
            guard let terminated else { return false }
            return terminated.isEmpty || terminated.contains { pattern in route.host.map(pattern.covers) ?? false }
        }
        for route in routes { taken.routes.append((manifest, annotations, route, port)) }
        if let fallback, let defaultBackend, terminated?.isEmpty != true {
            if annotations.isPassthrough {
                fallback.unsupported(at: fallback.position, "only hosts are passed through, so it has no effect")
            } else {
                let route = HostRoute(label: "default", backend: defaultBackend, position: fallback.position)
                taken.defaults.append((manifest, annotations, route))
            }
        }
        warnOfClients(manifest, annotations, port)
    }

    // MARK: Reading

    /// Hosts whose TLS would have to be ended here, empty for all; nil for none.
    private func readTLS(_ spec: ManifestFields, _ annotations: IngressAnnotations) -> [ServerNamePattern]? {
        var hosts: [ServerNamePattern] = []
        let entries = spec.list("tls")
        var isForAll = false
        for entry in entries {
            entry.passOver("secretName")
            let names = entry.texts("hosts").compactMap { try? ServerNamePattern($0.value) }
            if annotations.isPassthrough { continue }
            entry.unsupported(
                at: entry.position,
                "TLS is never ended here: the annotation ssl-passthrough leads it on to a service that ends it")
            isForAll = isForAll || names.isEmpty
            hosts += names
        }
        if annotations.isPassthrough || entries.isEmpty { return nil }
        return isForAll ? [] : hosts
    }

    private func hostRoutes(
        _ spec: ManifestFields, _ defaultBackend: Backend?, isPassthrough: Bool
    ) -> [HostRoute] {
        var routes: [HostRoute] = []
        for rule in spec.list("rules") {
            let text = rule.text("host").flatMap { $0.value.isEmpty ? nil : $0 }
            let http = rule.fields("http")
            var route = HostRoute(label: text?.value.lowercased() ?? "*", position: text?.position ?? rule.position)
            if let text {
                do {
                    route.host = try ServerNamePattern(text.value)
                } catch {
                    rule.error(text.position, "host", "\(quoted(text.value)) is no host: \(error.explanation)")
                    continue
                }
            } else if isPassthrough {
                rule.unsupported(at: rule.position, "without `host` there is nothing to pass TLS through by")
                continue
            }
            // A rule without paths leads to the default backend.
            if let http {
                route.backend = wholeHost(http)
            } else if defaultBackend != nil {
                route.backend = defaultBackend
            } else {
                rule.error(rule.position, "http", "is missing, and there is no default backend")
            }
            routes.append(route)
        }
        return routes
    }

    /// The backend of everything that a host has; other paths are reported.
    private func wholeHost(_ http: ManifestFields) -> Backend? {
        var found: Backend?
        for entry in http.list("paths") {
            let path = entry.text("path")?.value ?? "/"
            let type = entry.text("pathType")
            guard let section = entry.fields("backend") else {
                entry.error(entry.position, "backend", "is missing")
                continue
            }
            let target = backend(section)
            if path != "/" && !path.isEmpty || type?.value == "Exact" {
                entry.unsupported("path", "paths are not looked at: only `/` of a host can be led on")
                if !entry.has("path") { entry.unsupported("pathType", "paths are not looked at") }
            } else if found != nil {
                entry.unsupported(at: entry.position, "the host has a path `/` already")
            } else {
                found = target
            }
        }
        return found
    }

    /// `service: { name, port: { number | name } }`, or `serviceName` and `servicePort` as before version 1.
    private func backend(_ fields: ManifestFields) -> Backend? {
        fields.unsupported("resource", "only services are led to")
        if let service = fields.fields("service") {
            guard let name = service.text("name") else {
                service.error(service.position, "name", "is missing")
                return nil
            }
            let port = service.fields("port")
            guard let number = port?.text("number") ?? port?.text("name") else {
                service.error(service.position, "port", "has neither `number` nor `name`")
                return nil
            }
            return Backend(service: name.value, port: number.value, position: number.position)
        }
        guard let name = fields.text("serviceName"), let port = fields.text("servicePort") else {
            if !fields.has("resource") { fields.error(fields.position, "service", "is missing") }
            return nil
        }
        return Backend(service: name.value, port: port.value, position: port.position)
    }

    // MARK: Routes

    private func key(_ route: HostRoute, _ port: UInt16) -> String {
        route.host == nil ? "\(port) *" : "\(port) \(route.label)"
    }

    /// Refuses every client of a host where somebody guards a path that is not told apart from the others: to lead the
    /// rest of the host on would open that path to all. Returns the keys of these hosts.
    private func closeGuardedHosts(_ taken: inout Taken) -> Set<String> {
        var closed: Set<String> = []
        for (manifest, annotations, route, port) in taken.routes where route.backend == nil {
            guard annotations.allowed != nil || !annotations.denied.isEmpty || annotations.isGuarded else { continue }
            manifest.fields.unsupported(
                at: route.position, "a guarded path cannot be told apart, so its host is refused to everybody")
            guard closed.insert(key(route, port)).inserted else { continue }
            refuse(route.host, "Ingress/\(manifest.path)/\(route.label)/guarded", port, at: route.position)
            taken.hosts[key(route, port)] = manifest.title
        }
        return closed
    }

    /// What an Ingress asks for and cannot be led on does not go to a wildcard or a default backend of another.
    private func refuseTheRest(_ taken: Taken) {
        for (manifest, _, route, port) in taken.routes where route.backend == nil {
            guard let host = route.host else { continue }
            listeners.refuse(
                host, port: port, isHTTP: port == Self.httpPort, route: "Ingress/\(manifest.path)/\(route.label)",
                at: route.position)
        }
        for (manifest, pattern, position) in taken.terminated {
            for port in [Self.httpPort, Self.tlsPort] {
                listeners.refuse(
                    pattern, port: port, isHTTP: port == Self.httpPort,
                    route: "Ingress/\(manifest.path)/\(pattern.text)/tls", at: position)
            }
        }
    }

    private func refuse(_ host: ServerNamePattern?, _ name: String, _ port: UInt16, at position: SourcePosition) {
        var route = Route(name: name, action: .deny(port == Self.httpPort ? .accessDenied : .reset))
        if let host { route.match.serverNames = [host] }
        listeners.add(route, port: port, isHTTP: port == Self.httpPort, at: position)
    }

    /// Whether no Ingress has this host yet; reported where one has.
    private func isFree(_ route: HostRoute, _ port: UInt16, _ manifest: Manifest, _ taken: inout Taken) -> Bool {
        let key = key(route, port)
        if let owner = taken.hosts[key] {
            let what = route.host == nil ? "every other host" : "host \(quoted(route.label))"
            manifest.fields.unsupported(at: route.position, "\(what) is \(owner)'s already")
            return false
        }
        taken.hosts[key] = manifest.title
        return true
    }

    private func add(_ host: HostRoute, _ port: UInt16, _ annotations: IngressAnnotations, _ manifest: Manifest) {
        let name = "Ingress/\(manifest.path)/\(host.label)"
        let isHTTP = port == Self.httpPort
        func add(_ suffix: String, _ clients: [CIDR], _ action: RouteAction, _ limits: RouteLimits = RouteLimits()) {
            var route = Route(name: name + suffix, action: action)
            if let pattern = host.host { route.match.serverNames = [pattern] + aliases(annotations, manifest) }
            route.match.clients = clients
            route.limits = limits
            listeners.add(route, port: port, isHTTP: isHTTP, at: host.position)
        }
        if annotations.isGuarded { return add("", [], .deny(.accessDenied)) }
        let action = action(host, annotations, manifest)
        if !annotations.denied.isEmpty { add("/denied", annotations.denied, .deny(.accessDenied)) }
        if !annotations.unlimited.isEmpty, annotations.limits != RouteLimits() {
            let clients = annotations.allowed.map { intersection($0, annotations.unlimited) } ?? annotations.unlimited
            if !clients.isEmpty { add("/unlimited", clients, action) }
        }
        if let allowed = annotations.allowed {
            if !allowed.isEmpty { add("", allowed, action, annotations.limits) }
            add("/others", [], .deny(.accessDenied))
        } else {
            add("", [], action, annotations.limits)
        }
    }

    private func action(_ host: HostRoute, _ annotations: IngressAnnotations, _ manifest: Manifest) -> RouteAction {
        guard let backend = host.backend else { return .deny(.reset) }
        let report = { (message: String) in manifest.fields.unsupported(at: backend.position, message) }
        let found = port(backend.port, ofService: backend.service, manifest.namespace, report: report)
        guard let number = found else { return .deny(.reset) }
        let host = self.host(service: backend.service, namespace: manifest.namespace)
        let isHeadless = catalogue.services[host.lowercased()]?.isHeadless ?? false
        if annotations.usesVirtualAddress, isHeadless {
            manifest.fields.say(
                backend.position, "a headless service has no address of its own: its endpoints are taken")
        }
        let action = clusters.action(
            host: host, namespace: manifest.namespace, port: number,
            usesVirtualAddress: annotations.usesVirtualAddress && !isHeadless,
            variant: annotations.changesClusters ? "Ingress/\(manifest.path)" : "", at: backend.position,
            adjust: annotations.adjust, report: report)
        return action ?? .deny(.reset)
    }

    private func aliases(_ annotations: IngressAnnotations, _ manifest: Manifest) -> [ServerNamePattern] {
        annotations.aliases.compactMap { alias in
            if let pattern = try? ServerNamePattern(alias.value) { return pattern }
            manifest.fields.unsupported(
                at: alias.position,
                "annotation server-alias: \(quoted(alias.value)) is no name, and patterns are not read")
            return nil
        }
    }

    /// Says which clients the annotations let in that no listener does.
    private func warnOfClients(_ manifest: Manifest, _ annotations: IngressAnnotations, _ port: UInt16) {
        guard let allowed = annotations.allowed, let position = annotations.allowedPosition else { return }
        let own = settings.listeners[port] ?? []
        let policies =
            own.isEmpty ? [settings.clients] : own.map { draft.configuration.listeners[$0.index].clients }
        for block in allowed where !policies.contains(where: { $0.admits(block.base) }) {
            manifest.fields.say(
                position, "\(block) may not connect at all: `clients` of the listener, or of `manifests`, let it in")
        }
    }
}

extension IngressAnnotations {
    /// Changes a cluster as they ask.
    func adjust(_ cluster: inout Cluster) {
        if let balance { cluster.balance = balance }
        if let connectTimeout {
            cluster.upstream.connectTimeout = connectTimeout
            cluster.upstream.connectTotal = max(cluster.upstream.connectTotal, connectTimeout)
        }
        if let connectTotal { cluster.upstream.connectTotal = connectTotal }
        if let attempts { cluster.upstream.attempts = attempts }
    }
}

extension ClientPolicy {
    fileprivate func admits(_ address: IPAddress) -> Bool {
        rules.first { $0.block.contains(address) }?.allow ?? otherwiseAllow
    }
}

/// What is in a block of both lists.
private func intersection(_ first: [CIDR], _ second: [CIDR]) -> [CIDR] {
    first.flatMap { a in
        second.compactMap { b in
            if a.contains(b.base), a.prefixLength <= b.prefixLength { return b }
            return b.contains(a.base) && b.prefixLength <= a.prefixLength ? a : nil
        }
    }
}
