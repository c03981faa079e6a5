import WeirModel
import WeirNet

/// The listeners that manifests ask for, by port, as the readers of their kinds add to them.
///
/// Native YAML may have its own listener for a port (`manifest_port`), which then gets what is asked for there.
struct ManifestListeners {
    /// Whose documents ask. Each of them tells its own apart, before it adds them.
    enum Reader {
        case streamServices
        case ingress
        case gatewayAPI
        case istio
    }

    private struct AskedRoute {
        var route: Route
        var position: SourcePosition
        /// nil: a refusal that leaves every name to whoever leads it on.
        var reader: Reader?
        /// Where its document wants it.
        var address: IPAddress?
    }

    private struct Asked {
        var position: SourcePosition
        var routes: [AskedRoute] = []
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
        var place: Place
        var isHTTP: Bool
        var position: SourcePosition
    }

    /// Whose documents are being read.
    var reader = Reader.streamServices
    private let address: IPAddress?
    private var places: [Place: Asked] = [:]
    private var refusals: [Refusal] = []
    private var idles: [UInt16: Duration] = [:]
    private var claims: Set<UInt16> = []
    /// Ports that listeners of native YAML serve.
    private var taken: Set<UInt16> = []

    /// `address`: where manifests are listened for; nil: at all addresses.
    init(address: IPAddress?) { self.address = address }

