import Glibc
import Testing
import WeirEngine
import WeirMemory
import WeirModel
import WeirNet
import WeirSession
import WeirTelemetry
import WeirTesting
import WeirUpstream

@Suite struct ShortageScenarioTests {
    private func expectAllHome(_ proxy: SimulatedProxy) {
        proxy.run(for: .seconds(3))
        #expect(proxy.outstanding() == [])
    }

    // U-07
    @Test func sessionsShareFewBuffersAndNoneIsForgotten() throws {
        var scene = Scene()
        scene.sizes.largeBufferCount = 4
        scene.sizes.bufferRingCount = 4
        let proxy = scene.start()
        proxy.onUpstream = { proxy.send("welcome", $0) }
        let clients = (0..<40).map { proxy.client(hello(), from: "10.1.0.1:\(50_000 + $0)") }
        #expect(proxy.run { clients.allSatisfy { text($0.received) == "welcome" } })
        #expect(proxy.cells.value(WorkerCell.buffersStarved) > 0)
        for upstream in proxy.upstreams {
            proxy.send(pattern(byteCount: 50_000), upstream)
            proxy.driver.shutDown(upstream)
        }
        for client in clients { proxy.driver.shutDown(client) }
        #expect(proxy.run(within: .seconds(60)) { proxy.records.count == 40 })
        proxy.run(for: .milliseconds(10))
        #expect(clients.allSatisfy { $0.received.count == 50_007 && $0.hasReadEnd })
        expectAllHome(proxy)
    }

    // U-07: buffers come back one at a time, each to the ring, while nobody else moves
    @Test func starvedSessionWakesWhenBuffersStandInTheRingAgain() throws {
        var scene = Scene { listener, _ in listener.timeouts.idle = .seconds(600) }
        scene.sizes.largeBufferCount = 64
        scene.sizes.bufferRingCount = 64
        scene.sizes.sessionCapacity = 200
        scene.sizes.blockCount = 200
        scene.sizes.sessionCountMax = 200
        let proxy = scene.start()
        // Two chunks each wait for readers that stall: 64 of 64.
        var slow: [SimulatedConnection] = []
        for index in 0..<80 { slow.append(proxy.client(hello(), from: "10.1.0.1:\(40_000 + index)")) }
        #expect(proxy.run { proxy.upstreams.count == 80 })
        for client in slow { client.readsAtOnce = false }
        for upstream in proxy.upstreams { proxy.send(pattern(byteCount: 65_536), upstream) }
        proxy.run(for: .milliseconds(100))
        for upstream in proxy.upstreams where upstream.sendRoom > 0 {
            proxy.send(pattern(byteCount: upstream.sendRoom), upstream)
        }
        proxy.run(for: .milliseconds(100))
        let healthy = proxy.client(hello(), from: "10.1.0.2:50000")
        proxy.run(for: .seconds(1))
        #expect(proxy.upstreams.count == 80)
        #expect(proxy.cells.value(WorkerCell.buffersStarved) > 0)
        // The slow ones leave one by one.
        for client in slow {
            proxy.driver.abort(client)
            proxy.run(for: .milliseconds(20))
        }
        #expect(proxy.run { proxy.upstreams.count == 81 && proxy.upstreams[80].received == hello() })
        proxy.driver.abort(healthy)
        expectAllHome(proxy)
    }

    // U-07, U-18: who gives a buffer back asks for the next one at once, and would get it again and again.
    @Test func theLastBufferGoesFromHandToHand() throws {
        var scene = Scene()
        scene.sizes.largeBufferCount = 1
        scene.sizes.bufferRingCount = 1
        let proxy = scene.start()
        proxy.onUpstream = { _ in }
        let greedy = proxy.client(hello())
        #expect(proxy.run { proxy.upstreams.first?.received.count == hello().count })
        // Its reader takes a little from time to time, so that the buffer comes back but never rests.
        greedy.readsAtOnce = false
        func flow() {
            let upstream = proxy.upstreams[0]
            if upstream.sendRoom > 0 { proxy.send(pattern(byteCount: upstream.sendRoom), upstream) }
            if greedy.unconsumedCount > 0 { proxy.driver.consume(min(greedy.unconsumedCount, 20_000), on: greedy) }
            proxy.after(1_000_000) { flow() }
        }
        flow()
        proxy.run(for: .milliseconds(100))
        let modest = proxy.client(hello(), from: "10.1.0.2:50000")
        #expect(proxy.run(within: .seconds(1)) { proxy.upstreams.count == 2 })
        #expect(modest.sawResetAt == nil)
    }

