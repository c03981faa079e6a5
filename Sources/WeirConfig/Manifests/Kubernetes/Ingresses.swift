import WeirModel
import WeirNet

/// Ingresses: hosts that are passed through with their TLS (port 443), or told apart by their `Host` (port 80).
extension ManifestLowering {
    static let httpPort: UInt16 = 80
    static let tlsPort: UInt16 = 443
    /// There is one server for both in ingress-nginx.
    static let ingressPorts = [httpPort, tlsPort]
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
        /// Beside `/`: whoever leads the host on leads these on too.
        var hasOtherPaths = false
        /// Its TLS would have to be ended here.
        var isTerminated = false
        var position: SourcePosition
    }

    /// A host at a port.
    private struct Place: Hashable {
        /// nil: every other host.
        var host: ServerNamePattern?
        var port: UInt16

        init(_ host: ServerNamePattern?, _ port: UInt16) {
            self.host = host == .any ? nil : host
            self.port = port
        }
    }

    /// What a rule of an Ingress, or its default backend, asks for.
    private struct Asked {
        var manifest: Manifest
        var annotations: IngressAnnotations
        var route: HostRoute

        var port: UInt16 { annotations.isPassthrough ? tlsPort : httpPort }
        var place: Place { Place(route.host, port) }
        /// What its routes are called, but for what tells these apart.
        var name: String { "Ingress/\(manifest.path)/\(route.label)" }
    }

    /// What all rules of an Ingress have in common.
    private struct Ingress {
        var manifest: Manifest
        var annotations: IngressAnnotations
        /// Of what is asked for.
        var rules: Range<Int>
        /// Hosts with TLS that would have to be ended here, as `tls` sections name them.
        var terminated: [ServerNamePattern]
        var position: SourcePosition
    }

    /// What all Ingresses have asked for, and who has it.
    private struct Taken {
        var ingresses: [Ingress] = []
        /// The oldest Ingress first.
        var asked: [Asked] = []
        /// Those come after every other route.
        var defaults: [Asked] = []
        /// Whose a host is, as an index of `asked`.
        var owners: [Place: Int] = [:]
        /// Nobody is led on there.
        var closed: Set<Place> = []

        /// Whether this is led on.
        func leads(_ index: Int) -> Bool {
            let place = asked[index].place
            return owners[place] == index && !closed.contains(place) && !asked[index].route.isTerminated
        }

        /// Whether its host is led on for the same Ingress.
        func isLed(_ index: Int) -> Bool {
            guard let owner = owners[asked[index].place], leads(owner) else { return false }
            return asked[owner].manifest === asked[index].manifest
        }
    }

    /// Those of all controllers.
    var ingresses: [Manifest] {
        manifests.all("Ingress", "networking.k8s.io") + manifests.all("Ingress", "extensions")
    }

    func lowerIngresses() {
        let others = readIngressClasses()
        var taken = Taken()
        for manifest in Manifest.oldestFirst(ingresses, lastNameFirst: true) { lowerIngress(manifest, others, &taken) }
        taken.asked += taken.defaults
        takeHosts(&taken)
        closeGuardedHosts(&taken)
        let aliases = takeAliases(taken)
        for (index, asked) in taken.asked.enumerated() where asked.route.backend != nil && !asked.route.isTerminated {
            if taken.leads(index) {
                add(asked, aliases[index] ?? [])
            } else {
                reportLost(asked, taken)
            }
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
        let (terminated, isForAll) = readTLS(spec, annotations)
        if isForAll || !terminated.isEmpty {
            let names = Set(terminated)
            for index in routes.indices {
                routes[index].isTerminated = isForAll || routes[index].host?.isCovered(by: names) ?? false
            }
        }
        let first = taken.asked.count
        for route in routes { taken.asked.append(Asked(manifest: manifest, annotations: annotations, route: route)) }
        taken.ingresses.append(
            Ingress(
                manifest: manifest, annotations: annotations, rules: first..<taken.asked.count, terminated: terminated,
                position: spec.position))
        if let fallback, let defaultBackend {
            if annotations.isPassthrough {
                fallback.unsupported(at: fallback.position, "only hosts are passed through, so it has no effect")
            } else {
                let route = HostRoute(
                    label: "default", backend: defaultBackend, isTerminated: isForAll, position: fallback.position)
                taken.defaults.append(Asked(manifest: manifest, annotations: annotations, route: route))
            }
        }
        warnOfClients(manifest, annotations, annotations.isPassthrough ? Self.tlsPort : Self.httpPort)
    }

    // MARK: Reading

    /// Hosts whose TLS would have to be ended here, and whether that is every one.
    private func readTLS(
        _ spec: ManifestFields, _ annotations: IngressAnnotations
    ) -> (hosts: [ServerNamePattern], isForAll: Bool) {
        var hosts: [ServerNamePattern] = []
        var isForAll = false
        for entry in spec.list("tls") {
            entry.passOver("secretName")
            let names = entry.texts("hosts").compactMap { try? ServerNamePattern($0.value) }
            if annotations.isPassthrough { continue }
            entry.unsupported(
                at: entry.position,
                "TLS is never ended here: the annotation ssl-passthrough leads it on to a service that ends it")
            isForAll = isForAll || names.isEmpty
            hosts += names
        }
        return (hosts, isForAll)
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
            }
            // A rule without paths leads to the default backend.
            if let http {
                route.backend = wholeHost(http, hasOtherPaths: &route.hasOtherPaths)
            } else if defaultBackend != nil {
                route.backend = defaultBackend
            } else {
                rule.error(rule.position, "http", "is missing, and there is no default backend")
            }
            // Its paths may be guarded all the same.
            if isPassthrough, route.host == nil { route.backend = nil }
            routes.append(route)
        }
        return routes
    }

    /// The backend of everything that a host has; other paths are reported.
    private func wholeHost(_ http: ManifestFields, hasOtherPaths: inout Bool) -> Backend? {
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
                hasOtherPaths = true
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

    /// The oldest has a host. What it guards, or what is encrypted to it, it has at both ports: a younger one must not
    /// open that at the other.
    private func takeHosts(_ taken: inout Taken) {
        for (index, asked) in taken.asked.enumerated() where asked.route.backend != nil {
            let hasBoth = asked.route.isTerminated || asked.annotations.guardsPaths
            for port in hasBoth ? Self.ingressPorts : [asked.port] {
                let place = Place(asked.route.host, port)
                if taken.owners[place] == nil { taken.owners[place] = index }
            }
        }
    }

    /// Refuses every client of a host where somebody guards a path that is not told apart from the others: to lead the
    /// rest of the host on would open that path to all, unless the one who leads it guards it.
    private func closeGuardedHosts(_ taken: inout Taken) {
        for asked in taken.asked where asked.annotations.guardsPaths {
            guard asked.route.hasOtherPaths || asked.route.backend == nil else { continue }
            for port in Self.ingressPorts {
                let place = Place(asked.route.host, port)
                if let owner = taken.owners[place] {
                    if taken.asked[owner].manifest === asked.manifest { continue }
                } else if port != asked.port || asked.route.host == nil {
                    continue
                }
                asked.manifest.fields.unsupported(
                    at: asked.route.position,
                    "a guarded path cannot be told apart, so its host is refused to everybody")
                guard taken.closed.insert(place).inserted else { continue }
                var route = Route(
                    name: "\(asked.name)/guarded", action: .deny(port == Self.httpPort ? .accessDenied : .reset))
                if let host = asked.route.host { route.match.serverNames = [host] }
                listeners.add(route, port: port, isHTTP: port == Self.httpPort, at: asked.route.position)
            }
        }
    }

    /// By the index of who asks: the names beside its host. One that is somebody's host, or an older Ingress's other
    /// name, is no other's; one that may stand for a host which is not led on is refused.
    private func takeAliases(_ taken: Taken) -> [Int: [ServerNamePattern]] {
        var owners: [ServerNamePattern: Manifest] = [:]
        for asked in taken.asked {
            if let host = asked.route.host, owners[host] == nil { owners[host] = asked.manifest }
        }
        for ingress in taken.ingresses {
            for name in ingress.terminated where owners[name] == nil { owners[name] = ingress.manifest }
        }
        var found: [Int: [ServerNamePattern]] = [:]
        for ingress in taken.ingresses where !ingress.annotations.aliases.isEmpty {
            let hosts = ingress.rules.filter { taken.asked[$0].route.host != nil }
            // Of several servers with one name nginx takes the first, and ingress-nginx sorts them by host.
            let first = hosts.filter(taken.leads).min { taken.asked[$0].route.label < taken.asked[$1].route.label }
            let (isLed, terminated) = (hosts.allSatisfy(taken.isLed), Set(ingress.terminated))
            for alias in ingress.annotations.aliases {
                let report = { (message: String) in
                    ingress.manifest.fields.unsupported(
                        at: alias.position, "annotation server-alias: \(quoted(alias.value)) \(message)")
                }
                guard let name = try? ServerNamePattern(alias.value), name != .any else {
                    report("is no name, and patterns are not read")
                    continue
                }
                if let owner = owners[name] {
                    if owner !== ingress.manifest { report("is \(owner.title)'s already") }
                    continue
                }
                owners[name] = ingress.manifest
                refuse(name, "Ingress/\(ingress.manifest.path)/\(name.text)", at: alias.position)
                if isLed, let first, !name.isCovered(by: terminated) {
                    found[first, default: []].append(name)
                } else {
                    report("is refused: not every host of this Ingress is led on")
                }
            }
        }
        return found
    }

    /// What an Ingress asks for and cannot be led on, here or at the other port, does not go to a wildcard or a default
    /// backend of another.
    private func refuseTheRest(_ taken: Taken) {
        for asked in taken.asked {
            guard let host = asked.route.host else { continue }
            refuse(host, asked.route.isTerminated ? "\(asked.name)/tls" : asked.name, at: asked.route.position)
        }
        for ingress in taken.ingresses {
            for name in ingress.terminated {
                refuse(name, "Ingress/\(ingress.manifest.path)/\(name.text)/tls", at: ingress.position)
            }
        }
    }

    /// Where nobody leads this very name on.
    private func refuse(_ name: ServerNamePattern, _ route: String, at position: SourcePosition) {
        for port in Self.ingressPorts {
            listeners.refuse(name, port: port, isHTTP: port == Self.httpPort, route: route, at: position)
        }
    }

    private func reportLost(_ asked: Asked, _ taken: Taken) {
        let (route, fields) = (asked.route, asked.manifest.fields)
        if taken.closed.contains(asked.place) {
            fields.unsupported(at: route.position, "host \(quoted(route.label)) is refused to everybody")
        } else if let owner = taken.owners[asked.place] {
            let what = route.host == nil ? "every other host" : "host \(quoted(route.label))"
            fields.unsupported(at: route.position, "\(what) is \(taken.asked[owner].manifest.title)'s already")
        }
    }

    private func add(_ asked: Asked, _ aliases: [ServerNamePattern]) {
        let (annotations, host, port) = (asked.annotations, asked.route, asked.port)
        func add(_ suffix: String, _ clients: [CIDR], _ action: RouteAction, _ limits: RouteLimits = RouteLimits()) {
            var route = Route(name: asked.name + suffix, action: action)
            if let pattern = host.host { route.match.serverNames = [pattern] + aliases }
            route.match.clients = clients
            route.limits = limits
            listeners.add(route, port: port, isHTTP: port == Self.httpPort, at: host.position)
        }
        if annotations.isGuarded { return add("", [], .deny(.accessDenied)) }
        let action = action(host, annotations, asked.manifest)
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
