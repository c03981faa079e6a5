import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

/// Short spellings for the tests; text that is not what it should be traps.
func ip(_ text: String) -> IPAddress {
    guard let address = IPAddress(text) else { preconditionFailure("not an address: \(text)") }
    return address
}

func block(_ text: String) -> CIDR {
    guard let block = CIDR(text) else { preconditionFailure("not a block: \(text)") }
    return block
}

func socketAddress(_ text: String) -> SocketAddress {
    guard let address = SocketAddress(text) else { preconditionFailure("not an address: \(text)") }
    return address
}

/// The empty text is no name.
func serverName(_ text: String) -> ServerName {
    if text.isEmpty { return .none }
    guard let name = try? ServerName(text) else { preconditionFailure("not a name: \(text)") }
    return name
}

func pattern(_ text: String) -> ServerNamePattern {
    guard let pattern = try? ServerNamePattern(text) else { preconditionFailure("not a pattern: \(text)") }
    return pattern
}

func offer(_ names: String...) -> ALPNOffer {
    var offer = ALPNOffer()
    for name in names {
        let bytes = Array(name.utf8)
        offer.append(bytes.span)
    }
    return offer
}

/// A route to be recognised by its name.
func route(
    _ name: String, _ names: [String] = [], clients: [String] = [], alpn: [String] = [],
    action: RouteAction = .deny(.close)
) -> Route {
    Route(
        name: name, match: RouteMatch(serverNames: names.map(pattern), clients: clients.map(block), alpn: alpn),
        action: action)
}

func listener(_ name: String, port: UInt16 = 443, _ routes: [Route]) -> Listener {
    var listener = Listener(name: name, address: SocketAddress(.v4Any, port: port))
    listener.routes = routes
    return listener
}

func configuration(_ listeners: [Listener], _ clusters: [Cluster] = []) -> Configuration {
    var configuration = Configuration()
    configuration.listeners = listeners
    configuration.clusters = clusters
    return configuration
}

/// Compiled with slots in the order of the listeners.
func table(_ configuration: Configuration, own: [String] = [], local: [String] = []) -> RouteTable {
    var slots: [String: Int] = [:]
    for (index, listener) in configuration.listeners.enumerated() { slots[listener.name] = index }
    return RouteTable(
        compiling: configuration, slots: slots, generation: 1, ownListeners: own.map(socketAddress),
        localAddresses: local.map(ip), metricIndex: { _ in 0 })
}

extension RouteTable {
    /// The name of the route that takes the connection.
    func routeName(
        _ name: String, listener: Int = 0, client: String = "10.0.0.1", alpn: ALPNOffer = .none
    ) -> String? {
        view.route(listener: listener, name: serverName(name), client: ip(client), alpn: alpn).map { routeName($0) }
    }
}