    /// Of 64 buffers 32 stand in the ring.
    private func halfInTheRing() -> Scene {
        var scene = Scene { listener, _ in listener.timeouts.idle = .seconds(600) }
        scene.sizes.largeBufferCount = 64
        scene.sizes.bufferRingCount = 32
        return scene
    }

    // P-12: a session that has exchanged something and is silent holds nothing.
    @Test func quietSessionsDoNotMakeBuffersScarce() throws {
        let proxy = halfInTheRing().start()
        proxy.onUpstream = { proxy.send("welcome", $0) }
        let clients = (0..<50).map { proxy.client(hello(), from: "10.1.0.1:\(50_000 + $0)") }
        for _ in 0..<3 {
            for upstream in proxy.upstreams { proxy.send("ping", upstream) }
            proxy.run(for: .milliseconds(10))
        }
        #expect(clients.allSatisfy { text($0.received).hasPrefix("welcome") })
        #expect(!proxy.worker.isScarce)
        for client in clients { proxy.driver.abort(client) }
        expectAllHome(proxy)
    }

    // P-10: half a hello is held in a block.
    @Test func halfHellosDoNotMakeBuffersScarce() throws {
        let proxy = halfInTheRing().start()
        let half = Array(hello().prefix(hello().count / 2))
        let clients = (0..<50).map { proxy.client(half, from: "10.1.0.1:\(50_000 + $0)") }
        proxy.run(for: .milliseconds(10))
        #expect(proxy.worker.outstanding.openings == 50)
        #expect(!proxy.worker.isScarce)
        for client in clients { proxy.driver.abort(client) }
        expectAllHome(proxy)
    }

    // U-07: also where nothing is sent any more and buffers come back with their sessions, a few only.
    @Test func buffersOfASessionThatEndsGoToWhoeverWaits() throws {
        var scene = Scene { listener, _ in listener.timeouts.idle = .seconds(600) }
        scene.sizes.largeBufferCount = 64
        scene.sizes.bufferRingCount = 64
        scene.sizes.sessionCapacity = 200
        scene.sizes.blockCount = 200
        scene.sizes.sessionCountMax = 200
        let proxy = scene.start()
        let slow = (0..<80).map { proxy.client(hello(), from: "10.1.0.1:\(40_000 + $0)") }
        #expect(proxy.run { proxy.upstreams.count == 80 })
        for client in slow { client.readsAtOnce = false }
        for _ in 0..<3 {
            for upstream in proxy.upstreams where upstream.sendRoom > 0 {
                proxy.send(pattern(byteCount: upstream.sendRoom), upstream)
            }
            proxy.run(for: .milliseconds(100))
        }
        // One that says nothing waits before the one that does.
        let silent = proxy.client([], from: "10.1.0.2:50000")
        proxy.run(for: .milliseconds(10))
        let healthy = proxy.client(hello(), from: "10.1.0.2:50001")
        proxy.run(for: .milliseconds(100))
        #expect(proxy.upstreams.count == 80)
        let held = proxy.worker.outstanding.buffers
        var leaving = slow[...]
        while proxy.worker.outstanding.buffers == held, let client = leaving.popFirst() {
            proxy.driver.abort(client)
            proxy.run(for: .milliseconds(1))
        }
        #expect(proxy.run(within: .milliseconds(200)) { proxy.upstreams.count == 81 })
        for client in slow + [silent, healthy] { proxy.driver.abort(client) }
        expectAllHome(proxy)
    }

    // UP-13: an endpoint does not rest because this machine was short of something.
    @Test func ourOwnShortageIsNotTheEndpointsFault() throws {
        let proxy = Scene(endpoints: [Scene.first, Scene.second]) { _, cluster in cluster.endpoints[1].priority = 1 }
            .start()
        proxy.plan = { $0 == Scene.first ? .fail(ENOMEM, after: 0) : .succeed(after: 100_000) }
        _ = proxy.client(hello())
        #expect(proxy.run { proxy.upstreams.first?.farAddress == Scene.second })
        proxy.plan = { _ in .succeed(after: 100_000) }
        _ = proxy.client(hello(), from: "10.1.0.2:50000")
        #expect(proxy.run { proxy.upstreams.count == 2 })
        #expect(proxy.upstreams.last?.farAddress == Scene.first)
    }

    // P-08: the kernel tells one accept of a client, which may be that of a process that has just ended.
    @Test func aClientThatNobodyWasToldOfIsAcceptedWithinTwoSeconds() throws {
        let proxy = Scene().start()
        proxy.driver.overlooksClients = true
        _ = proxy.client(hello())
        #expect(proxy.run(within: .seconds(2)) { proxy.upstreams.count == 1 })
    }

