import Testing
import WeirModel
import WeirNet

@testable import WeirConfig

/// VirtualService (S0-2, S3-1): which connections, and where they go.
@Suite struct VirtualServiceTests {
    private static let destination = "route: [ { destination: { host: there.example.com } } ]"
    private static let there = RouteAction.cluster("outbound|443||there.example.com")

    /// The routes that `tls` makes at port 443.
    private func routes(_ tls: String, _ others: String...) throws -> [Route] {
        let text = ([IstioSample.rules(tls), IstioSample.entry()] + others).joined(separator: "---\n")
        return try reading(text).listener(443).routes
    }

    @Test func theMeshListensOnThePortThatIsMatched() throws {
        let result = reading(IstioSample.egress)
        let listener = try result.listener(443)
        #expect(listener.routes.map(\.name) == ["VirtualService/default/example/tls/0"])
        #expect(listener.routes[0].match == RouteMatch(serverNames: [.exact(try ServerName("example.com"))]))
        #expect(listener.routes[0].action == .cluster("outbound|443||egress.mydomain.internal"))
    }

    @Test func withoutAPortTheMeshListensOnTheTLSPortsOfItsHosts() throws {
        let spec = """
            hosts: [ there.example.com ]
            tls: [ { match: [ { sniHosts: [ there.example.com ] } ], \(Self.destination) } ]
            """
        let result = reading(documents: IstioSample.document("VirtualService", spec), IstioSample.entry())
        #expect(try result.listener(443).routes.map(\.action) == [Self.there])
    }

