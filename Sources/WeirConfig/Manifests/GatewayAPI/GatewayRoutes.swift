import WeirModel
import WeirNet

/// TLSRoutes and TCPRoutes of the Gateway API: to which listeners they are attached, and where they lead.
extension ManifestLowering {
    /// Where a route is taken up, and for which names; none: for whatever comes, of a TCPRoute.
    private struct Attachment {
        var place: GatewayPlace
        var names: [ServerNamePattern]
    }

    /// Whose a name at a place is; nil stands for whatever comes.
    private typealias Taken = [GatewayPlace: [ServerNamePattern?: String]]

    func lowerGatewayRoutes(_ gateways: GatewayListeners) {
        let grants = ReferenceGrants(manifests.all("ReferenceGrant", Self.gatewayGroup))
        for manifest in manifests.all("UDPRoute", Self.gatewayGroup) {
            manifest.unsupported("UDP is not carried yet: the document has no effect")
        }
        var taken = Taken()
        for kind in ["TLSRoute", "TCPRoute"] {
            for manifest in Manifest.oldestFirst(manifests.all(kind, Self.gatewayGroup)) {
                lowerGatewayRoute(manifest, gateways, grants, &taken)
            }
        }
    }

    private func lowerGatewayRoute(
        _ manifest: Manifest, _ gateways: GatewayListeners, _ grants: ReferenceGrants, _ taken: inout Taken
    ) {
        guard let spec = manifest.spec() else { return }
        if let scope = spec.text("useDefaultGateways"), scope.value != "None" {
            spec.unsupported("useDefaultGateways", "a route names its Gateways in `parentRefs`")
        }
        let hostnames = manifest.kind == "TLSRoute" ? readHostnames(spec) : []
        let parents = spec.list("parentRefs")
        if parents.isEmpty { spec.unsupported(at: spec.position, "without `parentRefs` it is attached to nothing") }
        var attachments: [Attachment] = []
        for parent in parents { attachments += attach(manifest, parent, hostnames, gateways) }
        attachments = merged(attachments)
        if attachments.contains(where: { $0.names.contains(.any) }), !spec.has("hostnames") {
            spec.say(spec.position, "takes every server name: TLS without one is refused, as is what is no TLS")
        }
        let rules = spec.list("rules")
        for (index, rule) in rules.enumerated() {
            rule.passOver("name")
            let action = action(manifest, index, rule, grants)
            if index > 0 {
                rule.unsupported(at: rule.position, "the first rule takes every connection, so this has no effect")
                continue
            }
            for attachment in attachments { add(manifest, action, attachment, &taken) }
        }
        if rules.isEmpty { spec.error(spec.position, "rules", "is missing") }
    }

    private func readHostnames(_ spec: ManifestFields) -> [ServerNamePattern]? {
        guard spec.has("hostnames") else { return [] }
        let names = spec.texts("hostnames").compactMap { text -> ServerNamePattern? in
            do throws(ServerName.Refusal) {
                return try ServerNamePattern(text.value)
            } catch {
                spec.error(text.position, "hostnames", "\(quoted(text.value)) is no host: \(error.explanation)")
                return nil
            }
        }
        // Of names that are all wrong none is meant, not every one.
        return names.isEmpty ? nil : names
    }

    // MARK: Attachment

    private func attach(
        _ manifest: Manifest, _ parent: ManifestFields, _ hostnames: [ServerNamePattern]?, _ gateways: GatewayListeners
    ) -> [Attachment] {
        let group = parent.text("group")?.value ?? Self.gatewayGroup
        let kind = parent.text("kind")?.value ?? "Gateway"
        let namespace = parent.text("namespace")?.value ?? manifest.namespace
        let name = parent.text("name")?.value ?? ""
        let section = parent.text("sectionName").flatMap { $0.value.isEmpty ? nil : $0.value }
        let port = parent.port("port")
        func refuse(_ reason: String) -> [Attachment] {
            parent.unsupported(at: parent.position, reason)
            return []
        }
        guard group == Self.gatewayGroup, kind == "Gateway" else { return refuse("only a Gateway is attached to") }
        let path = "\(namespace)/\(name)"
        guard let found = gateways.listeners(of: path, named: section) else {
            return refuse("there is no Gateway \(path)")
        }
        let named = found.filter { port == nil || $0.port == port }
        if named.isEmpty { return refuse("Gateway \(path) serves no such listener") }
        let fitting = named.filter { $0.transport == (manifest.kind == "TLSRoute" ? .tls : .tcp) }
        if fitting.isEmpty { return refuse("no listener there has the protocol of a \(manifest.kind)") }
        let allowing = fitting.filter { allows($0, manifest) }
        if allowing.isEmpty { return refuse("`allowedRoutes` there let it in nowhere") }
        guard let hostnames else { return [] }
        let attachments = allowing.flatMap { self.attachments($0, hostnames, gateways) }
        if attachments.isEmpty { return refuse("none of its hostnames is one of a listener's") }
        return attachments
    }

