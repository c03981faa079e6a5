import WeirExplain
import WeirModel
import WeirNet
import WeirUpstream

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

func route(
    _ name: String, _ names: [String] = [], clients: [String] = [], alpn: [String] = [],
    to action: RouteAction = .forward(DynamicForward(port: .fixed(443)))
) -> Route {
    Route(
        name: name, match: RouteMatch(serverNames: names.map(pattern), clients: clients.map(block), alpn: alpn),
        action: action)
}

/// One listener, "main", for everybody.
func configuration(_ routes: [Route], _ clusters: [Cluster] = [], change: (inout Listener) -> Void = { _ in })
    -> Configuration
{
    var configuration = Configuration()
    var listener = Listener(name: "main", address: socketAddress("127.0.0.1:443"))
    listener.clients = .everyone
    listener.routes = routes
    change(&listener)
    configuration.listeners = [listener]
    configuration.clusters = clusters
    return configuration
}

func cluster(_ name: String, _ endpoints: [String]) -> Cluster {
    Cluster(name: name, endpoints: endpoints.map { Endpoint(socketAddress($0)) })
}

func inquiry(_ name: String = "", client: String = "10.1.2.3", alpn: [String] = []) -> Inquiry {
    var inquiry = Inquiry(peer: ip(client))
    inquiry.serverName = serverName(name)
    for name in alpn {
        let bytes = Array(name.utf8)
        inquiry.alpn.append(bytes.span)
    }
    return inquiry
}

func inquiry(_ name: String = "", peer: String, header: String) -> Inquiry {
    var inquiry = inquiry(name, client: peer)
    inquiry.origin = .header(Array(header.utf8))
    return inquiry
}

/// What "main" does; names have the addresses given.
func decision(
    _ inquiry: Inquiry, _ configuration: Configuration, names: [String: [String]]? = nil
) -> Explanation {
    let explainer = Explainer(configuration)
    let explanation = explainer.decision(for: inquiry, at: "main") { name in
        guard let names else { return nil }
        guard let found = names[name.description] else { return Answer(.noSuchName) }
        var addresses = ResolvedAddresses()
        for address in found { addresses.append(ip(address)) }
        return Answer(status: .found, addresses: addresses, expires: .distantFuture)
    }
    guard let explanation else { preconditionFailure("there is no listener main") }
    return explanation
}
