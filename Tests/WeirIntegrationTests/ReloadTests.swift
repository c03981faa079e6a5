import Glibc
import Synchronization
import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// UP-13, P-07: what a reload changes, when, and what it leaves alone.
@Suite struct ReloadTests {
    @Test func newRoutesHoldOnEveryWorkerWhenTheCallReturns() throws {
        let first = try TestOrigin.answering("first")
        let second = try TestOrigin.answering("second")
        let configuration = Configuration.listening(.to("first"))
            .cluster("first", first.address).cluster("second", second.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        for round in 0..<10 {
            let name = round % 2 == 0 ? "second" : "first"
            try proxy.reload(configuration.adjusted { $0.main.routes = [.to(name)] })
            // Enough that both workers have some.
            for _ in 0..<12 { #expect(try proxy.textAnswer(to: "a.test") == name) }
        }
        #expect(proxy.metric("weir_snapshot_generation") == 11)
    }

    @Test func whatIsFixedAtStartIsSaidToStayOnce() throws {
        final class Lines: Sendable { let said = Mutex<[String]>([]) }
        let lines = Lines()
        var options = Proxy.Options()
        options.notice = { line in lines.said.withLock { $0.append(line) } }
        let configuration = Configuration.listening(.deny(.close))
        let proxy = try Proxy.start(configuration, options: options)
        defer { proxy.stop() }
        lines.said.withLock { $0 = [] }
        for _ in 0..<2 {
            try proxy.reload(
                configuration.adjusted {
                    $0.splice = .off
                    $0.congestion = .cubic
                    $0.steering = .cpu
                })
        }
        #expect(
            lines.said.withLock { $0 } == [
                "splice stays as it is until a restart", "congestion stays as it is until a restart",
                "steering stays as it is until a restart",
            ])
    }

    @Test func sessionsGoOnWhenTheirRouteAndListenerAreGone() throws {
        let origin = try TestListener()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let before = proxy.address
        let (client, upstream) = try proxy.relayed(to: origin)
        var after = Configuration.listening(.deny(.close))
        after.listeners[0].name = "other"
        try proxy.reload(after)

        #expect(throws: TestFailure.refused("connect to \(before)")) { try TestConnection.connect(to: before) }
        #expect(try proxy.answer(to: "good.test") == [])
        try client.send("question")
        #expect(try upstream.receive(exactly: 8) == Array("question".utf8))
        try upstream.send("answer")
        upstream.finish()
        #expect(try client.receiveAll() == Array("answer".utf8))
        client.finish()
        proxy.expectClosed(1, "finished")
        // What was its address is free.
        _ = try TestListener(port: before.port)
    }

    /// UP-13: `on_removed` of a route and of a cluster, whose other route or endpoint stays.
    @Test(arguments: [true, false]) func sessionsOfWhatIsRemovedAreResetWhenTheirTimeIsOver(isRoute: Bool) throws {
        let origin = try TestListener()
        let time = Duration.milliseconds(400)
        let configuration = Configuration.listening(.to("origin", "good.test"), .deny(.close))
            .cluster("origin", origin.address)
            .adjusted {
                if isRoute {
                    $0.main.routes[0].onRemoved = .drain(time)
                } else {
                    $0.clusters[0].onRemoved = .drain(time)
                }
            }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let (client, upstream) = try proxy.relayed(to: origin)
        let start = ContinuousClock.now
        try proxy.reload(
            configuration.adjusted {
                if isRoute {
                    $0.main.routes.removeFirst()
                } else {
                    let other = SocketAddress(IPAddress(127, 0, 0, 2), port: 1)
                    $0.clusters[0].endpoints = [Endpoint(other)]
                }
            })
        #expect(try client.ending() == .reset)
        #expect(ContinuousClock.now - start >= time)
        #expect(try upstream.ending() == .reset)
        proxy.expectClosed(1, isRoute ? "local_route_removed" : "local_endpoint_removed")
    }

    /// A client whose hello is not complete yet is routed by what holds when it is.
    @Test func aClientInItsPreambleIsRoutedByTheNewRoutes() throws {
        let first = try TestOrigin.answering("first")
        let second = try TestOrigin.answering("second")
        let configuration = Configuration.listening(.to("first"))
            .cluster("first", first.address).cluster("second", second.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let client = try proxy.connect()
        let hello = HelloBuilder().records()
        try client.send(Array(hello.prefix(50)))
        eventually("it is accepted") { proxy.sessionCount == 1 }
        try proxy.reload(configuration.adjusted { $0.main.routes = [.to("second")] })
        try client.send(Array(hello.dropFirst(50)))
        #expect(try client.receiveAll() == Array("second".utf8))
    }

    @Test func aListenerThatStaysKeepsItsPortAndItsQueue() throws {
        let origin = try TestOrigin.answering("found")
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let before = proxy.address
        let more = configuration.adjusted { $0.listeners.insert(.local("more", [.to("origin")]), at: 0) }
        try proxy.reload(more)
        #expect(proxy.listeners.map(\.name) == ["more", "main"])
        #expect(proxy.listeners[1].address == before)
        #expect(try proxy.textAnswer(to: "a.test", 0) == "found")
        #expect(try proxy.textAnswer(to: "a.test", 1) == "found")
    }

    @Test func anAddressGetsAndLosesAListenerBesideTheOneForAllAddresses() throws {
        let everywhere = try TestOrigin.answering("everywhere")
        let there = try TestOrigin.answering("there")
        let here = try refusingAddress(.v4Any)
        let one = SocketAddress(.v4Loopback, port: here.port)
        let other = SocketAddress(IPAddress(127, 0, 0, 2), port: here.port)
        let wide = Configuration.listening(.to("everywhere")).cluster("everywhere", everywhere.address)
            .cluster("there", there.address).adjusted { $0.main.address = here }
        let both = wide.adjusted {
            $0.listeners.append(.local("there", [.to("there")]))
            $0.listeners[1].address = one
        }
        let narrow = both.adjusted { $0.listeners.removeFirst() }
        let proxy = try Proxy.start(wide)
        defer { proxy.stop() }
        #expect(try textAnswer(at: one) == "everywhere")
        try proxy.reload(both)
        #expect(try textAnswer(at: one) == "there")
        #expect(try textAnswer(at: other) == "everywhere")
        try proxy.reload(wide)
        #expect(try textAnswer(at: one) == "everywhere")
        try proxy.reload(narrow)
        #expect(try textAnswer(at: one) == "there")
        #expect(throws: TestFailure.refused("connect to \(other)")) { try TestConnection.connect(to: other) }
        try proxy.reload(both)
        #expect(try textAnswer(at: one) == "there")
        #expect(try textAnswer(at: other) == "everywhere")
    }

    @Test func aConfigurationThatCannotBeUsedChangesNothing() throws {
        let origin = try TestOrigin.answering("found")
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(throws: Proxy.StartFailure.self) {
            try proxy.reload(configuration.adjusted { $0.main.routes = [.to("nowhere")] })
        }
        let taken = try TestListener()
        let free = try refusingAddress()
        let unbindable = configuration.adjusted {
            $0.main.routes = [.deny(.close)]
            for address in [free, taken.address] {
                var listener = Listener.local("at \(address)", [.deny(.close)])
                listener.address = address
                $0.listeners.append(listener)
            }
        }
        do throws(Proxy.StartFailure) {
            try proxy.reload(unbindable)
            Issue.record("the address was not taken")
        } catch {
            guard case .bind(_, taken.address, EADDRINUSE) = error else { throw error }
        }
        #expect(try proxy.textAnswer(to: "a.test") == "found")
        #expect(proxy.listeners.count == 1)
        _ = try TestListener(port: free.port)
    }

    /// P-07.
    @Test func aThousandConnectionsDuringFiftyReloadsAllSucceed() throws {
        let first = try TestOrigin.answering("first")
        let second = try TestOrigin.answering("second")
        let configuration = Configuration.listening(.to("first"))
            .cluster("first", first.address).cluster("second", second.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let answerCount = Atomic(0)
        let callers = try (0..<4).map { _ in
            try Background("caller") {
                for _ in 0..<250 {
                    let answer = try proxy.textAnswer(to: "a.test")
                    #expect(answer == "first" || answer == "second")
                    answerCount.add(1, ordering: .relaxed)
                }
            }
        }
        for round in 0..<50 {
            // Spread over the connections rather than over time.
            eventually("connections succeed") { answerCount.load(ordering: .relaxed) >= round * 19 }
            try proxy.reload(
                configuration.adjusted {
                    $0.main.routes = [.to(round % 2 == 0 ? "second" : "first")]
                    $0.listeners.append(.local("extra \(round)", [.deny(.close)]))
                })
        }
        for caller in callers { #expect(caller.failure == nil) }
        #expect(answerCount.load(ordering: .relaxed) == 1000)
        #expect(first.acceptedCount > 0 && second.acceptedCount > 0)
        #expect(proxy.metric("weir_snapshot_generation") == 51)
    }

    /// There are 256 slots for listeners: the 257th and later ones take those that others have left.
    @Test func listenersMayComeAndGoForEver() throws {
        let configuration = Configuration.listening(.deny(.close))
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        for round in 0..<300 {
            try proxy.reload(configuration.adjusted { $0.listeners.append(.local("extra \(round)", [.deny(.close)])) })
            if round % 50 == 0 { #expect(try proxy.answer(to: "a.test", 1) == []) }
        }
    }

    /// Slots of listeners whose sessions live on are not given away; the rest are.
    @Test func aSlotIsTakenAgainOnlyWhenItsLastSessionHasEnded() throws {
        let origin = try TestListener()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        var sessions: [(client: TestConnection, upstream: TestConnection)] = []
        for round in 0..<10 {
            try proxy.reload(configuration.adjusted { $0.main.name = "round \(round)" })
            sessions.append(try proxy.relayed(to: origin))
        }
        for (number, session) in sessions.enumerated() {
            try session.client.send("to \(number)")
            #expect(try session.upstream.receive(exactly: 4) == Array("to \(number)".utf8))
            session.client.finish()
            session.upstream.finish()
        }
        proxy.expectClosed(10, "finished")
        #expect(proxy.metric("weir_sessions_active") == 0)
    }
}
