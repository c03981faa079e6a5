import Testing
import WeirConfig
import WeirModel
import WeirNet

@Suite("S1-1, S1-2: policies in the native format") struct NativePolicyTests {
    private static let frame = """
        listeners: [ { address: "127.0.0.1:1", routes: [ { to: { server_name: { port: 443 } } } ] } ]
        sources: [ { name: public, addresses: [203.0.113.10] }, { name: wan, interface: eth1 } ]
        clusters: [ { name: egress, endpoints: ["10.0.0.1:1"], send_proxy: v2, max_active_endpoints: 2 } ]

        """

    private func configuration(_ text: String) throws -> Configuration {
        let result = reading(Self.frame + text)
        return try #require(result.configuration, "\(result.diagnostics.map(\.description))")
    }

    private func errors(_ text: String) -> [String] { reading(Self.frame + text).errorLines }

    @Test func aPolicyTakesItsKeys() throws {
        let configuration = try configuration(
            """
            client_labels:
              - { labels: { app: billing, namespace: prod }, addresses: [10.1.0.5, 10.1.0.6] }
            policies:
              - name: partners
                match:
                  clients: [10.0.0.0/8]
                  client_labels: { app: billing }
                  server_names: ["*.partner.com"]
                  destinations: [203.0.113.0/24]
                  except_destinations: [203.0.113.7]
                gateways: egress
              - source: public
              - { name: local, to: route }
            """)
        var match = Policy.Match()
        match.clients = [try #require(CIDR("10.0.0.0/8"))]
        match.clientLabels = ["app": "billing"]
        match.serverNames = [try ServerNamePattern("*.partner.com")]
        match.destinations = [try #require(CIDR("203.0.113.0/24"))]
        match.exceptDestinations = [try #require(CIDR("203.0.113.7"))]
        #expect(
            configuration.policies == [
                Policy(name: "partners", match: match, action: .gateways("egress")),
                Policy(name: "policy-2", action: .source("public")),
                Policy(name: "local", action: .route),
            ])
        #expect(configuration.clientLabels.count == 1)
        #expect(configuration.clusters[0].activeCountMax == 2)
        #expect(configuration.sources[1].interface == "eth1")
    }

    @Test func aPolicyHasOneWayOut() {
        #expect(
            errors("policies: [ { name: a } ]") == [
                "4:13 a policy has a `source` to connect from, `gateways` to go through, or `to: route`"
            ])
        #expect(
            errors("policies: [ { source: public, gateways: egress } ]") == [
                "4:41 a policy has one of `source`, `gateways` and `to`"
            ])
        #expect(
            errors("policies: [ { to: route, source: public } ]") == [
                "4:19 a policy has one of `source`, `gateways` and `to`"
            ])
    }

    @Test func theOnlyTargetOfAPolicyIsTheRoute() {
        #expect(errors("policies: [ { to: public } ]") == ["4:19 expected route, found \"public\""])
    }

    @Test func whatAPolicyNamesHasToBeThere() {
        #expect(
            errors("policies: [ { name: a, source: none }, { name: b, gateways: none } ]") == [
                "4:21 policy \"a\": there is no source \"none\"", "4:48 policy \"b\": there is no cluster \"none\"",
            ])
    }

    @Test func namesAreUsedOnce() {
        #expect(
            errors("policies: [ { name: a, source: public }, { name: a, source: public } ]").map { $0.prefix(37) } == [
                "4:50 policy \"a\" is already defined at"
            ])
    }

    @Test func gatewaysHaveToBeToldOfTheDestination() {
        let text =
            "clusters: [ { name: mute, endpoints: [\"10.0.0.1:1\"] } ]\npolicies: [ { name: a, gateways: mute } ]\n"
        let frame = "listeners: [ { address: \"127.0.0.1:1\", routes: [ { to: { server_name: { port: 443 } } } ] } ]\n"
        #expect(
            reading(frame + text).errorLines == [
                "3:21 policy \"a\": cluster \"mute\" has no send_proxy, so its gateways would not know the destination"
            ])
    }

    @Test func anEmptyConstraintIsAnError() {
        #expect(
            errors("policies: [ { match: { destinations: [] }, source: public } ]") == [
                "4:38 expected at least one of the blocks of addresses; leave the key out to match all, found a list"
            ])
    }

    @Test func theDestinationOfAProxyHeaderNeedsOne() {
        let text =
            "listeners: [ { address: \"127.0.0.1:1\", detect: none, routes: [ { to: { proxy_destination: {} } } ] } ]\n"
        #expect(
            reading(text).errorLines.map { String($0.drop { $0 != " " }) } == [
                " listener \"127.0.0.1:1\", route \"route-1\": goes where the PROXY header says, but the listener has no accept_proxy"
            ])
    }
}