    @Test func aGatewaysRouteTakesItsNamesAtItsPort() throws {
        let result = reading(IstioSample.servers)
        #expect(result.unsupportedLines == [])
        let route = try #require(try result.listener(443).routes.first)
        #expect(route.name == "VirtualService/shoot-a/kube-apiserver/tls/0")
        #expect(
            route.match.serverNames == [
                .exact(try ServerName("api.a.example.com")),
                .exact(try ServerName("api.a.project.internal.example.com")),
            ])
        #expect(route.action == .cluster("outbound|443||kube-apiserver.shoot-a.svc.cluster.local"))
    }

    @Test func aServiceOfTheClusterThatNobodyDescribesMayHaveAPrivateAddress() throws {
        let result = reading(IstioSample.servers)
        #expect(try result.cluster("outbound|443||kube-apiserver.shoot-a.svc.cluster.local").privateNames)
        #expect(result.notices(containing: "it is asked of the name servers"))
    }

    @Test func matchesOfOneRuleAreARouteEach() throws {
        let routes = try routes(
            "- { match: [ { port: 443, sniHosts: [ a.example.com ] }, { port: 443, sniHosts: [ b.example.com ] } ], \(Self.destination) }"
        )
        #expect(routes.map(\.name) == ["VirtualService/n/a/tls/0", "VirtualService/n/a/tls/0/1"])
    }

    @Test func destinationSubnetsAreTheRoutesDestinations() throws {
        let routes = try routes(
            "- { match: [ { port: 443, sniHosts: [ a.example.com ], destinationSubnets: [ 10.1.0.0/16 ] } ], \(Self.destination) }"
        )
        #expect(routes.map(\.match.destinations) == [[CIDR("10.1.0.0/16")!]])
    }

    @Test func weightsShareASplit() throws {
        let routes = try routes(
            """
            - match: [ { port: 443, sniHosts: [ a.example.com ] } ]
              route:
              - { destination: { host: there.example.com }, weight: 80 }
              - { destination: { host: other.example.com }, weight: 20 }
            """, IstioSample.entry("other.example.com", name: "other"))
        #expect(
            routes.map(\.action) == [
                .split([
                    ClusterShare(cluster: "outbound|443||there.example.com", weight: 80),
                    ClusterShare(cluster: "outbound|443||other.example.com", weight: 20),
                ])
            ])
    }

    @Test func theShareOfADestinationThatCannotBeReachedIsRefused() throws {
        let result = reading(
            documents: IstioSample.entry(),
            IstioSample.rules(
                """
                - match: [ { port: 443, sniHosts: [ a.example.com ] } ]
                  route:
                  - { destination: { host: there.example.com }, weight: 80 }
                  - { destination: { host: there.example.com, port: { number: 444 } }, weight: 20 }
                """))
        let nobody = try result.cluster("nobody|VirtualService/n/a/tls/0")
        #expect(nobody.endpoints.map(\.isDown) == [true])
        #expect(
            try result.listener(443).routes.map(\.action) == [
                .split([
                    ClusterShare(cluster: "outbound|443||there.example.com", weight: 80),
                    ClusterShare(cluster: nobody.name, weight: 20),
                ])
            ])
    }

    @Test func sourceLabelsAreTheAddressesOfTheWorkloadsThatHaveThem() throws {
        let client = IstioSample.document("WorkloadEntry", "address: 10.0.0.5\nlabels: { app: web }", name: "web")
        let other = IstioSample.document("WorkloadEntry", "address: 10.0.0.6\nlabels: { app: db }", name: "db")
        let routes = try routes(
            "- { match: [ { port: 443, sniHosts: [ a.example.com ], sourceLabels: { app: web } } ], \(Self.destination) }",
            client, other)
        #expect(routes.map(\.match.clients) == [[CIDR("10.0.0.5")!]])
    }

    @Test func sourceNamespaceIsTheAddressesOfItsWorkloads() throws {
        let client = IstioSample.document("WorkloadEntry", "address: 10.0.0.5", name: "web")
        let routes = try routes(
            "- { match: [ { port: 443, sniHosts: [ a.example.com ], sourceNamespace: n } ], \(Self.destination) }",
            client,
            client.replacing("namespace: n", with: "namespace: m").replacing("0.5", with: "0.6"))
        #expect(routes.map(\.match.clients) == [[CIDR("10.0.0.5")!]])
    }

    @Test func aMatchForWorkloadsThatNobodyDescribesTakesNoConnection() throws {
        let result = reading(
            documents: IstioSample.entry(),
            IstioSample.rules(
                """
                - { match: [ { port: 443, sniHosts: [ a.example.com ], sourceLabels: { app: web } } ], \(Self.destination) }
                - { match: [ { port: 443, sniHosts: [ b.example.com ] } ], \(Self.destination) }
                """))
        #expect(try result.listener(443).routes.map(\.name) == ["VirtualService/n/a/tls/1"])
        #expect(
            result.unsupportedLines.map {
                $0.hasSuffix(
                    "spec.tls[0].match[0].sourceLabels: no Pod or WorkloadEntry that it means has an address here: the match takes no connection"
                )
            } == [true])
    }

    @Test func aDestinationThatCannotBeReachedIsDeniedAndDoesNotFallThrough() throws {
        let result = reading(
            documents: IstioSample.route(to: "{ host: there.example.com, port: { number: 444 } }"), IstioSample.entry())
        #expect(try result.listener(443).routes.map(\.action) == [.deny(.reset)])
        #expect(result.unsupportedLines.contains { $0.contains("service \"there.example.com\" has no port 444") })
    }

    @Test func aDestinationOfLocalhostIsABlackHole() throws {
        let result = reading(IstioSample.blackhole)
        #expect(try result.listener(8443).routes.map(\.action) == [.deny(.reset)])
        #expect(result.unsupportedLines == [])
        #expect(result.notices(containing: "\"localhost\" is nobody's service: connections are refused here"))
    }

    @Test func aListenerOfTCPRoutesReadsNoHello() throws {
        #expect(try reading(IstioSample.blackhole).listener(8443).detect == [])
    }

    @Test func aRuleOfTCPWithoutAMatchListensOnTheTCPPortsOfItsHosts() throws {
        let entry = IstioSample.entry().replacing("protocol: TLS", with: "protocol: TCP").replacing("443", with: "5432")
        let spec = "hosts: [ there.example.com ]\ntcp: [ { \(Self.destination) } ]"
        let result = reading(documents: entry, IstioSample.document("VirtualService", spec))
        #expect(try result.listener(5432).routes.map(\.action) == [.cluster("outbound|5432||there.example.com")])
    }

    @Test func gatewaysOfAMatchStandInPlaceOfThoseOfTheService() throws {
        let routes = try routes(
            """
            - { match: [ { port: 443, sniHosts: [ a.example.com ], gateways: [ mesh ] } ], \(Self.destination) }
            - { match: [ { port: 443, sniHosts: [ b.example.com ], gateways: [ gate ] } ], \(Self.destination) }
            """,
            IstioSample.document("Gateway", "servers: []", name: "gate"))
        #expect(routes.map(\.name) == ["VirtualService/n/a/tls/0"])
    }

    @Test func rulesOfHTTPAreUnsupported() {
        let spec = "hosts: [ a.example.com ]\nhttp: [ { route: [ { destination: { host: a.example.com } } ] } ]"
        let lines = reading(documents: IstioSample.document("VirtualService", spec)).unsupportedLines
        #expect(lines.map { $0.contains("VirtualService n/a: spec.http: HTTP is not routed") } == [true])
    }

    @Test func aFieldOfAMatchThatNobodyReadsIsReported() {
        let text = IstioSample.route(to: "{ host: there.example.com }").replacing(
            "port: 443", with: "port: 443, colour: red")
        let lines = reading(documents: text, IstioSample.entry()).unsupportedLines
        #expect(
            lines.map { $0.hasSuffix("spec.tls[0].match[0].colour: has no effect: it is not known here") } == [true])
    }

    @Test(arguments: [
        (
            "{ match: [ { sniHosts: [ a.org ] } ], \(destination) }",
            "\"a.org\" is in none of the VirtualService's hosts"
        ),
        ("{ match: [ { port: 443 } ], \(destination) }", "a match of `tls` names at least one host"),
        ("{ \(destination) }", "a rule of `tls` has at least one match with sniHosts"),
        ("{ match: [ { sniHosts: [ a.example.com ] } ] }", "a rule has at least one destination"),
        ("{ match: [ { port: 443, sniHosts: [ \"a b\" ] } ], \(destination) }", "expected a host such as"),
        (
            "{ match: [ { port: 443, sniHosts: [ a.example.com ], destinationSubnets: [ x ] } ], \(destination) }",
            "block"
        ),
        ("{ match: [ { port: 443, sniHosts: [ a.example.com ] } ], route: [ { weight: 1 } ] }", "has a host"),
    ])
    func whatIstioWouldNotTakeIsAnError(rule: String, error: String) {
        let errors = reading(documents: IstioSample.rules("- \(rule)"), IstioSample.entry()).errorLines
        #expect(errors.contains { $0.contains(error) }, "\(errors)")
    }

    // MARK: Names in short

    private static let shop = service("redis", port: "{ name: https, port: 443 }", namespace: "n")

    @Test func aShortNameIsAServiceOfItsNamespaceWhateverServiceEntriesAreCalled() throws {
        let evil = IstioSample.entry("redis", name: "evil").replacing("namespace: n", with: "namespace: evil")
        let result = reading(documents: IstioSample.route(to: "{ host: redis }"), evil + Self.shop)
        #expect(
            try result.listener(443).routes.map(\.action) == [.cluster("outbound|443||redis.n.svc.cluster.local")])
    }

    @Test(arguments: ["redis.n", "redis.n.svc"])
    func aNameWithADotThatIsCompletedIsSaid(host: String) throws {
        let result = reading(documents: IstioSample.route(to: "{ host: \(host) }"), Self.shop)
        #expect(
            try result.listener(443).routes.map(\.action) == [.cluster("outbound|443||redis.n.svc.cluster.local")])
        #expect(result.notices(containing: "\"\(host)\" is taken for \"redis.n.svc.cluster.local\""))
    }

    // MARK: Order

    @Test func aWiderNameBeforeANarrowerOneIsSaidNotToGoFirst() {
        let result = reading(
            documents: IstioSample.entry(),
            IstioSample.rules(
                """
                - { match: [ { port: 443, sniHosts: [ "*.example.com" ] } ], \(Self.destination) }
                - { match: [ { port: 443, sniHosts: [ b.example.com ] } ], \(Self.destination) }
                """))
        #expect(
            result.notices(
                containing:
                    "\"*.example.com\" of VirtualService/n/a/tls/0 stands before \"b.example.com\": the narrower name is taken first"
            ))
    }

    @Test func aNarrowerNameBeforeAWiderOneIsAsItShouldBe() {
        let result = reading(
            documents: IstioSample.entry(),
            IstioSample.rules(
                """
                - { match: [ { port: 443, sniHosts: [ b.example.com ] } ], \(Self.destination) }
                - { match: [ { port: 443, sniHosts: [ "*.example.com" ] } ], \(Self.destination) }
                """))
        #expect(result.notices == [])
    }

    @Test func aRouteThatTakesNoConnectionIsSaid() {
        let rule = "- { match: [ { port: 443, sniHosts: [ b.example.com ] } ], \(Self.destination) }\n"
        let result = reading(documents: IstioSample.entry(), IstioSample.rules(rule + rule))
        #expect(
            result.notices(
                containing:
                    "VirtualService/n/a/tls/1 takes no connection at port 443: VirtualService/n/a/tls/0 takes them before"
            ))
    }

    @Test func theLongerBlockOfDestinationsIsAskedFirst() throws {
        func rule(_ subnet: String) -> String {
            "- { match: [ { port: 443, sniHosts: [ b.example.com ]\(subnet) } ], \(Self.destination) }\n"
        }
        let routes = try routes(
            rule("") + rule(", destinationSubnets: [ 10.0.0.0/8 ]") + rule(", destinationSubnets: [ 10.1.0.0/16 ]"))
        #expect(
            routes.map(\.name) == ["VirtualService/n/a/tls/2", "VirtualService/n/a/tls/1", "VirtualService/n/a/tls/0"])
    }

    @Test func aBlockIsAskedInItsOwnPlaceAmongThoseOfOtherRules() throws {
        func rule(_ subnets: String) -> String {
            "- { match: [ { port: 443, sniHosts: [ b.example.com ], destinationSubnets: [ \(subnets) ] } ], \(Self.destination) }\n"
        }
        let routes = try routes(rule("10.0.0.0/8, 192.168.1.1, 192.168.1.2") + rule("10.1.0.0/16"))
        #expect(
            routes.map(\.name) == [
                "VirtualService/n/a/tls/0", "VirtualService/n/a/tls/1", "VirtualService/n/a/tls/0/prefix-8",
            ])
        #expect(
            routes.map(\.match.destinations) == [
                [CIDR("192.168.1.1")!, CIDR("192.168.1.2")!], [CIDR("10.1.0.0/16")!], [CIDR("10.0.0.0/8")!],
            ])
    }

    @Test func whereANameGoesBeforeADestinationItIsSaid() {
        let result = reading(
            documents: IstioSample.entry(),
            IstioSample.rules(
                """
                - { match: [ { port: 443, sniHosts: [ "*.example.com" ], destinationSubnets: [ 10.1.2.3 ] } ], \(Self.destination) }
                - { match: [ { port: 443, sniHosts: [ b.example.com ] } ], \(Self.destination) }
                """))
        #expect(result.notices(containing: "server names go first here, in Envoy destinations do"))
    }
}