    // U-06
    @Test func continuingReceiveThatEndsSilentlyIsArmedAgain() throws {
        var scene = Scene()
        scene.faults.silentEnd = 1000
        let proxy = scene.start()
        let client = proxy.client(hello())
        #expect(proxy.run { proxy.upstreams.count == 1 })
        for index in 1...50 {
            proxy.send("ping", client)
            #expect(proxy.run { proxy.upstreams[0].received.count == hello().count + 4 * index })
        }
    }

    // U-06
    @Test func acceptThatEndsSilentlyIsArmedAgain() throws {
        var scene = Scene()
        scene.faults.silentEnd = 1000
        let proxy = scene.start()
        for index in 1...20 {
            _ = proxy.client(hello(), from: "10.1.0.1:\(50_000 + index)")
            #expect(proxy.run { proxy.upstreams.count == index })
        }
    }

    // U-06
    @Test func acceptPausesWithoutDescriptorsAndGoesOnWithThem() throws {
        let proxy = Scene().start()
        _ = proxy.client(hello())
        #expect(proxy.run { proxy.upstreams.count == 1 })
        proxy.driver.descriptorLimit = proxy.driver.openCount
        let second = proxy.client(hello(), from: "10.1.0.2:50000")
        proxy.run(for: .seconds(5))
        #expect(second.openedAt == nil)
        let base = proxy.registry.listener("main")
        let pauseCount = proxy.cells.value(base + ListenerCell.acceptPauses)
        // 10, 20, 40 ms and so on up to 500 ms.
        #expect(pauseCount > 8 && pauseCount < 20)
        proxy.driver.descriptorLimit = .max
        #expect(proxy.run(within: .milliseconds(700)) { proxy.upstreams.count == 2 })
    }

    // U-06
    @Test func abortedConnectionDoesNotStopAccepting() throws {
        var scene = Scene()
        scene.faults.acceptAborted = 500
        let proxy = scene.start()
        for index in 1...40 { _ = proxy.client(hello(), from: "10.1.0.1:\(50_000 + index)") }
        proxy.run(for: .seconds(1))
        let aborted = proxy.driver.connections.count { !$0.isUpstream && $0.openedAt == nil }
        #expect(aborted > 5 && aborted < 35)
        #expect(proxy.upstreams.count == 40 - aborted)
    }

    @Test func connectWithoutDescriptorIsTriedAtTheNextEndpoint() throws {
        var scene = Scene(endpoints: [Scene.first, Scene.second])
        scene.faults.noDescriptor = 400
        let proxy = scene.start()
        for index in 1...30 { _ = proxy.client(hello(), from: "10.1.0.1:\(50_000 + index)") }
        proxy.run(for: .seconds(10))
        for connection in proxy.driver.connections { proxy.driver.abort(connection) }
        expectAllHome(proxy)
    }

    // RS-04
    @Test func stopWithEverythingInFlightLeavesNothing() throws {
        var scene = Scene(endpoints: [Scene.first, Scene.second])
        scene.faults.delay = 0...3_000_000
        scene.faults.lostCancel = 500
        let proxy = scene.start()
        proxy.plan = { $0 == Scene.second ? .succeed(after: 30_000_000) : .succeed(after: 100_000) }
        proxy.resolve = { _ in nil }
        proxy.onUpstream = { $0.readsAtOnce = $0.id % 2 == 0 }
        for index in 0..<12 {
            // A part of a hello, one that waits for DNS, one that is refused, and ones that relay.
            let name = index % 3 == 0 ? "api.forward.test" : index % 3 == 1 ? "good.test" : "denied.test"
            let bytes = index % 4 == 3 ? Array(hello(name).prefix(50)) : hello(name) + pattern(byteCount: 30_000)
            _ = proxy.client(bytes, from: "10.1.0.1:\(50_000 + index)")
        }
        proxy.run(for: .milliseconds(20))
        #expect(proxy.worker.outstanding.sessions == 12)
        proxy.stop()
        #expect(proxy.run(within: .seconds(1)) { proxy.worker.hasLeft })
        #expect(proxy.outstanding() == [])
        #expect(proxy.records.count == 12)
    }

