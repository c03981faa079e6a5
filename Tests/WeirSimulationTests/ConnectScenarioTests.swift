import Glibc
import Testing
import WeirEngine
import WeirMemory
import WeirModel
import WeirNet
import WeirTelemetry
import WeirTesting
import WeirUpstream
import WeirWire

@Suite struct ConnectScenarioTests {
    private static let lifetime: UInt64 = 3_600_000_000_000

    private func found(_ addresses: [String]) -> Answer {
        var list = ResolvedAddresses()
        for address in addresses { list.append(ip(address)) }
        return Answer(status: .found, addresses: list, expires: Instant(nanoseconds: Self.lifetime))
    }

    private func expectAllHome(_ proxy: SimulatedProxy) {
        proxy.run(for: .seconds(3))
        #expect(proxy.outstanding() == [])
    }

    @Test func forwardedClientReachesTheAddressOfItsName() throws {
        let proxy = Scene().start()
        proxy.resolve = { [found] _ in (2_000_000, found(["203.0.114.9"])) }
        let bytes = hello("api.forward.test")
        let client = proxy.client(bytes)
        #expect(proxy.run { proxy.upstreams.first?.received == bytes })
        #expect(proxy.connects.map(\.destination) == [at("203.0.114.9:443")])
        #expect(client.received.isEmpty)
    }

    // RS-07
    @Test func clientThatLeavesDuringDNSTakesNothingWithIt() throws {
        let proxy = Scene().start()
        proxy.resolve = { [found] _ in (200_000_000, found(["203.0.114.9"])) }
        let client = proxy.client(hello("api.forward.test"))
        #expect(proxy.run { proxy.questions.count == 1 })
        proxy.driver.abort(client)
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(proxy.onlyReason == "downstream_connect_abort")
        proxy.run(for: .seconds(1))
        #expect(proxy.connects.isEmpty)
        expectAllHome(proxy)
    }

    // RS-07: the answer comes while the session is still on its way out
    @Test func answerForALeavingClientIsIgnored() throws {
        for delay in stride(from: UInt64(20_000_000), to: 30_000_000, by: 100_000) {
            var scene = Scene()
            scene.faults.delay = 2_000_000...2_000_000
            let proxy = scene.start()
            proxy.resolve = { [found] _ in (delay, found(["203.0.114.9"])) }
            let client = proxy.client(hello("api.forward.test"))
            #expect(proxy.run { proxy.questions.count == 1 })
            proxy.after(20_000_000) { proxy.driver.abort(client) }
            expectAllHome(proxy)
        }
    }

    // RS-07
    @Test func answerAfterTheDeadlineIsIgnored() throws {
        let scene = Scene { listener, _ in listener.timeouts.preamble = .seconds(1) }
        let proxy = scene.start()
        proxy.resolve = { [found] _ in (1_100_000_000, found(["203.0.114.9"])) }
        let client = proxy.client(hello("api.forward.test"))
        client.readsAtOnce = false
        #expect(proxy.run { client.received == alert(.internalError) })
        proxy.run(for: .seconds(1))
        #expect(proxy.connects.isEmpty)
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(proxy.onlyReason == "upstream_dns_timeout")
        expectAllHome(proxy)
    }

    // RS-07
    @Test func clientThatLeavesDuringConnectCancelsIt() throws {
        let proxy = Scene().start()
        proxy.plan = { _ in .silence }
        let client = proxy.client(hello())
        #expect(proxy.run { proxy.connects.count == 1 })
        proxy.driver.abort(client)
        #expect(proxy.run(within: .milliseconds(100)) { proxy.records.count == 1 })
        #expect(proxy.onlyReason == "downstream_connect_abort")
        expectAllHome(proxy)
    }

    // U-10
    @Test func connectThatSucceedsAfterItsCancellationIsClosed() throws {
        var scene = Scene()
        scene.faults.lostCancel = 1000
        let proxy = scene.start()
        proxy.plan = { _ in .succeed(after: 60_000_000_000) }
        let client = proxy.client(hello())
        #expect(proxy.run { proxy.connects.count == 1 })
        proxy.driver.abort(client)
        #expect(proxy.run(within: .milliseconds(200)) { proxy.upstreams.count == 1 })
        proxy.run(for: .milliseconds(100))
        #expect(proxy.upstreams[0].received.isEmpty)
        #expect(proxy.upstreams[0].closedAt != nil)
        expectAllHome(proxy)
    }

    @Test func failedConnectGoesToTheNextAddress() throws {
        let proxy = Scene().start()
        proxy.resolve = { [found] _ in (0, found(["203.0.114.8", "203.0.114.9"])) }
        proxy.plan = { $0.ip == ip("203.0.114.8") ? .fail(ECONNREFUSED, after: 1_000_000) : .succeed(after: 1_000_000) }
        let bytes = hello("api.forward.test")
        _ = proxy.client(bytes)
        #expect(proxy.run { proxy.upstreams.first?.received == bytes })
        #expect(proxy.connects.map(\.destination.ip) == [ip("203.0.114.8"), ip("203.0.114.9")])
    }

