import WeirModel
import WeirNet

/// The listeners that manifests ask for, by port, as the readers of their kinds add to them.
///
/// Native YAML may have its own listener for a port (`manifest_port`), which then gets what is asked for there.
struct ManifestListeners {
    private struct Asked {
        var position: SourcePosition
        var routes: [(route: Route, position: SourcePosition)] = []
        var readsHello = false
        var readsHTTP = false
        var acceptProxy: AcceptProxy?
    }

    /// Where a document wants to be listened.
    private struct Place: Hashable, Comparable {
        var port: UInt16
        /// nil: wherever manifests are listened for.
        var address: IPAddress?

        static func < (a: Place, b: Place) -> Bool {
            (a.port, a.address?.description ?? "") < (b.port, b.address?.description ?? "")
        }
    }

    /// Where nothing is to end an idle session.
    private static let idleMax = Duration.seconds(10 * 365 * 86400)

    /// A name that a document has at a port and that cannot be served.
    private struct Refusal {
        var name: ServerNamePattern
        var route: Route
        var port: UInt16
        var isHTTP: Bool
        var position: SourcePosition
    }

    private var places: [Place: Asked] = [:]
    private var refusals: [Refusal] = []
    private var idles: [UInt16: Duration] = [:]
    private var claims: Set<UInt16> = []

    /// Whether a document asks for a listener there.
    func has(port: UInt16) -> Bool { places.keys.contains { $0.port == port } }

    /// Whether a Gateway, an Ingress or a ConfigMap has the port, also one of which nothing can be served.
    func isClaimed(_ port: UInt16) -> Bool { claims.contains(port) }

    /// Says that a document has the port, whatever of it can be served.
    mutating func claim(_ port: UInt16) { claims.insert(port) }

    /// The addresses of the port's listeners; nil stands for wherever manifests are listened for.
    func addresses(ofPort port: UInt16) -> [IPAddress?] {
        places.keys.filter { $0.port == port }.sorted().map(\.address)
    }

    /// Asks for a listener, even where no route leads from it yet.
    mutating func open(_ port: UInt16, address: IPAddress? = nil, at position: SourcePosition) {
        let place = Place(port: port, address: address)
        if places[place] == nil { places[place] = Asked(position: position) }
        claim(port)
    }

    /// Adds a route; among equals the first added takes a connection. Its listener reads ClientHellos where it asks for a
    /// server name or ALPN, HTTP heads where `isHTTP`.
    mutating func add(
        _ route: Route, port: UInt16, address: IPAddress? = nil, isHTTP: Bool = false, at position: SourcePosition
    ) {
        open(port, address: address, at: position)
        let place = Place(port: port, address: address)
        places[place]!.routes.append((route, position))
        if isHTTP {
            places[place]!.readsHTTP = true
        } else if !route.match.serverNames.isEmpty || !route.match.alpn.isEmpty {
            places[place]!.readsHello = true
        }
    }

    /// Keeps the name from the wildcards of others: a document has it at this port, but cannot be done. Where somebody leads
    /// the very same name on, that holds; where nobody asks for hellos (`isHTTP`: heads) at the port, nothing is opened.
    mutating func refuse(
        _ name: ServerNamePattern, port: UInt16, isHTTP: Bool = false, route: String, at position: SourcePosition
    ) {
        let action = RouteAction.deny(isHTTP ? .accessDenied : .unrecognizedName)
        let route = Route(name: route, match: RouteMatch(serverNames: [name]), action: action)
        claim(port)
        refusals.append(Refusal(name: name, route: route, port: port, isHTTP: isHTTP, position: position))
    }

    /// Clients of this port are read a ClientHello of although no route asks for it yet.
    mutating func readHello(_ port: UInt16, address: IPAddress? = nil, at position: SourcePosition) {
        open(port, address: address, at: position)
        places[Place(port: port, address: address)]!.readsHello = true
    }

    /// A PROXY header is required at this port, from anybody who may connect unless something says otherwise.
    mutating func acceptProxy(_ accept: AcceptProxy, port: UInt16, at position: SourcePosition) {
        if !has(port: port) { open(port, at: position) }
        for place in places.keys where place.port == port { places[place]!.acceptProxy = accept }
    }

    /// How long a session at this port may be idle; zero: for ever. Of several the longest holds.
    mutating func idle(_ port: UInt16, _ time: Duration) {
        idles[port] = max(idles[port] ?? .zero, time == .zero ? Self.idleMax : time)
    }

