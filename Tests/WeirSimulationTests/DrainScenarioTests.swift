import Glibc
import Testing
import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirTesting
import WeirUpstream

/// UP-13: sessions of what is gone go on for as long as they are given.
@Suite struct DrainScenarioTests {
    private func place(_ proxy: SimulatedProxy, _ address: SocketAddress) -> Int32 {
        proxy.board.place(of: .endpoint(cluster: "back", description: "\(address)"))
    }

    @Test func aRouteThatDrainsLetsItsSessionsGoOnUntilTheDeadline() throws {
        let proxy = Scene().start()
        let client = proxy.client(hello())
        try #require(proxy.run { proxy.upstreams.first?.received.count == hello().count })
        proxy.endSessions(ofRoute: "good", listener: "main", after: 5_000_000_000)
        proxy.run(for: .milliseconds(4900))
        proxy.send("late", client)
        #expect(proxy.run { proxy.upstreams[0].received.suffix(4) == Array("late".utf8) })
        #expect(proxy.records.isEmpty)
        proxy.run(for: .milliseconds(200))
        #expect(proxy.onlyReason == "local_route_removed")
        #expect(client.sawResetAt != nil)
    }

    @Test func theEarlierOfTwoDeadlinesHolds() throws {
        let proxy = Scene().start()
        _ = proxy.client(hello())
        try #require(proxy.run { proxy.upstreams.first?.received.count == hello().count })
        proxy.endSessions(ofRoute: "good", listener: "main", after: 5_000_000_000)
        proxy.endSessions(ofEndpoint: place(proxy, Scene.first), .endpointUnhealthy, after: 1_000_000_000)
        proxy.endSessions(ofRoute: "good", listener: "main", after: 9_000_000_000)
        proxy.run(for: .milliseconds(1100))
        #expect(proxy.onlyReason == "local_endpoint_unhealthy")
    }

    /// Its client has nothing to do with the endpoint that it did not get.
    @Test func aSessionThatGoesOnToAnotherEndpointDrainsNoMore() throws {
        let proxy = Scene(endpoints: [Scene.first, Scene.second]).start()
        var failing: SocketAddress?
        proxy.plan = {
            if failing == nil { failing = $0 }
            return $0 == failing ? .fail(ECONNREFUSED, after: 500_000_000) : .succeed(after: 1_000_000)
        }
        _ = proxy.client(hello())
        try #require(proxy.run { proxy.connects.count == 1 })
        proxy.endSessions(ofEndpoint: place(proxy, try #require(failing)), .endpointRemoved, after: 1_000_000_000)
        #expect(proxy.run { proxy.upstreams.first?.received.count == hello().count })
        proxy.run(for: .seconds(3))
        #expect(proxy.records.isEmpty)
    }

    @Test func aSessionThatStillConnectsWhenTheTimeIsOverEnds() throws {
        let proxy = Scene().start()
        proxy.plan = { _ in .fail(ECONNREFUSED, after: 1_500_000_000) }
        _ = proxy.client(hello())
        try #require(proxy.run { proxy.connects.count == 1 })
        proxy.endSessions(ofEndpoint: place(proxy, Scene.first), .endpointRemoved, after: 1_000_000_000)
        proxy.run(for: .milliseconds(1100))
        #expect(proxy.onlyReason == "local_endpoint_removed")
        proxy.run(for: .seconds(3))
        #expect(proxy.outstanding() == [])
    }
}
