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

/// What comes together: a deadline and a watch, a reload and an attempt, a drain and a decision.
@Suite struct ChangeScenarioTests {
    private func found(_ addresses: [String]) -> Answer {
        var list = ResolvedAddresses()
        for address in addresses { list.append(ip(address)) }
        return Answer(status: .found, addresses: list, expires: Instant(nanoseconds: .max))
    }

    private func expectAllHome(_ proxy: SimulatedProxy) {
        proxy.run(for: .seconds(3))
        #expect(proxy.outstanding() == [])
    }

    // RS-09: the session's time is over in the very tick in which a quiet side falls due to be watched.
    @Test func deadlineInTheMomentOfAWatchBringsEverythingHome() throws {
        for lag in stride(from: 100, to: 1000, by: 7) {
            let scene = Scene { listener, _ in listener.timeouts.session = .milliseconds(lag) }
            let proxy = scene.start()
            let client = proxy.client(hello())
            try #require(proxy.run { proxy.upstreams.first?.received.count == hello().count })
            // Nobody reads, so the upstream's side is received from no more and falls due to be watched.
            client.readsAtOnce = false
            for _ in 0..<8 {
                proxy.send(pattern(byteCount: proxy.upstreams[0].sendRoom), proxy.upstreams[0])
                proxy.run(for: .milliseconds(5))
            }
            #expect(proxy.run { proxy.records.count == 1 })
            #expect(proxy.onlyReason == "local_session_timeout")
            proxy.run(for: .seconds(1))
            #expect(proxy.outstanding() == [])
        }
    }