    private func place(_ port: UInt16, _ address: IPAddress?) -> Place {
        Place(port: port, address: address == self.address ? nil : address)
    }

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
        let place = place(port, address)
        if places[place] == nil { places[place] = Asked(position: position) }
        claim(port)
    }

    /// Adds a route; among equals the first added takes a connection. Its listener reads ClientHellos where it asks for a
    /// server name or ALPN, HTTP heads where `isHTTP`.
    mutating func add(
        _ route: Route, port: UInt16, address: IPAddress? = nil, isHTTP: Bool = false, at position: SourcePosition
    ) {
        open(port, address: address, at: position)
        let place = place(port, address)
        places[place]!.routes.append(
            AskedRoute(route: route, position: position, reader: reader, address: place.address))
        if isHTTP {
            places[place]!.readsHTTP = true
        } else if !route.match.serverNames.isEmpty || !route.match.alpn.isEmpty {
            places[place]!.readsHello = true
        }
    }

    /// Keeps the name from the wildcards of others: a document has it at this port, but cannot be done. Where somebody leads
    /// the very same name on, that holds; where nobody asks for hellos (`isHTTP`: heads) at the place, nothing is opened.
    mutating func refuse(
        _ name: ServerNamePattern, port: UInt16, address: IPAddress? = nil, isHTTP: Bool = false, route: String,
        at position: SourcePosition
    ) {
        let action = RouteAction.deny(isHTTP ? .accessDenied : .unrecognizedName)
        let route = Route(name: route, match: RouteMatch(serverNames: [name]), action: action)
        claim(port)
        refusals.append(
            Refusal(name: name, route: route, place: place(port, address), isHTTP: isHTTP, position: position))
    }

    /// Clients of this port are read a ClientHello of although no route asks for it yet.
    mutating func readHello(_ port: UInt16, address: IPAddress? = nil, at position: SourcePosition) {
        open(port, address: address, at: position)
        places[place(port, address)]!.readsHello = true
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
        gatherTaken(draft, settings)
        addRefusals()
        reportShadowed(draft.findings)
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
            let what = place.address.map { "\(SocketAddress($0, port: port))" } ?? "port \(port)"
            draft.findings.notice(asked.position, "\(what) is not listened on: no route leads from it")
            return
        }
        let host = place.address ?? settings.address ?? .v6Any
        if let own = draft.configuration.listeners.first(where: { $0.address.port == port && $0.has(host) }) {
            let advice = "`manifest_port: \(port)` there takes its routes over"
            let address = host.isUnspecified ? "on all addresses" : "at \(host)"
            draft.findings.error(
                asked.position, "listener \(quoted(own.name)) has port \(port) \(address) already; \(advice)")
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
        // Whoever asks for one of these very names there is decided about already.
        var decided: [Place: Set<Decided>] = [:]
        for refusal in refusals {
            var (place, route) = (refusal.place, refusal.route)
            if let address = place.address, places[place]?.routes.isEmpty ?? true {
                // Whoever comes to an address that has no listener of its own comes to the one for all of them.
                place.address = nil
                // Where PROXY headers are taken the destination is theirs, and no address of this machine.
                let isGathered = places[place]?.acceptProxy != nil || taken.contains(place.port)
                if !isGathered { route.match.destinations = [CIDR(address, prefixLength: address.bitCount)] }
            }
            guard reads(place, isHTTP: refusal.isHTTP) else { continue }
            let everywhere = Decided(name: refusal.name, destinations: [])
            let here = Decided(name: refusal.name, destinations: route.match.destinations)
            if decided[place] == nil { decided[place] = decisions(at: place) }
            guard !decided[place]!.contains(everywhere), decided[place]!.insert(here).inserted else { continue }
            places[place]!.routes.append(
                AskedRoute(route: route, position: refusal.position, address: refusal.place.address))
        }
    }

    private struct Decided: Hashable {
        var name: ServerNamePattern
        /// Empty: all.
        var destinations: [CIDR]
    }

    private func decisions(at place: Place) -> Set<Decided> {
        let names = places[place]?.routes.lazy.flatMap(\.route.match.serverNames) ?? []
        return Set(names.map { Decided(name: $0, destinations: []) })
    }

    /// Whether what such a refusal names is read there, for routes that are there.
    private func reads(_ place: Place, isHTTP: Bool) -> Bool {
        guard let asked = places[place], !asked.routes.isEmpty else { return false }
        return isHTTP ? asked.readsHTTP : asked.readsHello
    }

    /// A listener of native YAML has what is asked for at its port, whatever addresses documents want there.
    private mutating func gatherTaken(_ draft: ConfigurationDraft, _ settings: ManifestSettings) {
        taken = Set(settings.listeners.filter { !$0.value.isEmpty }.keys)
        for (place, asked) in places.sorted(by: { $0.key < $1.key }) where taken.contains(place.port) {
            guard let address = place.address else { continue }
            let names = settings.listeners[place.port]!.map { quoted(draft.configuration.listeners[$0.index].name) }
            draft.findings.notice(
                asked.position,
                "\(address) is not listened on at port \(place.port): listener "
                    + "\(names.joined(separator: " and ")) has its routes")
            places[place] = nil
            var all = places[Place(port: place.port, address: nil)] ?? Asked(position: asked.position)
            all.routes += asked.routes
            all.readsHello = all.readsHello || asked.readsHello
            all.readsHTTP = all.readsHTTP || asked.readsHTTP
            all.acceptProxy = all.acceptProxy ?? asked.acceptProxy
            places[Place(port: place.port, address: nil)] = all
        }
    }

    /// Says which routes get nothing of a name, or of a port, because documents of another kind, or for another address,
    /// had it first.
    private func reportShadowed(_ findings: Findings) {
        for (place, asked) in places.sorted(by: { $0.key < $1.key }) {
            // nil stands for what has no name.
            var owners: [ServerNamePattern?: AskedRoute] = [:]
            for loser in asked.routes where loser.reader != nil {
                let names = loser.route.match.serverNames
                for name in names.isEmpty ? [nil] : names.map({ $0 }) {
                    guard let owner = owners[name] else {
                        if loser.route.match.isNameOnly { owners[name] = loser }
                        continue
                    }
                    if owner.reader == loser.reader, owner.address == loser.address { continue }
                    // One that is meant for several addresses stands once where these are gathered.
                    if owner.route == loser.route { continue }
                    let what = name.map { "\(quoted($0.text)) at port \(place.port)" } ?? "port \(place.port)"
                    findings.unsupported(
                        loser.position, "\(loser.route.name): \(what) is \(owner.route.name)'s already")
                }
            }
        }
    }

    private func append(_ asked: Asked, to listener: inout Listener, _ draft: ConfigurationDraft) {
        var names = Set(listener.routes.map(\.name))
        for asked in asked.routes {
            var route = asked.route
            if !names.insert(route.name).inserted {
                // One that is meant for several addresses stands once where these are gathered, unless it says something
                // else at each.
                if listener.routes.contains(route) { continue }
                if let address = asked.address { route.name += " at \(address)" }
                names.insert(route.name)
            }
            guard draft.declare(route: route.name, of: listener.name, at: asked.position) else { continue }
            listener.routes.append(route)
        }
    }
}

extension Listener {
    /// Whether it is in the way of another at this address, or at all of them.
    fileprivate func has(_ host: IPAddress) -> Bool {
        address.ip == host || address.ip.isUnspecified && host.isUnspecified
    }
}
