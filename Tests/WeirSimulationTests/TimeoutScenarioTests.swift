import Testing
import WeirEngine
import WeirMemory
import WeirModel
import WeirNet
import WeirTelemetry
import WeirTesting

@Suite struct TimeoutScenarioTests {
    private func scene() -> Scene {
        Scene { listener, _ in
            listener.timeouts.idle = .seconds(20)
            listener.timeouts.halfClose = .seconds(3)
            listener.timeouts.hello = .seconds(2)
            listener.timeouts.preamble = .seconds(4)
        }
    }

    private func opened(_ scene: Scene) throws -> (SimulatedProxy, SimulatedConnection, SimulatedConnection) {
        let proxy = scene.start()
        let client = proxy.client(hello())
        try #require(proxy.run { proxy.upstreams.first?.received.count == hello().count })
        return (proxy, client, proxy.upstreams[0])
    }

    private func expectEnd(
        _ proxy: SimulatedProxy, _ reason: String, _ seconds: Double, since start: Instant,
        _ connections: [SimulatedConnection]
    ) throws {
        #expect(proxy.run(within: .seconds(100)) { connections.allSatisfy { $0.sawResetAt != nil } })
        #expect(proxy.onlyReason == reason)
        for connection in connections {
            let elapsed = try #require(milliseconds(from: start, to: connection.nearResetAt))
            #expect(elapsed >= seconds * 1000 && elapsed < seconds * 1000 + 20)
        }
        proxy.run(for: .seconds(1))
        #expect(proxy.outstanding() == [])
    }

    // RS-09
    @Test func quietSessionEndsAtTheIdleTimeout() throws {
        let (proxy, client, upstream) = try opened(scene())
        proxy.run(for: .seconds(15))
        proxy.send("x", upstream)
        #expect(proxy.run { client.received.count == 1 })
        try expectEnd(proxy, "local_idle_timeout", 20, since: proxy.now, [client, upstream])
    }

    // RS-09
    @Test func bytesInEitherDirectionKeepASessionOpen() throws {
        let (proxy, client, upstream) = try opened(scene())
        for round in 0..<6 {
            proxy.run(for: .seconds(15))
            proxy.send("x", round % 2 == 0 ? upstream : client)
        }
        proxy.run(for: .seconds(1))
        #expect(proxy.records.isEmpty)
        #expect(client.received.count == 3)
    }

    // RS-09
    @Test func undeliveredBytesDoNotKeepASessionOpen() throws {
        let (proxy, client, upstream) = try opened(scene())
        client.readsAtOnce = false
        for _ in 0..<10 {
            proxy.send(pattern(byteCount: upstream.sendRoom), upstream)
            proxy.run(for: .milliseconds(100))
        }
        #expect(proxy.run(within: .seconds(30)) { proxy.records.count == 1 })
        #expect(proxy.onlyReason == "local_idle_timeout")
        proxy.run(for: .seconds(1))
        #expect(client.sawResetAt != nil)
        #expect(proxy.outstanding() == [])
    }

    // RS-08
    @Test func halfClosedSessionEndsAtItsTimeout() throws {
        let (proxy, client, upstream) = try opened(scene())
        proxy.run(for: .seconds(10))
        proxy.driver.shutDown(client)
        #expect(proxy.run { upstream.hasReadEnd })
        let start = try #require(upstream.sawEndAt)
        try expectEnd(proxy, "local_half_close_timeout", 3, since: start, [upstream])
    }

    // RS-08: the end comes while a watch is in flight, as after a stall
    @Test func halfClosedSessionEndsAtItsTimeoutAfterAStall() throws {
        let (proxy, client, upstream) = try opened(scene())
        client.readsAtOnce = false
        for _ in 0..<10 {
            proxy.send(pattern(byteCount: upstream.sendRoom), upstream)
            proxy.run(for: .milliseconds(100))
        }
        proxy.driver.shutDown(upstream)
        proxy.run(for: .milliseconds(100))
        client.readsAtOnce = true
        proxy.changed(client)
        #expect(proxy.run { client.hasReadEnd })
        let start = try #require(client.sawEndAt)
        try expectEnd(proxy, "local_half_close_timeout", 3, since: start, [client])
    }

    // RS-08
    @Test func bytesKeepAHalfClosedSessionOpen() throws {
        let (proxy, client, upstream) = try opened(scene())
        proxy.driver.shutDown(client)
        for _ in 0..<10 {
            proxy.run(for: .seconds(2))
            proxy.send("x", upstream)
        }
        proxy.run(for: .seconds(1))
        #expect(proxy.records.isEmpty)
        #expect(client.received.count == 10)
    }

    // RS-09
    @Test func busySessionEndsAtTheSessionTimeout() throws {
        var scene = scene()
        scene.configuration.listeners[0].timeouts.session = .seconds(5)
        let proxy = scene.start()
        let client = proxy.client(hello())
        #expect(proxy.run { proxy.upstreams.count == 1 })
        let start = try #require(client.openedAt)
        for _ in 0..<6 {
            if client.sendRoom > 0 { proxy.send("x", client) }
            proxy.run(for: .milliseconds(900))
        }
        try expectEnd(proxy, "local_session_timeout", 5, since: start, [client, proxy.upstreams[0]])
    }

    // CH-01, claim I
    @Test func drippedHelloIsClosedAtTheDeadline() throws {
        let proxy = scene().start()
        let client = proxy.client(from: "10.1.0.1:50000")
        for byte in hello() {
            if client.sawResetAt != nil { break }
            if client.sendRoom > 0 { proxy.send([byte], client) }
            proxy.run(for: .milliseconds(100))
        }
        #expect(proxy.upstreams.isEmpty)
        let start = try #require(client.openedAt)
        try expectEnd(proxy, "downstream_preamble_timeout", 2, since: start, [client])
    }

    // CH-01
    @Test func silentClientIsClosedAtTheDeadline() throws {
        let proxy = scene().start()
        let client = proxy.client()
        #expect(proxy.run { client.openedAt != nil })
        let start = try #require(client.openedAt)
        try expectEnd(proxy, "downstream_preamble_timeout", 2, since: start, [client])
    }

    // PP-05
    @Test func silentPeerWithoutItsProxyHeaderIsClosedAtTheDeadline() throws {
        var scene = scene()
        scene.configuration.listeners[0].acceptProxy = AcceptProxy(from: [CIDR(ip("10.0.0.0"), prefixLength: 8)])
        let proxy = scene.start()
        let client = proxy.client(Array("PROXY TCP4 10.1.".utf8))
        #expect(proxy.run { client.openedAt != nil })
        let start = try #require(client.openedAt)
        try expectEnd(proxy, "pp_timeout", 2, since: start, [client])
    }

    // The clock may run ahead between two turns (a suspended machine); nothing fires twice or never.
    @Test func jumpOfTheClockEndsWhatIsDue() throws {
        let (proxy, client, upstream) = try opened(scene())
        proxy.driver.jump(3_600_000_000_000)
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(proxy.onlyReason == "local_idle_timeout")
        proxy.run(for: .seconds(1))
        #expect(client.sawResetAt != nil && upstream.sawResetAt != nil)
        #expect(proxy.outstanding() == [])
    }
}
