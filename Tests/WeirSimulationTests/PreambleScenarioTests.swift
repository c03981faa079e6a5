import Testing
import WeirEngine
import WeirMemory
import WeirModel
import WeirNet
import WeirTelemetry
import WeirTesting
import WeirWire

@Suite struct PreambleScenarioTests {
    private func proxyScene(_ change: (inout Listener, inout Cluster) -> Void = { _, _ in }) -> Scene {
        Scene { listener, cluster in
            listener.acceptProxy = AcceptProxy(from: [CIDR(ip("10.1.0.0"), prefixLength: 16)])
            listener.clients = .everyone
            cluster.upstream.sendProxy = SendProxy(.v2)
            change(&listener, &cluster)
        }
    }

    private func expectAllHome(_ proxy: SimulatedProxy) {
        proxy.run(for: .milliseconds(10))
        #expect(proxy.outstanding() == [])
    }

    // CH-01
    @Test func helloMayComeInAnyPieces() throws {
        let proxy = Scene().start()
        let client = proxy.client()
        for byte in hello() {
            proxy.send([byte], client)
            proxy.run(for: .microseconds(500))
        }
        #expect(proxy.run { proxy.upstreams.first?.received == hello() })
    }

    // CH-04 to CH-21: every refusal and its alert, through the whole engine
    @Test(arguments: HelloVector.all.filter { !$0.isAccepted && $0.byteCountMax == 16384 })
    func refusedHelloGetsItsAlert(vector: HelloVector) throws {
        guard case .refused(let refusal) = vector.expected else { return }
        let proxy = Scene().start()
        let client = proxy.client()
        var rest = vector.bytes[...]
        while !rest.isEmpty {
            let piece = rest.prefix(client.sendRoom)
            proxy.driver.write(piece, on: client)
            rest = rest.dropFirst(piece.count)
            proxy.run(for: .milliseconds(5))
        }
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.records.count == 1 && client.isOver })
        #expect(proxy.onlyReason == refusal.label)
        #expect(client.received == refusal.alert.map(alert) ?? [])
        #expect((client.sawResetAt != nil) == (refusal.alert == nil))
        #expect(proxy.connects.isEmpty)
        expectAllHome(proxy)
    }

    // CH-32
    @Test func unknownNameGetsItsAlert() throws {
        let proxy = Scene().start()
        let client = proxy.client(hello("unknown.test"))
        #expect(proxy.run { client.hasReadEnd })
        #expect(client.received == alert(.unrecognizedName))
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.onlyReason == "local_no_route" })
    }

    @Test func deniedNameGetsItsAlert() throws {
        let proxy = Scene().start()
        let client = proxy.client(hello("denied.test"))
        #expect(proxy.run { client.hasReadEnd })
        #expect(client.received == alert(.accessDenied))
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.onlyReason == "local_route_denied" })
    }

    @Test func refusedClientThatGoesOnSendingStillGetsItsAlert() throws {
        let proxy = Scene().start()
        let client = proxy.client(hello("denied.test") + pattern(byteCount: 40_000))
        for _ in 0..<20 {
            proxy.send(pattern(byteCount: min(client.sendRoom, 5000)), client)
            proxy.run(for: .milliseconds(10))
        }
        #expect(client.hasReadEnd)
        #expect(client.received == alert(.accessDenied))
        proxy.run(for: .seconds(2))
        expectAllHome(proxy)
    }

    // PP-25
    @Test func untrustedPeerIsClosedBeforeItIsRead() throws {
        let proxy = proxyScene().start()
        let client = proxy.client(from: "10.2.0.1:50000")
        #expect(proxy.run { client.sawResetAt != nil })
        #expect(proxy.onlyReason == "pp_untrusted")
        expectAllHome(proxy)
    }

    // PP-06, PP-27
    @Test func addressOfTheHeaderIsSentOn() throws {
        let proxy = proxyScene().start()
        _ = proxy.client(ProxyHeaderBuilder().bytes + hello())
        #expect(proxy.run { proxy.upstreams.first?.received == ProxyHeaderBuilder().bytes + hello() })
        #expect(proxy.limits.sessions.value == 1)
    }

    // PP-03, PP-28
    @Test func bytesBehindTheHeaderArePayload() throws {
        let scene = proxyScene { listener, _ in
            listener.detect = []
            listener.routes = [Route(name: "all", action: .cluster("back"))]
        }
        let proxy = scene.start()
        let twice = ProxyHeaderBuilder().bytes + ProxyHeaderBuilder().bytes
        _ = proxy.client(twice)
        #expect(proxy.run { proxy.upstreams.first?.received == twice })
    }

    // PO-05, PP-16
    @Test(arguments: [
        ProxyHeaderBuilder(command: 0x20, family: 0, addresses: []).bytes, Array("PROXY UNKNOWN\r\n".utf8),
    ])
    func localConnectionIsSentOnAsLocal(header: [UInt8]) throws {
        let proxy = proxyScene().start()
        _ = proxy.client(header + hello())
        let local = ProxyHeaderBuilder(command: 0x20, family: 0, addresses: []).bytes
        #expect(proxy.run { proxy.upstreams.first?.received == local + hello() })
    }

    // T-07
    @Test func headerThatWeMadeOurselvesIsRefused() throws {
        let scene = proxyScene { _, cluster in cluster.upstream.sendProxy?.uniqueID = true }
        let proxy = scene.start()
        _ = proxy.client(ProxyHeaderBuilder().bytes + hello())
        #expect(proxy.run { (proxy.upstreams.first?.received.count ?? 0) > hello().count })
        proxy.run(for: .milliseconds(10))
        let sentOut = proxy.upstreams[0].received
        let again = proxy.client(sentOut, from: "10.1.0.2:50001")
        #expect(proxy.run { again.sawResetAt != nil })
        #expect(proxy.onlyReason == "local_destination_denied")
        #expect(proxy.connects.count == 1)
    }

    // PP-04
    @Test(arguments: [false, true])
    func peerThatLeavesInItsHeaderOpensNothing(isReset: Bool) throws {
        let proxy = proxyScene().start()
        let client = proxy.client(Array(ProxyHeaderBuilder().bytes.dropLast()))
        proxy.run(for: .milliseconds(10))
        if isReset { proxy.driver.abort(client) } else { proxy.driver.shutDown(client) }
        #expect(proxy.run { proxy.onlyReason == "pp_abort" })
        #expect(proxy.connects.isEmpty)
        expectAllHome(proxy)
    }

    @Test func clientThatLeavesInItsHelloOpensNothing() throws {
        let proxy = Scene().start()
        let client = proxy.client(Array(hello().dropLast()))
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.onlyReason == "downstream_preamble_abort" })
        #expect(proxy.connects.isEmpty)
        expectAllHome(proxy)
    }

    @Test func requestIsRoutedByItsHost() throws {
        let scene = Scene { listener, _ in listener.detect = [.tls, .http] }
        let proxy = scene.start()
        let request = "GET / HTTP/1.1\r\nHost: Good.Test\r\n\r\n"
        _ = proxy.client(Array(request.utf8))
        #expect(proxy.run { proxy.upstreams.first.map { text($0.received) } == request })
        let refused = proxy.client(Array("GET / HTTP/1.1\r\n\r\n".utf8), from: "10.1.0.2:50001")
        #expect(proxy.run { refused.hasReadEnd })
        #expect(text(refused.received).hasPrefix("HTTP/1.1 400 Bad Request\r\n"))
    }
}
