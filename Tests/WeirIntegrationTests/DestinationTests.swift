import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// S1, S3-1: routes by the address and port that the client wanted to reach.
@Suite struct DestinationTests {
    private static func block(_ host: UInt8) -> CIDR { CIDR(IPAddress(127, 0, 0, host), prefixLength: 32) }

    /// To `cluster`, for clients that want to go to this block or this port.
    private static func route(_ cluster: String, _ block: CIDR? = nil, port: UInt16? = nil) -> Route {
        var route = Route.to(cluster)
        route.match.destinations = block.map { [$0] } ?? []
        route.match.destinationPorts = port.map { [$0...$0] } ?? []
        return route
    }

    private func answer(_ proxy: Proxy, _ host: UInt8, _ header: String = "") throws -> String {
        let client = try TestConnection.connect(to: SocketAddress(IPAddress(127, 0, 0, host), port: proxy.address.port))
        try client.send(Array(header.utf8) + HelloBuilder().records())
        return String(decoding: try client.receiveAll(), as: UTF8.self)
    }

    @Test func aListenerOnAllAddressesRoutesByTheOneThatIsConnectedTo() throws {
        let two = try TestOrigin.answering("two")
        let other = try TestOrigin.answering("other")
        let configuration = Configuration.listening(Self.route("two", Self.block(2)), .to("other"))
            .cluster("two", two.address).cluster("other", other.address)
            .adjusted { $0.main.address = SocketAddress(.v4Any, port: 0) }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try answer(proxy, 2) == "two")
        #expect(try answer(proxy, 3) == "other")
    }

    /// PO-05: a header without addresses says nothing of where its client wanted to go.
    @Test func theHeadersDestinationGoesBeforeTheSockets() throws {
        let named = try TestOrigin.answering("named")
        let port = try TestOrigin.answering("port")
        let socket = try TestOrigin.answering("socket")
        let far = CIDR(IPAddress(198, 51, 100, 0), prefixLength: 24)
        let configuration = Configuration.listening(
            Self.route("named", far, port: 443), Self.route("port", port: 25), Self.route("socket", Self.block(2)),
            .deny(.close)
        ).cluster("named", named.address).cluster("port", port.address).cluster("socket", socket.address).adjusted {
            $0.main.address = SocketAddress(.v4Any, port: 0)
            $0.main.acceptProxy = AcceptProxy(from: [CIDR(IPAddress(127, 0, 0, 0), prefixLength: 8)])
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try answer(proxy, 2, "PROXY TCP4 10.0.0.1 198.51.100.7 4000 443\r\n") == "named")
        #expect(try answer(proxy, 2, "PROXY TCP4 10.0.0.1 198.51.100.7 4000 25\r\n") == "port")
        #expect(try answer(proxy, 2, "PROXY TCP4 10.0.0.1 198.51.100.7 4000 80\r\n") == "")
        #expect(try answer(proxy, 2, "PROXY UNKNOWN\r\n") == "socket")
    }
}
