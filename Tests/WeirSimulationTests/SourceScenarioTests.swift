import Glibc
import Testing
import WeirEngine
import WeirModel
import WeirNet
import WeirTelemetry
import WeirTesting
import WeirUpstream
import WeirWire

/// S0-5, S0-6, P-13, UP-12: sessions that connect from a pool of source addresses.
@Suite struct SourceScenarioTests {
    private static let pool = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]

    private static func scene(
        _ addresses: [String] = pool, endpoints: [SocketAddress] = [Scene.first], portCount: Int = 100,
        _ change: (inout Cluster) -> Void = { _ in }
    ) -> Scene {
        var scene = Scene(endpoints: endpoints) { _, cluster in
            cluster.upstream.sourceAddresses = addresses.map(ip)
            change(&cluster)
        }
        scene.sizes.sourcePortCount = portCount
        return scene
    }

    private static func sources(_ proxy: SimulatedProxy) -> [String] {
        proxy.connects.map { $0.source.map { "\($0)" } ?? "any" }
    }

    private static func standing(_ proxy: SimulatedProxy, _ source: String) -> PortLedger.Standing {
        proxy.limits.ports.standing(from: ip(source), to: Scene.first, now: proxy.now)
    }

    /// Opens a session and waits until its bytes are there.
    private static func session(_ proxy: SimulatedProxy) -> SimulatedConnection {
        let count = proxy.upstreams.count
        let client = proxy.client(hello())
        #expect(proxy.run { proxy.upstreams.count == count + 1 && proxy.upstreams[count].received == hello() })
        return client
    }

    /// S0-5.
    @Test func sessionsAreSpreadOverThePool() {
        let proxy = Self.scene().start()
        for _ in 0..<6 { _ = Self.session(proxy) }
        #expect(Self.sources(proxy) == Self.pool + Self.pool)
        #expect(Self.pool.map { Self.standing(proxy, $0).inUse } == [2, 2, 2])
    }

    /// S0-5, P-13.
    @Test func whenAllPortsAreUsedTheClientHearsSoAtOnce() {
        let proxy = Self.scene(portCount: 2).start()
        for _ in 0..<6 { _ = Self.session(proxy) }
        let begin = proxy.now
        let client = proxy.client(hello())
        #expect(proxy.run(within: .milliseconds(10)) { client.received == alert(.internalError) })
        #expect(proxy.now.nanoseconds - begin.nanoseconds < 10_000_000)
        #expect(proxy.connects.count == 6)
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.onlyReason == "local_source_exhausted" })
    }

    /// S0-5.
    @Test func aPortThatComesBackServesTheNext() {
        let proxy = Self.scene(portCount: 1).start()
        let clients = (0..<3).map { _ in Self.session(proxy) }
        proxy.driver.abort(clients[1])
        #expect(proxy.run { proxy.records.count == 1 })
        _ = Self.session(proxy)
        #expect(Self.sources(proxy) == Self.pool + [Self.pool[1]])
    }

    /// S0-5: another endpoint has ports of its own.
    @Test func anotherEndpointServesWhereOneHasNoPortLeft() {
        let proxy = Self.scene(["192.0.2.1"], endpoints: [Scene.first, Scene.second], portCount: 1).start()
        for _ in 0..<2 { _ = Self.session(proxy) }
        #expect(Set(proxy.connects.map(\.destination)) == [Scene.first, Scene.second])
    }

    /// S0-5, S0-6.
    @Test func anAddressThatIsGoneIsPassedOverWithoutAnAttempt() {
        let proxy = Self.scene { $0.upstream.attempts = 1 }.start()
        proxy.plan = { [unowned proxy] _ in
            proxy.connects.last?.source == ip("192.0.2.1") ? .fail(EADDRNOTAVAIL, after: 0) : .succeed(after: 0)
        }
        for _ in 0..<7 { _ = Self.session(proxy) }
        #expect(Self.sources(proxy).filter { $0 == "192.0.2.1" }.count <= 2)
        #expect(Self.standing(proxy, "192.0.2.1").exclusion != .none)
        #expect(Self.standing(proxy, "192.0.2.1").inUse == 0)
    }

    @Test func whereEveryAddressIsGoneEachIsTriedOnce() {
        let proxy = Self.scene { $0.upstream.attempts = 1 }.start()
        proxy.plan = { _ in .fail(EADDRNOTAVAIL, after: 0) }
        let client = proxy.client(hello())
        #expect(proxy.run { client.received == alert(.internalError) })
        #expect(Self.sources(proxy).sorted() == Self.pool)
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.onlyReason == "local_source_exhausted" })
        proxy.run(for: .seconds(3))
        #expect(proxy.outstanding() == [])
    }

    // MARK: TIME_WAIT

    @Test func whoEndsLastKeepsNoPort() throws {
        let proxy = Self.scene(["192.0.2.1"]).start()
        let client = Self.session(proxy)
        proxy.driver.shutDown(try #require(proxy.upstreams.first))
        #expect(proxy.run { client.hasReadEnd })
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(Self.standing(proxy, "192.0.2.1").used == 0)
    }

    @Test func whoEndsFirstKeepsThePortForAMinute() throws {
        let proxy = Self.scene(["192.0.2.1"]).start()
        let client = Self.session(proxy)
        let upstream = try #require(proxy.upstreams.first)
        proxy.driver.shutDown(client)
        #expect(proxy.run { upstream.hasReadEnd })
        proxy.driver.shutDown(upstream)
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(Self.standing(proxy, "192.0.2.1").timeWait == 1)
        proxy.run(for: .seconds(62))
        #expect(Self.standing(proxy, "192.0.2.1").used == 0)
    }

    @Test func aResetKeepsNoPort() {
        let proxy = Self.scene(["192.0.2.1"]).start()
        let client = Self.session(proxy)
        proxy.driver.abort(client)
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(Self.standing(proxy, "192.0.2.1").used == 0)
    }

    @Test func aConnectThatFailsKeepsNoPort() {
        let proxy = Self.scene(["192.0.2.1"]).start()
        proxy.plan = { _ in .fail(ECONNREFUSED, after: 1_000_000) }
        let client = proxy.client(hello())
        #expect(proxy.run { client.received == alert(.internalError) })
        #expect(Self.standing(proxy, "192.0.2.1").used == 0)
    }

    /// The loser of a race is closed by us, and first.
    @Test func theLaneThatLostGivesItsPortBack() {
        let proxy = Scene { listener, _ in
            var forward = DynamicForward(port: .fixed(443))
            forward.upstream.sourceAddresses = [ip("192.0.2.1"), ip("2001:db8::1")]
            listener.routes[1].action = .forward(forward)
        }.start()
        proxy.resolve = { _ in
            var list = ResolvedAddresses()
            list.append(ip("203.0.114.9"))
            list.append(ip("2606:4700::9"))
            return (0, Answer(status: .found, addresses: list, expires: Instant(nanoseconds: .max)))
        }
        // The first family answers just after the second.
        proxy.plan = { .succeed(after: $0.ip.family == .v6 ? 300_000_000 : 1_000_000) }
        let client = proxy.client(hello("api.forward.test"))
        #expect(proxy.run { proxy.upstreams.contains { $0.received == hello("api.forward.test") } })
        #expect(proxy.connects.count == 2)
        proxy.driver.abort(client)
        proxy.run(for: .seconds(3))
        #expect(proxy.outstanding() == [])
    }

    /// A pool belongs to its snapshot: a session between two attempts decides again.
    @Test func aReloadBetweenTwoAttemptsLeadsToTheNewPool() {
        let proxy = Self.scene(["192.0.2.1"], endpoints: [Scene.first, Scene.second]).start()
        proxy.plan = { [unowned proxy] _ in
            proxy.connects.count == 1 ? .fail(ECONNREFUSED, after: 50_000_000) : .succeed(after: 0)
        }
        _ = proxy.client(hello())
        #expect(proxy.run { proxy.connects.count == 1 })
        var next = proxy.configuration
        next.clusters[0].upstream.sourceAddresses = [ip("192.0.2.7")]
        proxy.reload(next)
        #expect(proxy.run { proxy.upstreams.first?.received == hello() })
        #expect(Self.sources(proxy) == ["192.0.2.1", "192.0.2.7"])
    }
}
