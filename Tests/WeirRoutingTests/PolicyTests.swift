import Testing
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

@Suite("S1-1: who leaves how") struct PolicyTests {
    /// What each policy of a configuration holds for; the policies lead through clusters of their own names.
    private func holds(
        _ matches: [Policy.Match], client: String, name: String? = nil, destination: String,
        labels: [ClientLabels] = []
    ) throws -> Int? {
        var configuration = Configuration()
        configuration.clientLabels = labels
        for (number, match) in matches.enumerated() {
            var cluster = Cluster(name: "g\(number)", endpoints: [Endpoint(host: .address(.v4Loopback), port: 1)])
            cluster.upstream.sendProxy = SendProxy(.v2)
            configuration.clusters.append(cluster)
            configuration.policies.append(Policy(name: "p\(number)", match: match, action: .gateways("g\(number)")))
        }
        let table = RouteTable(compiling: configuration, slots: [:], generation: 1, metricIndex: { _ in 0 })
        let (client, destination) = (try #require(IPAddress(client)), try #require(IPAddress(destination)))
        let name = try name.map { try ServerName($0) } ?? .none
        return withExtendedLifetime(table) {
            table.view.policy(client: client, name: name, destination: destination)
        }
    }

    private func match(_ change: (inout Policy.Match) throws -> Void) rethrows -> Policy.Match {
        var match = Policy.Match()
        try change(&match)
        return match
    }

    private func block(_ text: String) throws -> CIDR { try #require(CIDR(text)) }

    @Test func aPolicyWithoutConstraintsHoldsForAll() throws {
        #expect(try holds([Policy.Match()], client: "10.0.0.1", destination: "192.0.2.1") == 0)
    }

    @Test func theFirstThatHoldsDecides() throws {
        let first = try match { $0.destinations = [try block("198.51.100.0/24")] }
        #expect(try holds([first, Policy.Match()], client: "10.0.0.1", destination: "198.51.100.9") == 0)
        #expect(try holds([first, Policy.Match()], client: "10.0.0.1", destination: "192.0.2.1") == 1)
    }

    @Test func oneThatSaysAsTheRouteDoesEndsTheSearch() throws {
        let first = try match { $0.destinations = [try block("198.51.100.0/24")] }
        var configuration = Configuration()
        configuration.sources = [SourcePool(name: "s", addresses: [try #require(IPAddress("192.0.2.9"))])]
        configuration.policies = [
            Policy(name: "route", match: first, action: .route), Policy(name: "rest", action: .source("s")),
        ]
        let table = RouteTable(compiling: configuration, slots: [:], generation: 1, metricIndex: { _ in 0 })
        let (client, destination) = (
            try #require(IPAddress("10.0.0.1")), try #require(IPAddress("198.51.100.9"))
        )
        withExtendedLifetime(table) {
            #expect(table.view.policy(client: client, name: .none, destination: destination) == 0)
            if case .route = table.view.policies[0].action {} else { Issue.record("\(table.view.policies[0].action)") }
        }
    }

    @Test func exceptedDestinationsAreNotMeant() throws {
        let match = try match {
            $0.destinations = [try block("198.51.100.0/24")]
            $0.exceptDestinations = [try block("198.51.100.7/32")]
        }
        #expect(try holds([match], client: "10.0.0.1", destination: "198.51.100.6") == 0)
        #expect(try holds([match], client: "10.0.0.1", destination: "198.51.100.7") == nil)
    }

    @Test func clientsAreChosenByTheirBlocks() throws {
        let match = try match { $0.clients = [try block("10.2.0.0/16")] }
        #expect(try holds([match], client: "10.2.9.9", destination: "192.0.2.1") == 0)
        #expect(try holds([match], client: "10.3.9.9", destination: "192.0.2.1") == nil)
        #expect(try holds([match], client: "::ffff:10.2.9.9", destination: "192.0.2.1") == 0)
    }

    @Test func clientsAreChosenByAllOfTheirLabels() throws {
        let labels = [
            ClientLabels(["app": "billing", "namespace": "prod"], addresses: [try block("10.2.0.5/32")]),
            ClientLabels(["app": "billing", "namespace": "test"], addresses: [try block("10.2.0.6/32")]),
        ]
        let match = match { $0.clientLabels = ["app": "billing", "namespace": "prod"] }
        #expect(try holds([match], client: "10.2.0.5", destination: "192.0.2.1", labels: labels) == 0)
        #expect(try holds([match], client: "10.2.0.6", destination: "192.0.2.1", labels: labels) == nil)
        let both = self.match { $0.clientLabels = ["app": "billing"] }
        #expect(try holds([both], client: "10.2.0.6", destination: "192.0.2.1", labels: labels) == 0)
    }

    @Test func labelsThatNobodyHasChooseNobody() throws {
        let match = match { $0.clientLabels = ["app": "billing"] }
        #expect(try holds([match], client: "10.2.0.5", destination: "192.0.2.1") == nil)
        var configuration = Configuration()
        configuration.policies = [Policy(name: "p", match: match, action: .source("s"))]
        #expect(configuration.warnings().map(\.message) == ["no client has all of its labels"])
    }

    @Test(
        arguments: [
            ("api.partner.com", 0), ("deep.api.partner.com", 0), ("partner.com", nil), ("xpartner.com", nil),
            ("exact.test", 0), ("not.exact.test", nil), (nil, nil),
        ] as [(String?, Int?)])
    func namesAreExactOrWildcards(name: String?, found: Int?) throws {
        let match = try match {
            $0.serverNames = [try ServerNamePattern("*.partner.com"), try ServerNamePattern("exact.test")]
        }
        #expect(try holds([match], client: "10.0.0.1", name: name, destination: "192.0.2.1") == found)
    }

    @Test func everyConstraintHasToHold() throws {
        let match = try match {
            $0.clients = [try block("10.2.0.0/16")]
            $0.destinations = [try block("192.0.2.0/24")]
        }
        #expect(try holds([match], client: "10.2.0.1", destination: "198.51.100.1") == nil)
        #expect(try holds([match], client: "10.3.0.1", destination: "192.0.2.1") == nil)
    }
}
