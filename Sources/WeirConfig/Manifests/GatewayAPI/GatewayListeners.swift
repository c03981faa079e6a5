import WeirModel
import WeirNet

/// A listener of a Gateway of the Gateway API that can be served.
struct GatewayListener {
    enum Transport {
        case tls
        case tcp
    }

    /// Which namespaces may attach routes.
    enum Namespaces {
        case none
        case same
        case all
        case selected(LabelSelector)
    }

    var gateway: Manifest
    /// `sectionName` to routes.
    var name: String
    var port: UInt16
    var transport: Transport
    /// nil: any name, and none.
    var hostname: ServerNamePattern?
    /// nil: every kind that fits the transport.
    var kinds: Set<String>?
    var namespaces: Namespaces
    /// Where the Gateway wants to be; empty: wherever manifests are listened for.
    var addresses: [IPAddress]
    var position: SourcePosition

    /// Where it listens.
    var places: [GatewayPlace] {
        addresses.isEmpty
            ? [GatewayPlace(port: port, address: nil)] : addresses.map { GatewayPlace(port: port, address: $0) }
    }
}

/// Where listeners of Gateways have to be told apart.
struct GatewayPlace: Hashable {
    var port: UInt16
    /// nil: wherever manifests are listened for.
    var address: IPAddress?
}

/// What routes can be attached to.
struct GatewayListeners {
    /// Every Gateway that there is, as namespace and name, and its listeners in the order written.
    private var gateways: [String: [GatewayListener]] = [:]
    /// The same by Gateway and name.
    private var sections: [String: [GatewayListener]] = [:]
    /// The hostnames of the listeners at a place.
    private var hostnames: [GatewayPlace: Set<ServerNamePattern>] = [:]

    init(_ gateways: [Manifest], _ all: [GatewayListener]) {
        for gateway in gateways { self.gateways[gateway.path] = [] }
        for listener in all {
            let path = listener.gateway.path
            self.gateways[path, default: []].append(listener)
            sections["\(path)/\(listener.name)", default: []].append(listener)
            guard let hostname = listener.hostname else { continue }
            for place in listener.places { hostnames[place, default: []].insert(hostname) }
        }
    }

    /// The listeners of a Gateway, of all or of one name; nil where there is no such Gateway.
    func listeners(of path: String, named section: String?) -> [GatewayListener]? {
        guard let all = gateways[path] else { return nil }
        return section.map { sections["\(path)/\($0)"] ?? [] } ?? all
    }

    /// Whether another listener at the place names it better than `listener`, which has it, too.
    func isNamedBetter(_ name: ServerNamePattern, than listener: GatewayListener, at place: GatewayPlace) -> Bool {
        guard let others = hostnames[place] else { return false }
        for pattern in [name] + name.wider {
            if pattern == listener.hostname { return false }
            if others.contains(pattern) { return true }
        }
        return false
    }
}

/// Gateways of the Gateway API: listeners of TLS that is passed through, and of TCP.
extension ManifestLowering {
    static let gatewayGroup = "gateway.networking.k8s.io"

    func lowerGatewayAPI() {
        // Who is to serve them is whoever is given them.
        for manifest in manifests.all("GatewayClass", Self.gatewayGroup) { manifest.fields.passOver("spec") }
        let gateways = manifests.all("Gateway", Self.gatewayGroup)
        let all = withoutConflicts(gateways.flatMap(readGateway))
        for listener in all {
            for place in listener.places {
                if listener.transport == .tls {
                    listeners.readHello(place.port, address: place.address, at: listener.position)
                } else {
                    listeners.open(place.port, address: place.address, at: listener.position)
                }
            }
        }
        lowerGatewayRoutes(GatewayListeners(gateways, all))
        isolate(all)
    }

    private func readGateway(_ manifest: Manifest) -> [GatewayListener] {
        guard let spec = manifest.spec() else { return [] }
        spec.passOver("gatewayClassName", "infrastructure", "allowedListeners")
        spec.unsupported("tls", "TLS is never ended here, nor begun")
        spec.unsupported("defaultScope", "only routes that name their Gateway are attached to it")
        if settings.address != nil { spec.passOver("addresses") }
        guard let addresses = settings.address == nil ? gatewayAddresses(spec) : [] else {
            // The ports are a Gateway's all the same.
            for listener in spec.list("listeners") {
                claim(listener)
                listener.passOver()
            }
            return []
        }
        return spec.list("listeners").compactMap { readListener($0, manifest, addresses) }
    }

    /// Empty: wherever manifests are listened for. nil, and reported: nowhere, as none of those it wants can be listened on.
    private func gatewayAddresses(_ spec: ManifestFields) -> [IPAddress]? {
        let entries = spec.list("addresses")
        var addresses: [IPAddress] = []
        var isEverywhere = entries.isEmpty
        for entry in entries {
            let type = entry.text("type")?.value ?? "IPAddress"
            guard type == "IPAddress" else {
                entry.unsupported("value", "only IP addresses are listened on")
                continue
            }
            // Without one any will do.
            guard entry.text("value")?.value.isEmpty == false else {
                isEverywhere = true
                continue
            }
            guard let address = entry.address("value") else { continue }
            if address.isUnspecified { isEverywhere = true }
            if !addresses.contains(address) { addresses.append(address) }
        }
        if isEverywhere { return [] }
        if !addresses.isEmpty { return addresses }
        spec.unsupported(
            at: spec.position(of: "addresses"), "none of its addresses is listened on: the Gateway is not served")
        return nil
    }

    /// A port of UDP is another.
    private func claim(_ listener: ManifestFields) {
        guard let port = listener.port("port"), listener.text("protocol")?.value.uppercased() != "UDP" else { return }
        listeners.claim(port)
    }

