import Glibc
import Synchronization
import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// P-14: after many sessions of every kind nothing of them is left, while the proxy goes on.
@Suite struct LeakTests {
    @Test func tenThousandSessionsGiveBackAllTheyHeld() async {
        await #expect(processExitsWith: .success) {
            let server = try DNSServer()
            server.script("forward.test", addresses: [.v4Loopback])
            server.script("inside.test", addresses: [IPAddress(10, 0, 0, 1)])
            let origin = try TestOrigin.echo()
            let rude = try TestOrigin { connection in
                _ = try connection.receive()
                connection.reset()
            }
            let closed = try refusingAddress()
            let configuration = Configuration.listening(
                detect: [.tls, .http], .to("origin", "origin.test"), .to("announced", "announced.test"),
                .to("rude", "rude.test"), .to("closed", "closed.test"), .deny(.accessDenied, "denied.test"),
                .forward(port: .fixed(origin.address.port))
            ).cluster("origin", origin.address).cluster("rude", rude.address).cluster("closed", closed)
                .cluster("announced", origin.address) { $0.upstream.sendProxy = SendProxy(.v1) }
                .adjusted {
                    $0.resolver.servers = [server.address]
                    $0.destinations.allow = [.init(CIDR(.v4Loopback, prefixLength: 32))]
                    $0.main.limits.connectionsPerClient = 100
                    // No kind ends by the clock; beside all other tests nobody may get a turn for half a minute.
                    $0.resolver.timeout = .seconds(600)
                    $0.main.timeouts.preamble = .seconds(600)
                    $0.main.timeouts.hello = .seconds(600)
                    for (name, adjust) in [
                        ("trusting", { $0.acceptProxy = AcceptProxy(from: [CIDR(.v4Loopback, prefixLength: 32)]) }),
                        ("choosy", { $0.clients = .allowing([]) }),
                    ] as [(String, (inout Listener) -> Void)] {
                        var listener = $0.main
                        listener.name = name
                        adjust(&listener)
                        $0.listeners.append(listener)
                    }
                }
            let proxy = try Proxy.start(configuration)
            let addresses = proxy.listeners.map(\.address)

            let stream = TestStream(seed: 1)
            let kinds: [@Sendable (Int) throws -> Void] = [
                { _ in try echo("origin.test") },
                { _ in try echo("forward.test") },
                { _ in
                    let client = try connect()
                    try client.sendHello("announced.test")
                    client.finish()
                    _ = try client.receiveAll()
                },
                { number in
                    let client = try connect()
                    try client.sendHello("origin.test")
                    // Some are reset before the origin is there, some later.
                    if number % 2 == 0 { _ = try client.receive() }
                    client.reset()
                },
                { _ in
                    let client = try connect()
                    try client.sendHello("rude.test")
                    _ = try client.ending()
                },
                { _ in try refused("closed.test") },
                { _ in try refused("denied.test") },
                { _ in try refused("inside.test") },
                { number in
                    let client = try connect()
                    try client.send(Array(HelloBuilder().records().prefix(1 + number % 100)))
                    if number % 2 == 0 { return client.reset() }
                    client.finish()
                    _ = try client.ending()
                },
                { _ in
                    let client = try connect(1)
                    try client.send("GET / HTTP/1.1\r\n")
                    _ = try client.ending()
                },
                { _ in
                    let client = try connect(1)
                    try client.send("PROXY TCP4 127.0.0.1 127.0.0.1 4000 443\r\n")
                    try client.sendHello("origin.test")
                    _ = try client.receive()
                    client.finish()
                    _ = try client.ending()
                },
                { _ in _ = try connect(2).ending() },
                { _ in
                    let client = try connect()
                    try client.sendHello("origin.test")
                    try client.send(stream, byteCount: 100_000)
                    client.reset()
                },
            ]
            @Sendable func connect(_ listener: Int = 0) throws -> TestConnection {
                try TestConnection.connect(to: addresses[listener])
            }
            @Sendable func echo(_ name: String) throws {
                let client = try connect()
                let hello = try client.sendHello(name)
                #expect(try client.receive(exactly: hello.count) == hello)
                client.finish()
                #expect(try client.receive() == [])
            }
            @Sendable func refused(_ name: String) throws {
                let client = try connect()
                try client.sendHello(name)
                let answer = try client.receiveAll()
                #expect(answer == alert(49) || answer == alert(80))
            }
            @Sendable func run(_ sessionCount: Int) throws {
                let next = Atomic(0)
                let callers = try (0..<4).map { _ in
                    try Background("caller") {
                        while true {
                            let number = next.add(1, ordering: .relaxed).oldValue
                            if number >= sessionCount { return }
                            // A reset may be met at any point of the kinds that end with one.
                            do { try kinds[number % kinds.count](number) } catch TestFailure.reset {}
                        }
                    }
                }
                for caller in callers {
                    if let failure = caller.failure { Issue.record("\(failure)") }
                }
                eventually("all sessions are over") {
                    proxy.sessionCount == 0 && origin.liveCount == 0 && rude.liveCount == 0
                }
            }

            // The resolver's sockets and the like are open from then on.
            try run(200)
            let before = ProcessState.now
            try run(10_000)
            before.expectNothingNew("after 10,000 sessions")
            for gauge in [
                "weir_sessions_open", "weir_sessions_active", "weir_upstream_sessions_active",
                "weir_endpoint_sessions_active", "weir_sessions_opening", "weir_buffers_outstanding",
                "weir_preamble_blocks_outstanding",
            ] {
                #expect(proxy.metric(gauge) == 0, "\(gauge) is \(proxy.metric(gauge))")
            }
            let (accepted, closedCount) = (
                proxy.metric("weir_accepted_connections_total"), proxy.metric("weir_sessions_closed_total")
            )
            #expect(accepted == closedCount, "\(accepted) were accepted and \(closedCount) closed")
            #expect(accepted > 10_000, "\(accepted) were accepted")
            #expect(proxy.metric("weir_driver_completion_overflows_total") == 0, "completions overflowed")

            // Every slot of the limit can be had once more.
            let held = try (0..<100).map { _ in
                let client = try connect()
                let hello = try client.sendHello("origin.test")
                #expect(try client.receive(exactly: hello.count) == hello)
                return client
            }
            #expect(proxy.sessionCount == held.count, "\(proxy.sessionCount) of 100 are open")
            proxy.stop()
            server.stop()
        }
    }
}