    // RS-09: nothing ran for a while, and then everything is due at once.
    @Test func watchAndDeadlineAfterAStallBringEverythingHome() throws {
        let scene = Scene { listener, _ in listener.timeouts.idle = .seconds(2) }
        let proxy = scene.start()
        let client = proxy.client(hello())
        try #require(proxy.run { proxy.upstreams.first?.received.count == hello().count })
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.upstreams[0].hasReadEnd })
        proxy.driver.jump(5_000_000_000)
        #expect(proxy.run { proxy.records.count == 1 })
        proxy.run(for: .seconds(1))
        #expect(proxy.outstanding() == [])
    }

    // UP-13: the cluster that an attempt was made for is gone when the attempt fails.
    @Test func reloadThatTurnsAClusterIntoAForwardForgetsItsEndpoint() throws {
        let proxy = Scene(endpoints: [Scene.first, Scene.second]).start()
        proxy.resolve = { [found] _ in (0, found(["203.0.114.9"])) }
        proxy.plan = {
            $0 == Scene.first ? .fail(ECONNREFUSED, after: 50_000_000) : .succeed(after: 1_000_000)
        }
        let bytes = hello()
        _ = proxy.client(bytes)
        #expect(proxy.run { proxy.connects.count == 1 })
        var next = Scene().configuration
        next.clusters = []
        next.listeners[0].routes = [
            Route(
                name: "good", match: RouteMatch(serverNames: [.any]),
                action: .forward(DynamicForward(port: .fixed(443))))
        ]
        proxy.reload(next)
        #expect(proxy.run { proxy.upstreams.first?.received == bytes })
        #expect(proxy.upstreams[0].farAddress == at("203.0.114.9:443"))
        proxy.driver.shutDown(proxy.upstreams[0])
        proxy.run(for: .milliseconds(100))
        proxy.stop()
        #expect(proxy.run { proxy.records.count == 1 })
        #expect(proxy.records[0].cluster == -1)
        #expect(proxy.records[0].endpoint == -1)
    }

    // T-02: the names of a cluster's endpoints, and those only.
    @Test(arguments: [(true, nil), (false, "local_destination_denied")] as [(Bool, String?)])
    func aNameThatIsPrivateIsConnectedToWhereItsClusterAllowsThat(allowed: Bool, reason: String?) throws {
        var scene = Scene()
        scene.configuration.clusters[0].endpoints = [Endpoint(host: .name(try ServerName("a.svc")), port: 8443)]
        scene.configuration.clusters[0].privateNames = allowed
        let proxy = scene.start()
        proxy.resolve = { [found] _ in (0, found(["10.9.0.1"])) }
        _ = proxy.client(hello())
        #expect(proxy.run { allowed ? !proxy.upstreams.isEmpty : proxy.records.count == 1 })
        #expect(proxy.onlyReason == reason)
        _ = proxy.client(hello("api.forward.test"))
        #expect(proxy.run { proxy.records.contains { proxy.reason($0) == "local_destination_denied" } })
    }

    // UP-13: what a session has drawn among the clusters of its route, it keeps when a reload comes between two attempts.
    @Test func reloadBetweenTwoAttemptsLeavesASessionInTheClusterItDrew() throws {
        var scene = Scene(endpoints: [Scene.first, at("10.9.0.11:8443")])
        var other = scene.configuration.clusters[0]
        other.name = "other"
        other.endpoints = [Endpoint(Scene.second), Endpoint(at("10.9.0.12:8443"))]
        scene.configuration.clusters.append(other)
        scene.configuration.listeners[0].routes = [
            Route(
                name: "split",
                action: .split([ClusterShare(cluster: "back", weight: 1), ClusterShare(cluster: "other", weight: 1)]))
        ]
        let proxy = scene.start()
        proxy.plan = { _ in .fail(ECONNREFUSED, after: 50_000_000) }
        for number in 1...16 {
            let before = proxy.connects.count
            _ = proxy.client(hello())
            #expect(proxy.run { proxy.connects.count == before + 1 })
            proxy.reload(proxy.configuration)
            #expect(proxy.run { proxy.records.count == number })
            let tried = proxy.connects[before...].map(\.destination)
            #expect(tried.count > 1)
            // The last digit tells the cluster.
            #expect(Set(tried.map { $0.ip.low % 10 }).count == 1)
        }
        #expect(Set(proxy.connects.map(\.destination)).count == 4)
    }

    // RFC 8305 on a host without IPv6
    @Test func manyUnreachableAddressesLeaveTheOtherFamilyItsAttempts() throws {
        let proxy = Scene().start()
        proxy.resolve = { [found] _ in
            (0, found(["2600::1", "2600::2", "2600::3", "2600::4", "203.0.114.9"]))
        }
        proxy.plan = { $0.ip.family == .v6 ? .fail(ENETUNREACH, after: 0) : .succeed(after: 1_000_000) }
        let bytes = hello("api.forward.test")
        _ = proxy.client(bytes)
        #expect(proxy.run { proxy.upstreams.first?.received == bytes })
        #expect(proxy.connects.map(\.destination) == [at("[2600::1]:443"), at("203.0.114.9:443")])
    }

    // RFC 8305: refusals of one family do not use up what the other has not had.
    @Test func lastAttemptBelongsToTheFamilyThatHadNone() throws {
        let proxy = Scene().start()
        proxy.resolve = { [found] _ in (0, found(["2600::1", "2600::2", "2600::3", "203.0.114.9"])) }
        proxy.plan = { $0.ip.family == .v6 ? .fail(ECONNREFUSED, after: 1_000_000) : .succeed(after: 1_000_000) }
        let bytes = hello("api.forward.test")
        _ = proxy.client(bytes)
        #expect(proxy.run { proxy.upstreams.first?.received == bytes })
        #expect(proxy.connects.count == 3)
    }

    // P-18: who is in the middle of a hello when the drain begins still gets where it wants.
    @Test func forwardToTheListenersPortSurvivesADrain() throws {
        let scene = Scene { listener, _ in
            listener.routes = [
                Route(
                    name: "forward", match: RouteMatch(serverNames: [.any]),
                    action: .forward(DynamicForward(port: .listener)))
            ]
        }
        let proxy = scene.start()
        proxy.resolve = { [found] _ in (0, found(["203.0.114.9"])) }
        let bytes = hello("api.forward.test")
        let client = proxy.client(Array(bytes.prefix(20)))
        proxy.run(for: .milliseconds(20))
        proxy.stopListening()
        proxy.run(for: .milliseconds(20))
        proxy.send(Array(bytes.dropFirst(20)), client)
        #expect(proxy.run { proxy.upstreams.first?.received == bytes })
        #expect(proxy.connects.map(\.destination) == [at("203.0.114.9:443")])
    }

    // P-18: an accept that was under way when all sessions were ended begins none.
    @Test func acceptAfterTheEndBeginsNoSession() throws {
        for lead in stride(from: UInt64(0), to: 400_000, by: 20_000) {
            let proxy = Scene().start()
            _ = proxy.client(hello())
            proxy.after(lead) {
                proxy.stopListening()
                proxy.endSessions()
            }
            proxy.run(for: .milliseconds(100))
            expectAllHome(proxy)
        }
    }

    // Whoever comes between the publication of a configuration and the close of a socket that it has no more.
    @Test func clientOfAListenerThatIsBeingRemovedIsCountedWithItsReason() throws {
        var scene = Scene()
        var other = scene.configuration.listeners[0]
        other.name = "other"
        other.address = at("10.0.0.2:443")
        scene.configuration.listeners.append(other)
        let proxy = scene.start()
        proxy.run(for: .milliseconds(10))
        var next = proxy.configuration
        next.listeners.removeLast()
        proxy.reload(next)
        let client = proxy.client(hello(), to: other.address)
        #expect(proxy.run { client.sawResetAt != nil })
        #expect(proxy.driver.acceptedCount == 1)
        let base = proxy.registry.listener("other")
        #expect(proxy.cells.value(base + ListenerCell.accepted) == 1)
        let code = Int32(CloseReason.other(.listenerRemoved).code)
        #expect(proxy.cells.value(base + ListenerCell.closedByReason + code) == 1)
    }
}
