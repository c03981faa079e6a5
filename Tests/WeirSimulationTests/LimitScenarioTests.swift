import Synchronization
import Testing
import WeirEngine
import WeirModel
import WeirNet
import WeirTelemetry
import WeirTesting

/// Rates (T-14), and accepting that pauses and goes on (U-04, U-06, T-13, P-11).
@Suite struct LimitScenarioTests {
    private func reasons(_ proxy: SimulatedProxy) -> [String: Int] {
        proxy.records.reduce(into: [:]) { $0[proxy.reason($1), default: 0] += 1 }
    }

    private func shortages(_ proxy: SimulatedProxy, _ kind: Shortage) -> UInt64 {
        proxy.cells.value(WorkerCell.shortages + Int32(kind.rawValue))
    }

    private func listenerCell(_ proxy: SimulatedProxy, _ cell: Int32) -> UInt64 {
        proxy.cells.value(proxy.registry.listener("main") + cell)
    }

    @Test func aClientIsHeldToItsRateAndOthersAreNot() throws {
        let scene = Scene { listener, _ in listener.limits.ratePerClient = RateLimit(10, burst: 3) }
        let proxy = scene.start()
        func arrivals(_ count: Int, from address: String) {
            for _ in 0..<count {
                _ = proxy.client(hello(), from: "\(address):\(50_000 + proxy.driver.connections.count)")
            }
            proxy.run(for: .milliseconds(1))
        }
        arrivals(8, from: "10.1.0.1")
        #expect(proxy.upstreams.count == 3)
        #expect(reasons(proxy) == ["local_client_rate": 5])
        #expect(proxy.records.allSatisfy { $0.status == 503 })
        arrivals(3, from: "10.1.0.2")
        #expect(proxy.upstreams.count == 6)
        // Two more tenths of a second, two more sessions.
        proxy.run(for: .milliseconds(200))
        arrivals(8, from: "10.1.0.1")
        #expect(proxy.upstreams.count == 8)
    }

    /// Addresses of one /64 are one client.
    @Test func addressesOfOneNetworkShareARate() throws {
        var scene = Scene { listener, _ in
            listener.address = at("[fd00::1]:443")
            listener.limits.ratePerClient = RateLimit(1, burst: 2)
        }
        scene.sizes.sessionCountMax = 64
        let proxy = scene.start()
        for host in 1...6 { _ = proxy.client(hello(), from: "[fd00:1::\(host)]:50000", to: at("[fd00::1]:443")) }
        _ = proxy.client(hello(), from: "[fd00:1:0:1::1]:50000", to: at("[fd00::1]:443"))
        proxy.run(for: .milliseconds(1))
        #expect(proxy.upstreams.count == 3)
        #expect(reasons(proxy) == ["local_client_rate": 4])
    }

    @Test func aReloadToAHigherRateHoldsAtOnce() throws {
        let proxy = Scene { listener, _ in listener.limits.rate = RateLimit(1, per: .seconds(3600), burst: 2) }.start()
        func arrivals(_ count: Int) {
            for _ in 0..<count {
                _ = proxy.client(hello(), from: "10.1.0.1:\(50_000 + proxy.driver.connections.count)")
            }
            proxy.run(for: .milliseconds(1))
        }
        arrivals(4)
        #expect(proxy.upstreams.count == 2)
        #expect(reasons(proxy) == ["local_listener_rate": 2])
        var next = proxy.configuration
        next.listeners[0].limits.rate = RateLimit(1000, burst: 4)
        proxy.reload(next)
        arrivals(1)
        proxy.run(for: .milliseconds(20))
        arrivals(4)
        #expect(proxy.upstreams.count == 6)
    }

    /// U-04
    @Test func acceptPausesWhileCompletionsOverflow() throws {
        let proxy = Scene().start()
        _ = proxy.client(hello())
        #expect(proxy.run { proxy.upstreams.count == 1 })
        proxy.driver.overflow()
        // Somebody else's completion ends the turn that hears of it.
        proxy.send("more", proxy.upstreams[0])
        #expect(proxy.run { listenerCell(proxy, ListenerCell.acceptPauses) == 1 })
        proxy.turn()
        let late = proxy.client(hello(), from: "10.1.0.2:50000")
        proxy.run(for: .milliseconds(5))
        #expect(late.openedAt == nil)
        #expect(shortages(proxy, .completions) == 1)
        #expect(proxy.run(within: .milliseconds(20)) { late.openedAt != nil })
        #expect(listenerCell(proxy, ListenerCell.acceptResumes) == 1)
        // Who was there has felt nothing.
        proxy.send("and more", proxy.upstreams[0])
        #expect(proxy.run { text(proxy.driver.connections[0].received) == "moreand more" })
    }