    @Test func drainThatRunsOutOfTimeEndsWhatIsLeft() throws {
        let proxy = Scene().start()
        let client = proxy.client(hello())
        #expect(proxy.run { proxy.upstreams.count == 1 })
        proxy.stopListening()
        let late = proxy.client(hello(), from: "10.1.0.2:50000")
        proxy.run(for: .milliseconds(10))
        #expect(late.sawResetAt != nil)
        proxy.send("still here", client)
        proxy.run(for: .milliseconds(10))
        #expect(text(Array(proxy.upstreams[0].received.suffix(10))) == "still here")
        proxy.endSessions()
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(proxy.onlyReason == "local_drain_deadline")
        #expect(proxy.records[0].flags.contains(.drained))
        expectAllHome(proxy)
    }

    @Test func sessionsInTheirPreambleEndWhenTheirListenerIsRemoved() throws {
        var scene = Scene()
        var other = scene.configuration.listeners[0]
        other.name = "other"
        other.address = at("10.0.0.2:443")
        scene.configuration.listeners.append(other)
        let proxy = scene.start()
        let relayed = proxy.client(hello(), to: other.address)
        #expect(proxy.run { proxy.upstreams.count == 1 })
        let waiting = proxy.client(Array(hello().prefix(20)), from: "10.1.0.2:50000", to: other.address)
        proxy.run(for: .milliseconds(10))
        var next = proxy.configuration
        next.listeners.removeLast()
        proxy.reload(next)
        // One that is accepted between the publication and the command.
        let between = proxy.client(hello(), from: "10.1.0.3:50000", to: other.address)
        proxy.run(for: .milliseconds(10))
        #expect(between.sawResetAt != nil)
        proxy.send(Array(hello().dropFirst(20)), waiting)
        #expect(proxy.run { waiting.sawResetAt != nil })
        #expect(proxy.records.map { proxy.reason($0) } == ["local_listener_removed"])
        // Who was there goes on.
        proxy.send("more", relayed)
        #expect(proxy.run { proxy.upstreams[0].received == hello() + Array("more".utf8) })
    }

    @Test func proxyHeaderForARemovedListenerEndsItsSession() throws {
        var scene = Scene { listener, _ in
            listener.acceptProxy = AcceptProxy(from: [CIDR(ip("10.1.0.0"), prefixLength: 16)])
        }
        var other = scene.configuration.listeners[0]
        other.name = "other"
        other.address = at("10.0.0.2:443")
        scene.configuration.listeners.append(other)
        let proxy = scene.start()
        let header = ProxyHeaderBuilder().bytes
        let waiting = proxy.client(Array(header.prefix(20)), to: other.address)
        proxy.run(for: .milliseconds(10))
        var next = proxy.configuration
        next.listeners.removeLast()
        proxy.reload(next)
        proxy.run(for: .milliseconds(10))
        proxy.send(Array(header.dropFirst(20)) + hello(), waiting)
        #expect(proxy.run { waiting.sawResetAt != nil })
        #expect(proxy.onlyReason == "local_listener_removed")
    }

    @Test func slotUsedAgainDoesNotHearOfItsEarlierTenant() throws {
        let proxy = Scene().start()
        proxy.resolve = { name in
            var list = ResolvedAddresses()
            list.append(ip("203.0.114.9"))
            return (500_000_000, Answer(status: .found, addresses: list, expires: Instant(nanoseconds: 1)))
        }
        let early = proxy.client(hello("api.forward.test"))
        #expect(proxy.run { proxy.questions.count == 1 })
        proxy.driver.abort(early)
        #expect(proxy.run { proxy.records.count == 1 })
        // The same slot, waiting for another name, when the first answer comes.
        _ = proxy.client(hello("other.forward.test"), from: "10.1.0.2:50000")
        proxy.run(for: .milliseconds(480))
        #expect(proxy.connects.isEmpty)
        #expect(proxy.run { proxy.upstreams.count == 1 })
        #expect(proxy.upstreams[0].received == [] || proxy.upstreams[0].received == hello("other.forward.test"))
    }

    @Test func sessionsBeyondTheLimitAreTurnedAway() throws {
        var scene = Scene { listener, _ in
            listener.limits.connections = 5
            listener.limits.connectionsPerClient = 2
        }
        scene.sizes.sessionCountMax = 6
        let proxy = scene.start()
        let first = (0..<3).map { proxy.client(hello(), from: "10.1.0.1:\(50_000 + $0)") }
        #expect(proxy.run { proxy.upstreams.count == 2 && first.contains { $0.sawResetAt != nil } })
        for client in 2..<8 { _ = proxy.client(hello(), from: "10.1.0.\(client):50000") }
        proxy.run(for: .milliseconds(100))
        #expect(proxy.upstreams.count == 5)
        for connection in proxy.driver.connections { proxy.driver.abort(connection) }
        expectAllHome(proxy)
    }
}
