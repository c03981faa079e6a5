import Testing
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

/// S1, S3: routes by where the client wanted to go.
@Suite struct DestinationMatchTests {
    private func route(
        _ name: String, to blocks: [String] = [], except excepted: [String] = [], ports: [ClosedRange<UInt16>] = [],
        names: [String] = []
    ) -> Route {
        var route = WeirRoutingTests.route(name, names)
        route.match.destinations = blocks.map(block)
        route.match.exceptDestinations = excepted.map(block)
        route.match.destinationPorts = ports
        return route
    }

    private func table(_ routes: Route...) -> RouteTable {
        WeirRoutingTests.table(configuration([listener("l", routes)]))
    }

    private func taken(_ table: RouteTable, _ destination: String?, name: String = "") -> String? {
        table.view.route(
            listener: 0, name: serverName(name), client: ip("10.0.0.1"), alpn: .none,
            destination: destination.map(socketAddress)
        ).map { table.routeName($0) }
    }

    @Test func theFirstRouteWhoseBlockHoldsTheAddressTakesIt() {
        let table = table(route("one", to: ["10.1.2.3"]), route("ten", to: ["10.0.0.0/8", "fd00::/8"]), route("rest"))
        #expect(taken(table, "10.1.2.3:443") == "one")
        #expect(taken(table, "10.1.2.4:443") == "ten")
        #expect(taken(table, "[fd00::1]:443") == "ten")
        #expect(taken(table, "192.0.2.1:443") == "rest")
    }

    @Test func exceptedAddressesAreNotMeant() {
        let table = table(route("ten", to: ["10.0.0.0/8"], except: ["10.9.0.0/16"]), route("rest"))
        #expect(taken(table, "10.8.0.1:443") == "ten")
        #expect(taken(table, "10.9.0.1:443") == "rest")
    }

    @Test func portsHoldFromEndToEndOfEachRange() {
        let table = table(route("web", ports: [443...443, 8000...8999]), route("rest"))
        let ports = [442, 443, 444, 7999, 8000, 8999, 9000]
        let found = ports.map { taken(table, "192.0.2.1:\($0)") }
        #expect(found == ["rest", "web", "rest", "rest", "web", "web", "rest"])
    }

    @Test func addressAndPortHoldTogether() {
        let table = table(route("both", to: ["192.0.2.0/24"], ports: [443...443]), route("rest"))
        #expect(taken(table, "192.0.2.1:443") == "both")
        #expect(taken(table, "192.0.2.1:80") == "rest")
        #expect(taken(table, "198.51.100.1:443") == "rest")
    }

    @Test func aDestinationThatNobodyKnowsIsMeantByNoRouteThatAsksForOne() {
        let table = table(route("any", to: ["0.0.0.0/0", "::/0"]), route("port", ports: [1...65535]), route("rest"))
        #expect(taken(table, nil) == "rest")
    }

    @Test("T-06: a mapped destination meets the rules of its IPv4 address") func mappedDestinationsAreUnmapped() {
        let table = table(route("ten", to: ["10.0.0.0/8"]), route("rest"))
        #expect(taken(table, "[::ffff:10.0.0.1]:443") == "ten")
    }

    @Test func aNamedRouteThatMeansAnotherDestinationLeavesTheConnectionToLessSpecificOnes() {
        let table = table(route("named", to: ["10.0.0.0/8"], names: ["a.test"]), route("any", names: ["*"]))
        #expect(taken(table, "10.0.0.1:443", name: "a.test") == "named")
        #expect(taken(table, "192.0.2.1:443", name: "a.test") == "any")
    }

    @Test func onlyListenersWithSuchARouteLookAtDestinations() {
        let both = configuration([
            listener("a", [route("r", ports: [443...443])]), listener("b", port: 444, [route("r")]),
        ])
        let view = WeirRoutingTests.table(both).view
        #expect(view.listeners[0].matchesDestinations)
        #expect(!view.listeners[1].matchesDestinations)
    }
}
