import Testing
import WeirConfig
import WeirModel
import WeirNet

/// The native format: keys of routes beyond the plain ones.
@Suite struct NativeRouteTests {
    private static func text(_ route: String) -> String {
        """
        clusters: [ { name: a, endpoints: ["10.0.0.1:1"] }, { name: b, endpoints: ["10.0.0.2:1"] } ]
        listeners:
        - address: 127.0.0.1:1
          routes:
          - { name: r, \(route) }
        """
    }

    /// The only route, whose keys besides its name are these.
    private func route(_ keys: String) throws -> Route { try #require(try onlyListener(Self.text(keys)).routes.first) }

    /// What is wrong with it: `line:column message`; its keys begin at 5:16.
    private func errors(_ keys: String) -> [String] { reading(Self.text(keys)).errorLines }

    @Test func theOriginalDestinationIsATargetWithOptions() throws {
        var options = UpstreamOptions()
        options.connectTimeout = .seconds(1)
        let action = try route("to: { original_destination: { connect: { timeout: 1s } } }").action
        #expect(action == .originalDestination(options))
    }

    @Test func limitsOfARouteAreThoseOfAListener() throws {
        let text = "limits: { connections: 9, rate: 5/s, burst: 7, per_client: { connections: 2, rate: 30/m } }"
        var expected = RouteLimits()
        expected.connections = 9
        expected.rate = RateLimit(5, burst: 7)
        expected.connectionsPerClient = 2
        expected.ratePerClient = RateLimit(30, per: .seconds(60))
        #expect(try route("to: { cluster: a }, \(text)").limits == expected)
    }

    @Test func limitsOfARouteThatDeniesAreAnError() {
        #expect(
            errors("deny: close, limits: { connections: 1 }") == [
                "5:13 listener \"127.0.0.1:1\", route \"r\": denies whoever comes, so its limits have no effect"
            ])
    }

    @Test(arguments: [
        ("keep", LiveSessions.keep), ("close", .close), ("{ drain: 1m30s }", .drain(.seconds(90))),
    ])
    func onRemovedTakesWordsAndADeadline(text: String, expected: LiveSessions) throws {
        #expect(try route("deny: close, on_removed: \(text)").onRemoved == expected)
    }

    @Test(arguments: [
        ("drain", "5:41 say for how long: { drain: 30s }"), ("later", "5:41 expected keep or close, found \"later\""),
        ("{ drain: 0s }", "5:50 expected a duration above zero, found \"0s\""),
        ("{ after: 1s }", "5:43 unknown key \"after\" in what becomes of sessions; known: drain"),
    ])
    func whatIsWrongWithOnRemovedIsSaid(text: String, error: String) {
        #expect(errors("deny: close, on_removed: \(text)") == [error])
    }

    /// A reload that takes a route out gives its number to the next.
    @Test func onRemovedNeedsAName() {
        let text = "listeners:\n- address: 127.0.0.1:1\n  routes: [{ deny: close, on_removed: close }]\n"
        let error =
            "`on_removed` needs a `name`: without one a route is known by its place in the list, which changes with it"
        #expect(reading(text).errorLines == ["3:39 " + error])
    }

    @Test func destinationsAreTakenAsBlocksAndPorts() throws {
        let match = try route(
            "match: { destinations: [10.0.0.0/8], except_destinations: [10.9.0.1], destination_ports: [443, 8000-8999] }, "
                + "deny: close"
        ).match
        #expect(match.destinations == [CIDR(IPAddress(10, 0, 0, 0), prefixLength: 8)])
        #expect(match.exceptDestinations == [CIDR(IPAddress(10, 9, 0, 1), prefixLength: 32)])
        #expect(match.destinationPorts == [443...443, 8000...8999])
    }

    @Test(arguments: [
        (
            "destinations: []",
            ["5:39 expected at least one of the blocks of addresses; leave the key out to match all, found a list"]
        ),
        ("destination_ports: [0]", ["5:45 expected a port 1...65535, or a range such as 8000-8999, found \"0\""]),
        (
            "destination_ports: [9000-8000]",
            ["5:45 expected a port 1...65535, or a range such as 8000-8999, found \"9000-8000\""]
        ),
        (
            "except_destinations: [10.0.0.1]",
            [
                "5:13 listener \"127.0.0.1:1\", route \"r\": excepts destinations of none: list the `destinations`"
            ]
        ),
    ])
    func whatIsWrongWithDestinationsIsSaid(match: String, errors: [String]) {
        #expect(self.errors("match: { \(match) }, deny: close") == errors)
    }

    @Test func severalClustersAreTakenWithTheirWeights() throws {
        let action = try route("to: { clusters: [ { name: a, weight: 80 }, { name: b } ] }").action
        #expect(action == .split([ClusterShare(cluster: "a", weight: 80), ClusterShare(cluster: "b", weight: 1)]))
    }

    @Test(arguments: [
        (
            "to: { clusters: [] }",
            ["5:32 expected at least one cluster such as { name: a, weight: 80 }, found a list"]
        ),
        ("to: { clusters: [ a ] }", ["5:34 expected a mapping for to.clusters, found \"a\""]),
        ("to: { clusters: [ { weight: 1 } ] }", ["5:34 an entry of to.clusters has no `name`"]),
        (
            "to: { clusters: [ { name: a, weight: -1 } ] }",
            ["5:53 expected a number 0...1000000, found \"-1\""]
        ),
        (
            "to: { clusters: [ { name: z } ] }",
            ["5:20 listener \"127.0.0.1:1\", route \"r\": there is no cluster \"z\""]
        ),
        (
            "to: { cluster: a, clusters: [ { name: b } ] }",
            ["5:44 a route goes to either `cluster` or `clusters`, not both"]
        ),
    ])
    func whatIsWrongWithSeveralClustersIsSaid(keys: String, errors: [String]) {
        #expect(self.errors(keys) == errors)
    }
}
