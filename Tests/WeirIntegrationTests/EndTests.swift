import Glibc
import Synchronization
import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// Drain and stop: who is let finish, and what is left.
@Suite struct EndTests {
    // MARK: Drain

    @Test func aDrainWaitsForSessionsAndTakesNoNewOnes() throws {
        let origin = try TestListener()
        let proxy = try Proxy.start(.listening(.to("origin")).cluster("origin", origin.address))
        defer { proxy.stop() }
        let (client, upstream) = try proxy.relayed(to: origin)
        let hasFinished = Mutex<Bool?>(nil)
        let drain = try Background("drain") {
            let result = proxy.drain(timeout: TestConnection.patience)
            hasFinished.withLock { $0 = result }
        }
        eventually("new clients are refused") { (try? proxy.connect()) == nil }
        #expect(!proxy.isReady)
        #expect(throws: Proxy.StartFailure.self) { try proxy.reload(.listening(.deny(.close))) }
        // The session does not know of it.
        try client.send("still here")
        #expect(try upstream.receive(exactly: 10) == Array("still here".utf8))
        #expect(hasFinished.withLock { $0 } == nil)
        client.finish()
        upstream.finish()
        #expect(drain.failure == nil)
        #expect(hasFinished.withLock { $0 } == true)
        #expect(proxy.metric("weir_sessions_closed_total", "reason=\"finished\"") == 1)
    }

    @Test func aDrainThatRunsOutOfTimeResetsWhatIsLeft() throws {
        let origin = try TestListener()
        let proxy = try Proxy.start(.listening(.to("origin")).cluster("origin", origin.address))
        defer { proxy.stop() }
        let (client, upstream) = try proxy.relayed(to: origin)
        #expect(!proxy.drain(timeout: .milliseconds(50)))
        #expect(try client.ending() == .reset)
        #expect(try upstream.ending() == .reset)
        #expect(proxy.sessionCount == 0)
        proxy.expectClosed(1, "local_drain_deadline")
    }

    @Test func aDrainOfAnIdleProxyIsOverAtOnce() throws {
        let proxy = try Proxy.start(.listening(.deny(.close)))
        defer { proxy.stop() }
        #expect(proxy.drain(timeout: TestConnection.patience))
        #expect(throws: TestFailure.refused("connect to \(proxy.address)")) { try proxy.connect() }
        #expect(proxy.drain(timeout: .zero), "and over still")
    }

    @Test func aStopEndsADrain() throws {
        let origin = try TestListener()
        let proxy = try Proxy.start(.listening(.to("origin")).cluster("origin", origin.address))
        let (client, upstream) = try proxy.relayed(to: origin)
        let result = Mutex(true)
        let drain = try Background("drain") {
            let hasFinished = proxy.drain(timeout: .seconds(3600))
            result.withLock { $0 = hasFinished }
        }
        eventually("the drain has begun") { !proxy.isReady }
        proxy.stop()
        #expect(drain.failure == nil)
        #expect(!result.withLock { $0 })
        #expect(try client.ending() == .reset)
        #expect(try upstream.ending() == .reset)
    }

    // MARK: Stop