    // PO-01, PO-02
    @Test(arguments: [SendProxy.Version.v1, .v2])
    func nextEndpointGetsAHeaderOfItsOwnAndAllBytes(version: SendProxy.Version) throws {
        let scene = Scene(endpoints: [Scene.first, Scene.second]) { _, cluster in
            cluster.upstream.sendProxy = SendProxy(version)
        }
        let proxy = scene.start()
        proxy.plan = { $0 == Scene.first ? .fail(ECONNREFUSED, after: 1_000_000) : .succeed(after: 1_000_000) }
        _ = proxy.client(hello(), from: "10.1.0.7:50123")
        #expect(proxy.run { proxy.upstreams.count == 1 })
        proxy.run(for: .milliseconds(10))
        #expect(proxy.connects.map(\.destination) == [Scene.first, Scene.second])
        let header: [UInt8]
        switch version {
        case .v1: header = Array("PROXY TCP4 10.1.0.7 10.0.0.1 50123 443\r\n".utf8)
        case .v2:
            header =
                ProxyHeaderBuilder(
                    family: 0x11, addresses: [10, 1, 0, 7, 10, 0, 0, 1, 0xc3, 0xcb, 0x01, 0xbb]
                ).bytes
        }
        #expect(proxy.upstreams[0].received == header + hello())
    }

    // RFC 8305
    @Test func secondFamilyWinsWhereTheFirstIsSilent() throws {
        let proxy = Scene().start()
        proxy.resolve = { [found] _ in (0, found(["2600::9", "203.0.114.9"])) }
        proxy.plan = { $0.ip.family == .v6 ? .silence : .succeed(after: 1_000_000) }
        let bytes = hello("api.forward.test")
        let client = proxy.client(bytes)
        #expect(proxy.run { proxy.upstreams.first?.received == bytes })
        #expect(proxy.upstreams[0].farAddress == at("203.0.114.9:443"))
        let accepted = try #require(client.openedAt)
        let elapsed = try #require(milliseconds(from: accepted, to: proxy.upstreams[0].openedAt))
        #expect(elapsed >= 250 && elapsed < 270)
        proxy.run(for: .milliseconds(100))
        // The connect of the other family is home: one client, one upstream, one listener.
        #expect(proxy.driver.openCount == 3)
    }

    // RFC 8305: both connect at once; one of them is used, the other closed
    @Test func oneOfTwoConnectsThatSucceedTogetherIsClosed() throws {
        for lead in stride(from: UInt64(249_000_000), to: 252_000_000, by: 100_000) {
            let proxy = Scene().start()
            proxy.resolve = { [found] _ in (0, found(["2600::9", "203.0.114.9"])) }
            proxy.plan = { $0.ip.family == .v6 ? .succeed(after: lead) : .succeed(after: 500_000) }
            let bytes = hello("api.forward.test")
            _ = proxy.client(bytes)
            #expect(proxy.run { proxy.upstreams.contains { $0.received == bytes } })
            proxy.run(for: .milliseconds(100))
            #expect(proxy.upstreams.count { $0.closedAt == nil } == 1)
            #expect(proxy.driver.openCount == 3)
        }
    }

    // T-02, T-03
    @Test func privateAnswerOfANameIsRefused() throws {
        let proxy = Scene().start()
        proxy.resolve = { [found] _ in (0, found(["169.254.169.254", "127.0.0.1", "10.0.0.1"])) }
        let client = proxy.client(hello("api.forward.test"))
        #expect(proxy.run { client.hasReadEnd })
        #expect(client.received == alert(.accessDenied))
        #expect(proxy.connects.isEmpty)
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.onlyReason == "local_destination_denied" })
        expectAllHome(proxy)
    }

    @Test(arguments: [
        (ECONNREFUSED, "upstream_connect_refused"), (ENETUNREACH, "upstream_connect_unreachable"),
        (ETIMEDOUT, "upstream_connect_timeout"), (EADDRNOTAVAIL, "local_source_exhausted"),
    ])
    func clientIsToldWhenEveryConnectFails(code: Int32, reason: String) throws {
        let proxy = Scene(endpoints: [Scene.first, Scene.second]).start()
        proxy.plan = { _ in .fail(code, after: 1_000_000) }
        let client = proxy.client(hello())
        #expect(proxy.run { client.hasReadEnd })
        #expect(client.received == alert(.internalError))
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(proxy.onlyReason == reason)
        expectAllHome(proxy)
    }

    @Test func clientIsToldWhenNoConnectIsAnswered() throws {
        let scene = Scene { _, cluster in
            cluster.upstream.connectTimeout = .milliseconds(300)
            cluster.upstream.connectTotal = .seconds(1)
        }
        let proxy = scene.start()
        proxy.plan = { _ in .silence }
        let client = proxy.client(hello())
        #expect(proxy.run { client.hasReadEnd })
        #expect(client.received == alert(.internalError))
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.onlyReason == "upstream_connect_timeout" })
        expectAllHome(proxy)
    }

    @Test func reloadBetweenTwoAttemptsLeadsToTheNewEndpoints() throws {
        let third = at("10.9.0.3:8443")
        let proxy = Scene(endpoints: [Scene.first, Scene.second]).start()
        proxy.plan = { $0 == third ? .succeed(after: 1_000_000) : .fail(ECONNREFUSED, after: 50_000_000) }
        _ = proxy.client(hello())
        #expect(proxy.run { proxy.connects.count == 1 })
        var next = proxy.configuration
        next.clusters[0].endpoints = [Endpoint(host: .address(third.ip), port: third.port)]
        proxy.reload(next)
        #expect(proxy.run { proxy.upstreams.first?.received == hello() })
        #expect(proxy.connects.map(\.destination) == [Scene.first, third])
    }
}
