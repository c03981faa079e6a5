import Testing
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

/// S3-2, UP-01: clusters that share the sessions of a route.
@Suite struct SplitTests {
    private func table(_ shares: (String, Int)...) -> RouteTable {
        let names = ["a", "b", "c"]
        let clusters = names.map { Cluster(name: $0, endpoints: [Endpoint(socketAddress("192.0.2.1:443"))]) }
        let split = RouteAction.split(shares.map { ClusterShare(cluster: $0.0, weight: $0.1) })
        return WeirRoutingTests.table(configuration([listener("l", [route("r", action: split)])], clusters))
    }

    /// How many of `count` draws, spread evenly, fall to each cluster.
    private func drawn(_ table: RouteTable, _ count: UInt64) -> [String: Int] {
        var found: [String: Int] = [:]
        let split = table.view.routes[0].cluster
        for number in 0..<count {
            let cluster = table.view.cluster(ofSplit: split, draw: UInt64.max / count * number + .max / count / 2)
            found[table.clusterName(Int(cluster)), default: 0] += 1
        }
        return found
    }

    @Test func drawsFallToClustersByTheirWeight() {
        #expect(drawn(table(("a", 80), ("b", 20)), 1000) == ["a": 800, "b": 200])
    }

    @Test func aWeightOfZeroIsNeverDrawn() {
        #expect(drawn(table(("a", 0), ("b", 1), ("c", 0)), 1000) == ["b": 1000])
    }

    @Test func theExtremesOfANumberAreDrawn() {
        let table = table(("a", 1_000_000), ("b", 1_000_000), ("c", 1_000_000))
        let split = table.view.routes[0].cluster
        #expect(table.view.cluster(ofSplit: split, draw: 0) == 0)
        #expect(table.view.cluster(ofSplit: split, draw: .max) == 2)
    }

    @Test func eachRouteHasItsOwnShares() {
        let clusters = ["a", "b"].map { Cluster(name: $0, endpoints: [Endpoint(socketAddress("192.0.2.1:443"))]) }
        let routes = ["a", "b"].map {
            route("to \($0)", ["\($0).test"], action: .split([ClusterShare(cluster: $0, weight: 3)]))
        }
        let table = WeirRoutingTests.table(configuration([listener("l", routes)], clusters))
        let found = [0, 1].map { table.view.cluster(ofSplit: table.view.routes[$0].cluster, draw: 12345) }
        #expect(found == [0, 1])
    }
}
