import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// S1: where a client wanted to go before it was led here. Redirections are tested with the peers, in a network of their own.
@Suite struct OriginalDestinationTests {
    private let original = Route(name: "original", action: .originalDestination(UpstreamOptions()))
    private let everyLoopback = CIDR(IPAddress(127, 0, 0, 0), prefixLength: 8)

    /// T-07.
    @Test func aConnectionThatNobodyRedirectedIsRefused() throws {
        let configuration = Configuration.listening(original).adjusted {
            $0.destinations.allow = [.init(everyLoopback)]
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try proxy.answer(to: "a.test") == alert(49))
        proxy.expectClosed(1, "local_destination_denied")
        #expect(proxy.metric("weir_guard_denied_total", "rule=\"own_listener\"") == 1)
    }

    @Test func theDestinationOfAHeaderIsConnectedToOnceTheGuardHasPassedIt() throws {
        let origin = try TestOrigin.answering("found")
        let configuration = Configuration.listening(original).adjusted {
            $0.main.acceptProxy = AcceptProxy(from: [everyLoopback])
            $0.destinations.allow = [.init(everyLoopback)]
            $0.destinations.deny = [.init(CIDR(IPAddress(127, 0, 0, 2), prefixLength: 32))]
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        func answer(_ address: String) throws -> [UInt8] {
            let client = try proxy.connect()
            let header = "PROXY TCP4 10.0.0.1 \(address) 4000 \(origin.address.port)\r\n"
            try client.send(Array(header.utf8) + HelloBuilder().records())
            return try client.receiveAll()
        }
        #expect(try answer("127.0.0.1") == Array("found".utf8))
        #expect(try answer("127.0.0.2") == alert(49))
        #expect(proxy.metric("weir_guard_denied_total", "rule=\"configured_deny\"") == 1)
    }
}