    /// Hands everything over to the draft.
    mutating func finish(_ draft: ConfigurationDraft, _ settings: ManifestSettings) {
        gatherAddresses()
        addRefusals()
        for (place, asked) in places.sorted(by: { $0.key < $1.key }) {
            if let own = settings.listeners[place.port], !own.isEmpty {
                for (index, _) in own { adopt(asked, place, draft, index) }
            } else {
                add(asked, place, draft, settings)
            }
        }
        for (port, own) in settings.listeners where !has(port: port) {
            for (_, position) in own {
                draft.findings.warning(position, "no manifest asks for a listener on port \(port)")
            }
        }
    }

    private func adopt(_ asked: Asked, _ place: Place, _ draft: ConfigurationDraft, _ index: Int) {
        var listener = draft.configuration.listeners[index]
        // The default reads hellos; without routes of its own that is what nobody asked for, and a server that speaks first
        // would be kept waiting.
        if listener.routes.isEmpty, listener.detect == [.tls] { listener.detect = [] }
        if asked.readsHello { listener.detect.insert(.tls) }
        if asked.readsHTTP { listener.detect.insert(.http) }
        if listener.acceptProxy == nil { listener.acceptProxy = asked.acceptProxy }
        // What native YAML says itself is another time than the default.
        if let idle = idles[place.port], listener.timeouts.idle == ListenerTimeouts().idle {
            listener.timeouts.idle = idle
        }
        append(asked, to: &listener, draft)
        draft.configuration.listeners[index] = listener
    }

    private func add(
        _ asked: Asked, _ place: Place, _ draft: ConfigurationDraft, _ settings: ManifestSettings
    ) {
        let port = place.port
        // Nobody is to be let in where every connection would be refused.
        if asked.routes.isEmpty {
            draft.findings.notice(asked.position, "port \(port) is not listened on: no route leads from it")
            return
        }
        let host = place.address ?? settings.address ?? .v6Any
        if place.address == nil,
            let own = draft.configuration.listeners.first(where: { $0.address.port == port && $0.isOnAllAddresses })
        {
            let advice = "`manifest_port: \(port)` there takes its routes over"
            draft.findings.error(
                asked.position, "listener \(quoted(own.name)) has port \(port) on all addresses already; \(advice)")
            return
        }
        let address = SocketAddress(host, port: port)
        let name = place.address == nil ? "port-\(port)" : address.description
        var listener = Listener(name: name, address: address)
        listener.takesIPv4 = host == .v6Any
        listener.clients = settings.clients
        listener.detect = []
        if asked.readsHello { listener.detect.insert(.tls) }
        if asked.readsHTTP { listener.detect.insert(.http) }
        listener.acceptProxy = asked.acceptProxy
        if let idle = idles[port] { listener.timeouts.idle = idle }
        append(asked, to: &listener, draft)
        draft.add(listener, at: asked.position)
    }

    private mutating func addRefusals() {
        let refusals = Dictionary(grouping: refusals, by: \.port)
        for (place, asked) in places where !asked.routes.isEmpty {
            // Whoever asks for one of these very names is decided about already.
            var decided = Set(asked.routes.flatMap(\.route.match.serverNames))
            for refusal in refusals[place.port] ?? [] where refusal.isHTTP ? asked.readsHTTP : asked.readsHello {
                guard decided.insert(refusal.name).inserted else { continue }
                places[place]!.routes.append((refusal.route, refusal.position))
            }
        }
    }

    /// Where a port is listened on at all addresses there is no second listener for one of them.
    private mutating func gatherAddresses() {
        for (place, asked) in places.sorted(by: { $0.key < $1.key }) where place.address != nil {
            let everywhere = Place(port: place.port, address: nil)
            guard places[everywhere] != nil else { continue }
            places[everywhere]!.routes += asked.routes
            places[everywhere]!.readsHello = places[everywhere]!.readsHello || asked.readsHello
            places[place] = nil
        }
    }

    private func append(_ asked: Asked, to listener: inout Listener, _ draft: ConfigurationDraft) {
        var names = Set(listener.routes.map(\.name))
        for (route, position) in asked.routes {
            // One that is meant for several addresses stands once where these are gathered.
            if !names.insert(route.name).inserted, listener.routes.contains(route) { continue }
            let part = ConfigurationDraft.part(listener: listener.name, route: route.name)
            if draft.declare(part, at: position) { listener.routes.append(route) }
        }
    }
}

extension Listener {
    fileprivate var isOnAllAddresses: Bool { address.ip == .v4Any || address.ip == .v6Any }
}