    /// T-13
    @Test func acceptPausesUntilThereIsMemoryAgainWithoutSpinning() throws {
        let proxy = Scene().start()
        let early = proxy.client(hello())
        #expect(proxy.run { proxy.upstreams.count == 1 })
        proxy.limits.isMemoryShort.store(true, ordering: .relaxed)
        proxy.driver.wake()
        proxy.turn()
        proxy.turn()
        let late = proxy.client(hello(), from: "10.1.0.2:50000")
        let turnCount = proxy.cells.value(WorkerCell.turns)
        proxy.run(for: .seconds(10))
        #expect(late.openedAt == nil)
        #expect(proxy.cells.value(WorkerCell.turns) - turnCount < 60)
        #expect(shortages(proxy, .memory) == 1)
        proxy.send("still here", early)
        #expect(proxy.run { text(Array(proxy.upstreams[0].received.suffix(10))) == "still here" })
        proxy.limits.isMemoryShort.store(false, ordering: .relaxed)
        #expect(proxy.run(within: .milliseconds(500)) { proxy.upstreams.count == 2 })
        #expect(listenerCell(proxy, ListenerCell.acceptPauses) == listenerCell(proxy, ListenerCell.acceptResumes))
    }

    /// P-11: descriptors that our own sessions give back are used at once, not when the pause is over.
    @Test func acceptGoesOnWithTheFirstDescriptorsThatComeBack() throws {
        let proxy = Scene().start()
        let first = proxy.client(hello())
        #expect(proxy.run { proxy.upstreams.count == 1 })
        proxy.driver.descriptorLimit = proxy.driver.openCount
        let second = proxy.client(hello(), from: "10.1.0.2:50000")
        // Long enough for the longest pause.
        proxy.run(for: .seconds(5))
        #expect(second.openedAt == nil)
        #expect(shortages(proxy, .descriptors) > 0)
        proxy.driver.abort(first)
        #expect(proxy.run(within: .milliseconds(5)) { proxy.upstreams.count == 2 })
    }

    /// P-11: where connects find no descriptor, accepting more would only refuse more.
    @Test func acceptPausesWhenConnectsFindNoDescriptor() throws {
        let proxy = Scene().start()
        proxy.driver.descriptorLimit = proxy.driver.openCount + 1
        _ = proxy.client(hello())
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(proxy.onlyReason == "local_descriptors_exhausted")
        #expect(listenerCell(proxy, ListenerCell.acceptPauses) > 0)
    }

    /// P-13
    @Test func aConnectWithoutSourcePortSaysSo() throws {
        var scene = Scene()
        scene.faults.noSourcePort = 1000
        let proxy = scene.start()
        let client = proxy.client(hello())
        #expect(proxy.run(within: .milliseconds(10)) { client.sawEndAt != nil })
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(proxy.onlyReason == "local_source_exhausted")
        #expect(shortages(proxy, .sourcePorts) == 1)
        // The next may go elsewhere: accepting does not pause.
        #expect(listenerCell(proxy, ListenerCell.acceptPauses) == 0)
    }

    /// P-12: each direction that stopped for want of a buffer goes on or ends.
    @Test func everyPauseForWantOfABufferIsOver() throws {
        var scene = Scene()
        scene.sizes.largeBufferCount = 4
        scene.sizes.bufferRingCount = 4
        let proxy = scene.start()
        proxy.onUpstream = { proxy.send("welcome", $0) }
        let clients = (0..<40).map { proxy.client(hello(), from: "10.1.0.1:\(50_000 + $0)") }
        #expect(proxy.run { clients.allSatisfy { text($0.received) == "welcome" } })
        for client in clients { proxy.driver.abort(client) }
        #expect(proxy.run { proxy.records.count == 40 })
        proxy.run(for: .seconds(2))
        #expect(proxy.cells.value(WorkerCell.receivePauses) > 0)
        #expect(proxy.cells.value(WorkerCell.receivePauses) == proxy.cells.value(WorkerCell.receiveResumes))
    }
}