    /// U-20: no thread, no descriptor, and the port is free; although the proxy itself is still held.
    @Test func aStopLeavesNothingBehind() async {
        await #expect(processExitsWith: .success) {
            let origin = try TestListener()
            let server = try DNSServer()
            // Whatever the runtime opens once is open from here on.
            try Proxy.start(.listening(.deny(.close))).stop()
            let before = ProcessState.now
            let configuration = Configuration.listening(.to("origin", "origin.test"), .forward(port: .fixed(443)))
                .cluster("origin", origin.address).adjusted { $0.resolver.servers = [server.address] }
            let proxy = try Proxy.start(configuration)
            #expect(ProcessState.now.threads.count { $0.hasPrefix("weir-worker") } == 2)
            do {
                _ = try proxy.relayed(to: origin, "origin.test")
                #expect(try proxy.answer(to: "nowhere.test") == alert(112))
            }
            proxy.stop()
            before.expectNothingNew()
            _ = try TestListener(port: proxy.address.port)
            // More calls do nothing; questions still have answers.
            proxy.stop()
            #expect(proxy.sessionCount == 0 && !proxy.isReady)
            #expect(proxy.metric("weir_accepted_connections_total") == 2)
            #expect(!proxy.drain(timeout: .seconds(1)))
            try? proxy.reload(configuration)
            before.expectNothingNew()
            server.stop()
        }
    }

    @Test func aProxyThatIsDroppedStops() async {
        await #expect(processExitsWith: .success) {
            try Proxy.start(.listening(.deny(.close))).stop()
            let before = ProcessState.now
            do {
                let proxy = try Proxy.start(.listening(.deny(.close)))
                #expect(try proxy.answer(to: "a.test") == [])
            }
            before.expectNothingNew()
        }
    }

    /// A session in every state of its life, in both directions, when the order to stop comes.
    @Test func aStopEndsSessionsInEveryState() throws {
        let origin = try TestListener()
        // The kernel completes one handshake or two for it and drops what comes then: connects hang.
        let full = try TestListener(backlog: 0)
        let server = try DNSServer()
        defer { server.stop() }
        server.script("silent.test", .silence)
        let configuration = Configuration.listening(
            detect: [.tls, .http], .to("origin", "origin.test"), .to("full", "full.test"), .forward(port: .fixed(443)),
            .deny(.unrecognizedName)
        ).cluster("origin", origin.address).cluster("full", full.address).adjusted {
            $0.resolver.servers = [server.address]
            $0.resolver.timeout = .seconds(60)
            $0.main.timeouts.preamble = .seconds(120)
            $0.main.timeouts.hello = .seconds(60)
            $0.clusters[1].upstream.connectTimeout = .seconds(60)
            $0.clusters[1].upstream.connectTotal = .seconds(60)
        }
        let proxy = try Proxy.start(configuration)
        var clients: [TestConnection] = []
        var upstreams: [TestConnection] = []
        func client(_ name: String? = nil) throws -> TestConnection {
            let client = try proxy.connect()
            clients.append(client)
            if let name { try client.sendHello(name) }
            return client
        }
        for _ in 0..<10 {
            // Nothing sent; half a hello; a name that is being looked up; a connect that hangs; a refusal not yet read.
            _ = try client()
            try client().send(Array(HelloBuilder().records().prefix(40)))
            _ = try client("silent.test")
            _ = try client("full.test")
            _ = try client(nil).sendHello(nil)
            // Idle; one side finished; both directions full.
            for state in 0..<4 {
                let (client, upstream) = try proxy.relayed(to: origin, "origin.test")
                clients.append(client)
                upstreams.append(upstream)
                switch state {
                case 0: break
                case 1: client.finish()
                case 2: upstream.finish()
                default:
                    _ = try client.sendWhatFits(TestStream(seed: 1))
                    _ = try upstream.sendWhatFits(TestStream(seed: 2))
                }
            }
        }
        proxy.stop()
        #expect(proxy.sessionCount == 0)
        #expect(proxy.metric("weir_buffers_outstanding") == 0)
        #expect(proxy.metric("weir_preamble_blocks_outstanding") == 0)
        for end in clients + upstreams { _ = try end.ending() }
        _ = try TestListener(port: proxy.address.port)
    }

    /// Clients keep coming in while it stops: none may hold it up.
    @Test func clientsThatComeDuringAStopDoNotHoldItUp() throws {
        for _ in 0..<20 {
            let proxy = try Proxy.start(.listening(.deny(.close)).adjusted { $0.main.timeouts.hello = .seconds(3600) })
            let address = proxy.address
            // Held until the end: none of them leaves by itself.
            let held = Mutex<[TestConnection]>([])
            let callers = try (0..<2).map { _ in
                try Background("caller") {
                    while let client = try? TestConnection.connect(to: address) { held.withLock { $0.append(client) } }
                }
            }
            eventually("some have come") { proxy.sessionCount > 10 }
            proxy.stop()
            for caller in callers { #expect(caller.failure == nil) }
            #expect(proxy.sessionCount == 0)
        }
    }

    /// A reload is refused once a drain has begun.
    private func reloadUnlessDraining(_ proxy: Proxy, _ configuration: Configuration) throws {
        do { try proxy.reload(configuration) } catch {
            guard case .system(_, let code) = error, code == ESHUTDOWN else { throw error }
        }
    }

    /// Every call may come from any thread, also while the proxy stops.
    @Test func callsFromManyThreadsAreInOrder() throws {
        let origin = try TestOrigin.answering("found")
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address)
        for _ in 0..<5 {
            let proxy = try Proxy.start(configuration)
            let isOver = Atomic(false)
            let callers = try (0..<4).map { number in
                try Background("caller") {
                    while !isOver.load(ordering: .relaxed) {
                        switch number {
                        case 0: try reloadUnlessDraining(proxy, configuration)
                        case 1: #expect(proxy.metrics().contains("weir_sessions_open"))
                        case 2: #expect(proxy.listeners.count == 1)
                        default: proxy.reopenLog()
                        }
                    }
                }
            }
            for _ in 0..<50 { #expect(try proxy.textAnswer(to: "a.test") == "found") }
            let drains = try (0..<2).map { _ in try Background("drain") { proxy.drain(timeout: .milliseconds(1)) } }
            proxy.stop()
            isOver.store(true, ordering: .relaxed)
            for thread in callers + drains { #expect(thread.failure == nil) }
        }
    }
}
