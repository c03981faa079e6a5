import Testing
import WeirModel
import WeirNet

/// What of a route contradicts itself or the rest.
@Suite struct RouteFaultTests {
    /// The faults of one route after a change, without the words that name it.
    private func faults(_ change: (inout Route) -> Void) -> [String] {
        var configuration = Configuration()
        configuration.clusters = ["a", "b"].map {
            Cluster(name: $0, endpoints: [Endpoint(SocketAddress(IPAddress(192, 0, 2, 1), port: 443))])
        }
        var route = Route(name: "r", action: .cluster("a"))
        change(&route)
        var listener = Listener(name: "l", address: SocketAddress(.v4Loopback, port: 8443))
        listener.routes = [route]
        configuration.listeners = [listener]
        return configuration.faults().map {
            #expect($0.part == "listener \"l\", route \"r\"")
            return $0.message
        }
    }

    private func splitFaults(_ shares: (String, Int)...) -> [String] {
        faults { $0.action = .split(shares.map { ClusterShare(cluster: $0.0, weight: $0.1) }) }
    }

    @Test func destinationsAreUsable() {
        let block = CIDR(IPAddress(192, 0, 2, 0), prefixLength: 24)
        #expect(faults { $0.match.destinationPorts = [1...65535] } == [])
        #expect(faults { $0.match.destinationPorts = [0...80] } == ["port 0 cannot be connected to"])
        #expect(
            faults { $0.match.exceptDestinations = [block] }
                == ["excepts destinations of none: list the `destinations`"])
    }

    @Test func aDrainTakesSomeTime() {
        #expect(faults { $0.onRemoved = .drain(.milliseconds(1)) } == [])
        #expect(
            faults { $0.onRemoved = .drain(.zero) }
                == ["on_removed drains for 0.0 seconds, which is over before it begins"])
    }

    @Test func limitsLetSomebodyThrough() {
        #expect(
            faults {
                $0.limits.connections = 0
                $0.limits.connectionsPerClient = 1_000_001
                $0.limits.rate = RateLimit(0)
            } == [
                "connections 0 lets nobody through", "connections per client, 1000001, is not in 1...1000000",
                "rate, 0 in 1.0 seconds, is not 1...1000000 in 1 ms...1 d", "rate, a burst of 0, is not 1...1000000",
            ])
    }

    @Test func aSplitNamesClustersThatAreThereWithWeightsInTheirRange() {
        #expect(splitFaults(("a", 1_000_000), ("b", 0)) == [])
        #expect(splitFaults(("a", 1), ("z", 1)) == ["there is no cluster \"z\""])
        #expect(
            splitFaults(("a", -1), ("b", 1_000_001)) == [
                "weight -1 is not in 0...1000000", "weight 1000001 is not in 0...1000000",
            ])
    }

    @Test func aSplitThatGivesNobodyAnythingIsAFault() {
        #expect(splitFaults() == ["has no cluster with a weight above 0"])
        #expect(splitFaults(("a", 0), ("b", 0)) == ["has no cluster with a weight above 0"])
    }
}