    private func allows(_ listener: GatewayListener, _ manifest: Manifest) -> Bool {
        if let kinds = listener.kinds, !kinds.contains(manifest.kind) { return false }
        return switch listener.namespaces {
        case .none: false
        case .same: listener.gateway.namespace == manifest.namespace
        case .all: true
        case .selected(let selector): selector.selects(labels(ofNamespace: manifest.namespace))
        }
    }

    private func attachments(
        _ listener: GatewayListener, _ hostnames: [ServerNamePattern], _ gateways: GatewayListeners
    ) -> [Attachment] {
        if listener.transport == .tcp { return listener.places.map { Attachment(place: $0, names: []) } }
        // Any name, not anything: a route without names would get what is no TLS, too.
        let own = listener.hostname ?? .any
        let names = hostnames.isEmpty ? [own] : hostnames.compactMap(own.intersection)
        return listener.places.compactMap { place in
            // What another listener names better is that one's.
            let left = names.filter { !gateways.isNamedBetter($0, than: listener, at: place) }
            return left.isEmpty ? nil : Attachment(place: place, names: left)
        }
    }

    /// One for each place: a route stands there once, with all of its names.
    private func merged(_ attachments: [Attachment]) -> [Attachment] {
        var merged: [Attachment] = []
        var indices: [GatewayPlace: Int] = [:]
        for attachment in attachments {
            if let index = indices[attachment.place] {
                merged[index].names += attachment.names
            } else {
                indices[attachment.place] = merged.count
                merged.append(attachment)
            }
        }
        for index in merged.indices {
            var seen: Set<ServerNamePattern> = []
            merged[index].names.removeAll { !seen.insert($0).inserted }
        }
        return merged
    }

    private func add(
        _ manifest: Manifest, _ action: RouteAction, _ attachment: Attachment, _ taken: inout Taken
    ) {
        let place = attachment.place
        var route = Route(name: "\(manifest.kind)/\(manifest.path)/0", action: action)
        for name in attachment.names {
            if let owner = taken[place]?[name] {
                manifest.fields.unsupported(at: manifest.position, "\(name.text) is \(owner)'s already, which is older")
                continue
            }
            taken[place, default: [:]][name] = manifest.title
            route.match.serverNames.append(name)
        }
        if attachment.names.isEmpty {
            if let owner = taken[place]?[nil] {
                return manifest.fields.unsupported(
                    at: manifest.position, "port \(place.port) is \(owner)'s already, which is older")
            }
            taken[place, default: [:]][nil] = manifest.title
        } else if route.match.serverNames.isEmpty {
            return
        }
        listeners.add(route, port: place.port, address: place.address, at: manifest.position)
    }

    // MARK: Backends

    /// Connections are shared by weight; the share of a backend that cannot be led to is refused.
    private func action(
        _ manifest: Manifest, _ index: Int, _ rule: ManifestFields, _ grants: ReferenceGrants
    ) -> RouteAction {
        var shares: [ClusterShare] = []
        var refused = 0
        for entry in rule.list("backendRefs") {
            let weight = entry.integer("weight", ClusterShare.weightRange) ?? 1
            let target = cluster(manifest, entry, grants)
            if weight == 0 { continue }
            guard let target else {
                refused += weight
                continue
            }
            if let same = shares.firstIndex(where: { $0.cluster == target }) {
                shares[same].weight = min(shares[same].weight + weight, ClusterShare.weightRange.upperBound)
            } else {
                shares.append(ClusterShare(cluster: target, weight: weight))
            }
        }
        if shares.isEmpty { return .deny(.reset) }
        if refused > 0 {
            let nobody = clusters.nobody("\(manifest.kind)/\(manifest.path)/\(index)", at: rule.position)
            let weight = min(refused, ClusterShare.weightRange.upperBound)
            shares.append(ClusterShare(cluster: nobody, weight: weight))
        }
        return shares.count == 1 ? .cluster(shares[0].cluster) : .split(shares)
    }

    private func cluster(_ manifest: Manifest, _ entry: ManifestFields, _ grants: ReferenceGrants) -> String? {
        let group = entry.text("group")?.value ?? ""
        let kind = entry.text("kind")?.value ?? "Service"
        let name = entry.text("name")?.value ?? ""
        let namespace = entry.text("namespace")?.value ?? manifest.namespace
        let number = entry.port("port")
        func refuse(_ reason: String) -> String? {
            entry.unsupported(at: entry.position, "\(reason): its share of connections is refused")
            return nil
        }
        guard group.isEmpty, kind == "Service" else { return refuse("only services are led to, not \(kind)") }
        guard let number else { return refuse("it has no port") }
        guard grants.grant(manifest, service: name, in: namespace) else {
            return refuse("no ReferenceGrant in namespace \(namespace) lets it lead to service \(name)")
        }
        let report = { (message: String) in _ = refuse(message) }
        guard let port = port("\(number)", ofService: name, namespace, report: report) else { return nil }
        let action = clusters.action(
            host: host(service: name, namespace: namespace), namespace: manifest.namespace, port: port,
            at: entry.position,
            report: report)
        guard case .cluster(let cluster) = action else { return nil }
        return cluster
    }
}