    private func readListener(
        _ fields: ManifestFields, _ manifest: Manifest, _ addresses: [IPAddress]
    ) -> GatewayListener? {
        let name = fields.text("name")?.value ?? ""
        let hostText = fields.text("hostname").flatMap { $0.value.isEmpty ? nil : $0 }
        let (kinds, namespaces) = readAllowedRoutes(fields)
        let tls = fields.fields("tls")
        let mode = tls?.text("mode")?.value ?? "Terminate"
        guard let port = fields.port("port"), let protocolText = fields.text("protocol") else {
            fields.error(fields.position, "port", "a listener has `port` and `protocol`")
            tls?.passOver()
            return nil
        }
        claim(fields)
        // Nothing is decrypted, so certificates ask for nothing.
        if mode == "Passthrough" { tls?.passOver("certificateRefs") } else { tls?.passOver() }
        let transport: GatewayListener.Transport
        switch protocolText.value.uppercased() {
        case "TLS" where mode == "Passthrough": transport = .tls
        case "TLS", "HTTPS":
            fields.unsupported(at: fields.position, "TLS is never ended here: only `mode: Passthrough` is served")
            // Its name is nobody else's.
            if let hostText, let host = try? ServerNamePattern(hostText.value) {
                let route = "Gateway/\(manifest.path)/\(name)"
                for address in addresses.isEmpty ? [nil] : addresses.map({ $0 }) {
                    listeners.refuse(host, port: port, address: address, route: route, at: fields.position)
                }
            }
            return nil
        case "TCP": transport = .tcp
        case "UDP":
            fields.unsupported("protocol", "UDP is not carried yet")
            return nil
        default:
            fields.unsupported("protocol", "only TLS and TCP are served, not \(protocolText.value)")
            return nil
        }
        var listener = GatewayListener(
            gateway: manifest, name: name, port: port, transport: transport, kinds: kinds, namespaces: namespaces,
            addresses: addresses, position: fields.position)
        guard let hostText, transport == .tls else { return listener }
        do {
            listener.hostname = try ServerNamePattern(hostText.value)
        } catch {
            fields.error(hostText.position, "hostname", "\(quoted(hostText.value)) is no host: \(error.explanation)")
            return nil
        }
        return listener
    }

    private func readAllowedRoutes(_ fields: ManifestFields) -> (Set<String>?, GatewayListener.Namespaces) {
        guard let allowed = fields.fields("allowedRoutes") else { return (nil, .same) }
        var kinds: Set<String>?
        for entry in allowed.list("kinds") {
            let group = entry.text("group")?.value ?? Self.gatewayGroup
            let kind = entry.text("kind")?.value ?? ""
            kinds = kinds ?? []
            if group == Self.gatewayGroup { kinds?.insert(kind) }
        }
        let namespaces = allowed.fields("namespaces")
        let selector = namespaces?.fields("selector").map { LabelSelector($0) }
        guard let from = namespaces?.text("from") else { return (kinds, .same) }
        switch from.value {
        case "Same": return (kinds, .same)
        case "All": return (kinds, .all)
        case "None": return (kinds, .none)
        case "Selector":
            if let selector { return (kinds, .selected(selector)) }
            namespaces?.error(from.position, "selector", "is missing")
        default:
            let expected = "expected Same, All, Selector or None"
            namespaces?.error(from.position, "from", "\(expected), found \(quoted(from.value))")
        }
        return (kinds, .none)
    }

    /// Leaves out listeners that cannot be told apart: as the specification has it none of them is served.
    private func withoutConflicts(_ all: [GatewayListener]) -> [GatewayListener] {
        var others: [Int: Int] = [:]
        func conflict(_ indices: [Int], with one: Int) {
            for index in indices where others[index] == nil {
                others[index] = index == one ? indices.first { $0 != one } : one
            }
        }
        let places = neighbours(all).values.sorted { $0.lexicographicallyPrecedes($1) }
        for indices in places where indices.count > 1 {
            if let opaque = indices.first(where: { all[$0].transport == .tcp }) {
                conflict(indices, with: opaque)
            } else {
                for same in Dictionary(grouping: indices, by: { all[$0].hostname }).values where same.count > 1 {
                    conflict(same, with: same[0])
                }
            }
        }
        for (index, other) in others.sorted(by: { $0.key < $1.key }) {
            let (one, other) = (all[index], all[other])
            let owner = other.gateway.path == one.gateway.path ? "" : " of \(other.gateway.title)"
            one.gateway.fields.unsupported(
                at: one.position,
                "listener \(quoted(one.name)) cannot be told from \(quoted(other.name))\(owner): neither is served"
            )
        }
        return all.indices.filter { others[$0] == nil }.map { all[$0] }
    }

    /// A name belongs to the listener that names it best, whatever routes the others have.
    private func isolate(_ all: [GatewayListener]) {
        for (place, indices) in neighbours(all) where indices.count > 1 {
            for listener in indices.lazy.map({ all[$0] }) {
                guard let hostname = listener.hostname else { continue }
                var route = Route(
                    name: "Gateway/\(listener.gateway.path)/\(listener.name)", action: .deny(.unrecognizedName))
                route.match.serverNames = [hostname]
                listeners.add(route, port: place.port, address: place.address, at: listener.position)
            }
        }
    }

    /// Which listeners are at each place, in the order of the documents.
    private func neighbours(_ all: [GatewayListener]) -> [GatewayPlace: [Int]] {
        var neighbours: [GatewayPlace: [Int]] = [:]
        for (index, listener) in all.enumerated() {
            for place in listener.places { neighbours[place, default: []].append(index) }
        }
        return neighbours
    }
}
