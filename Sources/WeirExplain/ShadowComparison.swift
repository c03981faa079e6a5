import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

/// What a listener does with a session before anything is resolved or connected to.
package enum RouteOutcome: Sendable, Equatable {
    /// Nobody listens there.
    case notListening
    /// The PROXY header, or its absence, is not what the listener takes from that peer.
    case peerRefused
    /// The listener's `clients` keep it out.
    case clientDenied
    case noRoute
    /// `lead`: where the route leads, or how it refuses.
    case taken(route: String, lead: String)
}

extension RouteOutcome: CustomStringConvertible {
    /// Names are quoted and escaped.
    package var description: String {
        switch self {
        case .notListening: "nobody listens there"
        case .peerRefused: "the peer is refused"
        case .clientDenied: "the client is refused"
        case .noRoute: "no route"
        case .taken(let route, let lead): "route \(route.quoted), \(lead)"
        }
    }
}

/// Two configurations, the one in force and its shadow, that are asked about the same sessions: the workers' own look-up,
/// on tables compiled as theirs are.
package struct ShadowComparison: Sendable {
    /// A session that has ended, as far as its record has it: neither ALPN nor the destination of a PROXY header.
    package struct Session: Sendable {
        package var listener: String
        /// That took it; nil: none did.
        package var route: String?
        package var serverName: ServerName
        package var client: IPAddress
        package var peer: IPAddress
        /// Whether a PROXY header came and was believed.
        package var isProxied: Bool
        /// What the client connected to.
        package var destination: SocketAddress

        package init(
            listener: String, route: String?, serverName: ServerName, client: IPAddress, peer: IPAddress,
            isProxied: Bool, destination: SocketAddress
        ) {
            self.listener = listener
            self.route = route
            self.serverName = serverName
            self.client = client
            self.peer = peer
            self.isProxied = isProxied
            self.destination = destination
        }
    }

    package enum Result: Sendable, Equatable {
        case same
        case different(live: RouteOutcome, shadow: RouteOutcome)
        /// The worker decided otherwise than the record tells: by what that lacks, or by another configuration.
        case unknown
    }

    private enum NameSource: Equatable {
        case firstBytes(Set<DetectedProtocol>)
        case proxyHeader
        case nowhere
    }

    /// A configuration with where its routes lead, in the order of the table.
    private struct Side: Sendable {
        let explainer: Explainer
        let leads: [String]

        init(_ explainer: Explainer) {
            self.explainer = explainer
            leads = explainer.configuration.listeners.flatMap { $0.routes.map(\.action.lead) }
        }

        /// Where a listener's server names come from.
        func source(at slot: Int) -> NameSource {
            let listener = explainer.configuration.listeners[slot]
            if !listener.detect.isEmpty { return .firstBytes(listener.detect) }
            return listener.acceptProxy == nil ? .nowhere : .proxyHeader
        }

        func outcome(of session: Session, named serverName: ServerName, at slot: Int) -> RouteOutcome {
            withExtendedLifetime(explainer.table) {
                let view = explainer.table.view
                let trusts = view.trustsProxyPeer(listener: slot, session.peer)
                guard view.listeners[slot].acceptsProxy ? trusts && session.isProxied : !session.isProxied else {
                    return .peerRefused
                }
                guard view.allowsClient(listener: slot, session.client) else { return .clientDenied }
                let route = view.route(
                    listener: slot, name: serverName, client: session.client, alpn: .none,
                    destination: session.destination)
                guard let route else { return .noRoute }
                return .taken(route: explainer.table.routeName(route), lead: leads[route])
            }
        }
    }

    private let live: Side
    private let shadow: Side
    /// By name of the live listener; nil: the shadow does not listen there.
    private let slots: [String: (live: Int, shadow: Int?)]

    package init(live: Explainer, shadow: Explainer) {
        self.live = Side(live)
        self.shadow = Side(shadow)
        var slots: [String: (live: Int, shadow: Int?)] = [:]
        for (slot, listener) in live.configuration.listeners.enumerated() {
            // Sessions come to an address, whatever its listener is called.
            let heir = shadow.configuration.listeners.firstIndex { $0.socketKey == listener.socketKey }
            slots[listener.name] = (slot, heir)
        }
        self.slots = slots
    }

    /// The name that the shadow would hear where the live listener heard `name`; nil: nobody knows.
    private func heard(by shadow: NameSource, _ live: NameSource, _ name: ServerName) -> ServerName? {
        switch (live, shadow) {
        case (_, .nowhere): ServerName.none
        case (let one, let other) where one == other: name
        case (.firstBytes(let few), .firstBytes(let many)) where few.isSubset(of: many) && !name.isNone: name
        default: nil
        }
    }

    package func result(for session: Session) -> Result {
        guard let (live, shadow) = slots[session.listener] else { return .unknown }
        let before = self.live.outcome(of: session, named: session.serverName, at: live)
        var route: String?
        if case .taken(let name, _) = before { route = name }
        guard route == session.route else { return .unknown }
        guard let shadow else { return .different(live: before, shadow: .notListening) }
        let name = heard(by: self.shadow.source(at: shadow), self.live.source(at: live), session.serverName)
        let after = self.shadow.outcome(of: session, named: name ?? .none, at: shadow)
        switch after {
        case .taken, .noRoute: if name == nil { return .unknown }
        case .notListening, .peerRefused, .clientDenied: break
        }
        return before == after ? .same : .different(live: before, shadow: after)
    }
}

extension RouteAction {
    /// Where it leads, in few words.
    fileprivate var lead: String {
        switch self {
        case .cluster(let name): "cluster \(name.quoted)"
        case .split(let shares):
            "one of " + shares.map { "\($0.cluster.quoted) \($0.weight)" }.joined(separator: ", ")
        case .forward(let forward):
            switch forward.port {
            case .fixed(let port): "server name, port \(port)"
            case .listener: "server name"
            }
        case .proxyDestination: "destination of the PROXY header"
        case .originalDestination: "original destination"
        case .deny(let denial): "denied: \(denial.word)"
        }
    }
}
