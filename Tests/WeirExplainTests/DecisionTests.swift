import Testing
import WeirExplain
import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirUpstream

private let partner = cluster("partner", ["203.0.113.1:443", "203.0.113.2:443"])
private let toPartner = RouteAction.cluster("partner")

@Suite("Explain: routes")
struct ExplainedRouteTests {
    private let all = configuration(
        [
            route("b", ["api.partner.com"], clients: ["192.168.0.0/16"], to: toPartner),
            route("h2", ["*.partner.com"], alpn: ["h2"], to: toPartner),
            route("a", ["*.partner.com"], to: toPartner),
            route("x", ["x.com"], to: .deny(.reset)),
            route("any", ["*"]),
            route("rest", to: .deny(.close)),
        ], [partner])

    private func outcomes(_ explanation: Explanation) -> [String] {
        explanation.candidates.map { one in
            switch one.outcome {
            case .taken: "\(one.route) taken"
            case .shadowed: "\(one.route) later"
            case .failing(let constraint, _): "\(one.route) \(constraint)"
            }
        }
    }

    @Test func routesStandInTheOrderInWhichTheyAreTried() {
        let found = decision(inquiry("api.partner.com"), all)
        #expect(outcomes(found) == ["b clients", "h2 alpn", "a taken", "any later", "rest later"])
    }

    @Test func aClientThatIsInNoBlockIsToldTheBlocks() {
        let found = decision(inquiry("api.partner.com"), all).candidates[0]
        let why = "the client 10.1.2.3 is not in 192.168.0.0/16"
        #expect(found.outcome == .failing(.clients, why: why))
    }

    @Test func protocolsThatAreNotOfferedAreNamed() {
        let found = decision(inquiry("www.partner.com", alpn: ["http/1.1"]), all).candidates[0]
        let why = "the client offers \"http/1.1\" by ALPN, and it asks for \"h2\""
        #expect(found.outcome == .failing(.alpn, why: why))
    }

    @Test func theProtocolThatIsOfferedIsTaken() {
        #expect(decision(inquiry("www.partner.com", alpn: ["h2"]), all).verdict.route == "h2")
    }

    @Test func theWildcardThatMatchedIsNamed() {
        let found = decision(inquiry("a.b.partner.com"), all)
        #expect(found.candidates.map(\.pattern) == ["*.partner.com", "*.partner.com", "*", nil])
    }

    @Test func routesForOtherNamesAreListedAndCounted() {
        let found = decision(inquiry("api.partner.com"), all)
        #expect(found.otherNameCount == 1)
        #expect(found.otherNames == [.init(route: "x", patterns: ["x.com"])])
    }

    @Test func ofManyOtherNamesTheFirstAreListed() {
        let many = configuration((0..<100).map { route("r\($0)", ["\($0).test"]) })
        let found = decision(inquiry("7.test"), many)
        #expect(found.otherNameCount == 99)
        #expect(found.otherNames.count == 8)
    }

    @Test func aRouteThatComesByTwoPatternsStandsOnce() {
        let twice = configuration([route("both", ["a.test", "*"])])
        #expect(outcomes(decision(inquiry("a.test"), twice)) == ["both taken"])
    }

    private func asking(_ change: (inout RouteMatch) -> Void) -> Configuration {
        var all = configuration([route("some", to: toPartner), route("rest", to: .deny(.close))], [partner])
        change(&all.listeners[0].routes[0].match)
        return all
    }

    /// What comes of the first route. With a destination, on a listener that clients are led to.
    private func why(_ configuration: Configuration, to destination: String? = nil) -> Explanation.Candidate.Outcome {
        var configuration = configuration
        var asked = inquiry()
        if let destination {
            configuration.listeners[0].routes.append(route("led", to: .originalDestination(UpstreamOptions())))
            asked.destination = socketAddress(destination)
        }
        return decision(asked, configuration).candidates[0].outcome
    }

    @Test func aDestinationThatIsInNoBlockIsToldTheBlocks() {
        let some = asking { $0.destinations = [block("10.9.0.0/16")] }
        let why = "the destination 10.8.0.1 is not in 10.9.0.0/16"
        #expect(self.why(some, to: "10.8.0.1:443") == .failing(.destinations, why: why))
    }

    @Test func anExceptionFromDestinationsIsNamed() {
        let some = asking {
            $0.destinations = [block("10.0.0.0/8")]
            $0.exceptDestinations = [block("10.8.0.0/16")]
        }
        let why = "the destination 10.8.0.1 is in 10.8.0.0/16, which it excepts"
        #expect(self.why(some, to: "10.8.0.1:443") == .failing(.destinations, why: why))
    }

    @Test func portsOfDestinationsAreNamed() {
        let some = asking { $0.destinationPorts = [443...443, 8000...8999] }
        let why = "the destination's port 80 is not 443, 8000-8999"
        #expect(self.why(some, to: "10.8.0.1:80") == .failing(.destinationPorts, why: why))
        #expect(self.why(some, to: "10.8.0.1:8080") == .taken)
    }

    @Test func onAListenerOnEveryAddressOnlyThePortIsKnown() {
        var some = asking { $0.destinations = [block("10.9.0.0/16")] }
        some.listeners[0].address = socketAddress("0.0.0.0:443")
        let why = "where the client connects to is not known, and it asks for 10.9.0.0/16"
        #expect(self.why(some) == .failing(.destinations, why: why))
        var ports = asking { $0.destinationPorts = [443...443] }
        ports.listeners[0].address = socketAddress("0.0.0.0:443")
        #expect(self.why(ports) == .taken)
    }

    @Test func noRouteIsTheReasonForANameThatNoneTakes() {
        let few = configuration([route("x", ["x.com"])])
        #expect(decision(inquiry("y.com"), few).verdict.reason == "local_no_route")
    }

    @Test func aMissingNameIsTheReasonWhereRoutesAskForOne() {
        let few = configuration([route("x", ["x.com"])])
        #expect(decision(inquiry(), few).verdict.reason == "local_no_server_name")
    }

    /// The observed look-up and the workers' are one: over names, clients and protocols that meet every kind of pattern.
    @Test func theRouteIsTheOneThatTheRouterGivesWorkers() {
        var random = SystemRandomNumberGenerator()
        let labels = ["a", "b", "c"]
        func name() -> String {
            (0..<Int.random(in: 1...4, using: &random)).map { _ in labels.randomElement(using: &random)! }
                .joined(separator: ".")
        }
        for _ in 0..<50 {
            let routes = (0..<20).map { index in
                let pattern = ["", "*", name(), "*." + name()].randomElement(using: &random)!
                return route(
                    "r\(index)", pattern.isEmpty ? [] : [pattern],
                    clients: Bool.random(using: &random) ? ["10.0.0.0/9"] : [],
                    alpn: Bool.random(using: &random) ? ["h2"] : [])
            }
            let all = configuration(routes)
            let table = RouteTable(
                compiling: all, slots: ["main": 0], generation: 0, metricIndex: { _ in -1 })
            for _ in 0..<50 {
                let asked = inquiry(
                    name(), client: Bool.random(using: &random) ? "10.1.1.1" : "10.200.1.1",
                    alpn: Bool.random(using: &random) ? ["h2"] : [])
                let expected = table.view.route(
                    listener: 0, name: asked.serverName, client: asked.peer, alpn: asked.alpn)
                let found = decision(asked, all)
                #expect(found.verdict.route == expected.map { table.routeName($0) })
                let firstThatHolds = found.candidates.first { if case .failing = $0.outcome { false } else { true } }
                #expect(firstThatHolds?.route == found.verdict.route)
            }
        }
    }
}

@Suite("Explain: clients and PROXY headers")
struct ExplainedClientTests {
    private let routes = [route("all", to: toPartner)]

    private func behind(_ peers: [String]) -> Configuration {
        configuration(routes, [partner]) { $0.acceptProxy = AcceptProxy(from: peers.map(block)) }
    }

    @Test func theRuleThatLetsAClientInIsNamed() {
        let some = configuration(routes, [partner]) { $0.clients = .allowing([block("10.0.0.0/8")]) }
        #expect(decision(inquiry(), some).client.admission == .init(isAllowed: true, rule: block("10.0.0.0/8")))
    }

    @Test func aClientInNoRuleIsRefusedBeforeAnyRoute() {
        let some = configuration(routes, [partner]) { $0.clients = .allowing([block("192.168.0.0/16")]) }
        let found = decision(inquiry(), some)
        #expect(found.verdict == Verdict(refusal: .other(.clientDenied)))
        #expect(found.candidates.isEmpty)
    }

    @Test func theFirstRuleThatHasTheClientDecides() {
        let some = configuration(routes, [partner]) {
            $0.clients = ClientPolicy(
                rules: [
                    .init(allow: false, block: block("10.1.0.0/16")), .init(allow: true, block: block("10.0.0.0/8")),
                ], otherwiseAllow: true)
        }
        #expect(decision(inquiry(), some).client.admission == .init(isAllowed: false, rule: block("10.1.0.0/16")))
    }

    @Test func aBelievedHeaderSaysWhoTheClientIs() {
        let asked = inquiry(peer: "10.9.9.9", header: "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
        let found = decision(asked, behind(["10.9.0.0/16"])).client
        #expect(found.header == .accepted(block("10.9.0.0/16")))
        #expect(found.address == ip("192.0.2.7"))
        #expect(found.destination == socketAddress("198.51.100.1:443"))
    }

    @Test func aPeerThatIsNotListedIsRefusedWhateverItSends() {
        let asked = inquiry(peer: "10.8.9.9", header: "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
        #expect(decision(asked, behind(["10.9.0.0/16"])).verdict.reason == "pp_untrusted")
    }

    @Test func aListedPeerWithoutAHeaderIsRefused() {
        #expect(decision(inquiry(client: "10.9.9.9"), behind(["10.9.0.0/16"])).verdict.reason == "pp_missing")
    }

    @Test func aBrokenHeaderIsRefusedWithItsReason() {
        let asked = inquiry(peer: "10.9.9.9", header: "PROXY TCP4 192.0.2.7\r\n")
        #expect(decision(asked, behind(["10.9.0.0/16"])).verdict.reason == "pp_malformed")
    }

    @Test func aHeaderThatNamesNobodyLeavesTheSocketsAddresses() {
        let asked = inquiry(peer: "10.9.9.9", header: "PROXY UNKNOWN\r\n")
        #expect(decision(asked, behind(["10.9.0.0/16"])).client.address == ip("10.9.9.9"))
    }

    @Test func aHeaderWhereNoneIsTakenIsAnotherProtocol() {
        let asked = inquiry("a.test", peer: "10.9.9.9", header: "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
        let named = configuration([route("named", ["*"])])
        #expect(decision(asked, named).verdict.reason == "not_tls")
    }

    @Test func aRouteWithoutNamesTakesAHeaderForAnotherProtocol() {
        let asked = inquiry("a.test", peer: "10.9.9.9", header: "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
        let found = decision(asked, configuration(routes, [partner]))
        #expect(found.verdict.route == "all")
        #expect(found.serverName.isNone)
    }

    private var believed: Inquiry {
        var asked = inquiry("a.test", client: "10.9.9.9")
        asked.origin = .believed(client: ip("192.0.2.7"), destination: nil)
        return asked
    }

    @Test func whoAHeaderNamedIsTheClientWithoutTheHeadersBytes() {
        let found = decision(believed, behind(["10.9.0.0/16"]))
        #expect(found.verdict.isForwarded)
        #expect(found.client.address == ip("192.0.2.7"))
    }

    @Test func whoAHeaderNamedIsRefusedWhereItsPeerIsNotTrusted() {
        #expect(decision(believed, behind(["10.8.0.0/16"])).verdict.reason == "pp_untrusted")
    }

    @Test func whoAHeaderNamedSpeaksAnotherProtocolWhereNoneIsTaken() {
        #expect(decision(believed, configuration([route("named", ["*"])])).verdict.reason == "not_tls")
    }

    @Test func aHeadersNameIsHeardWhereNoFirstBytesAreRead() {
        var blind = behind(["10.9.0.0/16"])
        blind.listeners[0].detect = []
        #expect(decision(believed, blind).serverName == serverName("a.test"))
    }

    @Test func aDestinationThatNoRouteGoesToIsNotTheSocketsOwn() {
        var asked = inquiry("a.test")
        asked.destination = socketAddress("203.0.113.9:8443")
        let found = decision(asked, configuration([route("any", ["*"], to: .forward(DynamicForward(port: .listener)))]))
        #expect(found.client.destination == socketAddress("127.0.0.1:443"))
        #expect(found.target?.destination?.port == 443)
    }

    @Test func theListenersPortIsTheOriginalOneWhereARouteGoesThere() {
        var asked = inquiry("a.test")
        asked.destination = socketAddress("203.0.113.9:8443")
        let led = configuration([
            route("any", ["*"], to: .forward(DynamicForward(port: .listener))),
            route("rest", to: .originalDestination(UpstreamOptions())),
        ])
        #expect(decision(asked, led).target?.destination?.port == 8443)
    }

    @Test func aNameIsNotSeenWhereNoFirstBytesAreRead() {
        let blind = configuration(routes, [partner]) { $0.detect = [] }
        #expect(decision(inquiry("a.test", alpn: ["h2"]), blind).serverName.isNone)
    }
}

@Suite("Explain: destinations")
struct ExplainedDestinationTests {
    private let forward = configuration([route("any", ["*"])])

    @Test func eachAddressStandsWithTheGuardsRule() throws {
        let found = decision(
            inquiry("a.test"), forward, names: ["a.test": ["93.184.215.14", "10.1.1.1", "169.254.169.254"]])
        let addresses = try #require(found.target?.destination?.addresses)
        #expect(
            addresses.map(\.guard) == [
                .denied(.private, block: nil), .allowed(.isPublic), .denied(.metadata, block: nil),
            ])
        #expect(found.verdict.isForwarded)
    }

    @Test func anExemptionIsNamed() throws {
        var some = forward
        some.destinations.allow = [.init(block("10.0.0.0/8"))]
        let found = decision(inquiry("a.test"), some, names: ["a.test": ["10.1.1.1"]])
        #expect(try #require(found.target?.destination).addresses[0].guard == .allowed(.exempted(block("10.0.0.0/8"))))
    }

    @Test(
        arguments: [
            ("10.1.1.1", .allowed(.isPrivateName)), ("93.184.215.14", .allowed(.isPublic)),
            ("10.9.1.1", .allowed(.exempted(block("10.9.0.0/16")))), ("127.0.0.1", .denied(.loopback, block: nil)),
        ] as [(String, Explanation.Address.Guard)])
    func whyAClustersNameMayBePrivateIsTold(_ address: String, _ expected: Explanation.Address.Guard) {
        var inner = Cluster(name: "inner", endpoints: [Endpoint(host: .name(serverName("svc.test")), port: 8443)])
        inner.privateNames = true
        var some = configuration([route("all", to: .cluster("inner"))], [inner])
        some.destinations.allow = [.init(block("10.9.0.0/16"))]
        let found = decision(inquiry("a.test"), some, names: ["svc.test": [address]])
        #expect(found.target?.clusters[0].endpoints[0].destination.addresses.map(\.guard) == [expected])
    }

    @Test func aConfiguredDenyIsNamed() throws {
        var some = forward
        some.destinations.deny = [.init(block("93.184.0.0/16"))]
        let found = decision(inquiry("a.test"), some, names: ["a.test": ["93.184.215.14"]])
        let denied = Explanation.Address.Guard.denied(.configuredDeny, block: block("93.184.0.0/16"))
        #expect(try #require(found.target?.destination).addresses[0].guard == denied)
        #expect(found.verdict.reason == "local_destination_denied")
    }

    @Test func ourOwnListenerIsNoDestination() {
        var some = forward
        some.destinations.allow = [.init(block("127.0.0.0/8"))]
        let found = decision(inquiry("a.test"), some, names: ["a.test": ["127.0.0.1"]])
        #expect(found.target?.destination?.addresses.map(\.guard) == [.denied(.ownListener, block: nil)])
    }

    @Test func aNameThatDoesNotExistIsTheReason() {
        #expect(decision(inquiry("a.test"), forward, names: [:]).verdict.reason == "upstream_dns_no_such_name")
    }

    @Test func aNameThatNobodyWasAskedAboutIsForwardedAsFarAsOneKnows() {
        let found = decision(inquiry("a.test"), forward)
        #expect(found.target?.destination?.source == .notAsked)
        #expect(found.verdict == Verdict(route: "any", target: "a.test:443"))
    }

    @Test func aFamilyWithoutASourceAddressIsNotUsed() {
        var options = UpstreamOptions()
        options.sourceAddresses = [ip("2001:db8::1")]
        let some = configuration(
            [route("any", ["*"], to: .forward(DynamicForward(port: .fixed(443), upstream: options)))])
        let found = decision(inquiry("a.test"), some, names: ["a.test": ["93.184.215.14"]])
        #expect(found.verdict.reason == "upstream_connect_unreachable")
    }

    @Test func theListenersPortIsThePortWhereTheRouteSaysSo() {
        let some = configuration([route("any", ["*"], to: .forward(DynamicForward(port: .listener)))])
        #expect(decision(inquiry("a.test"), some).target?.destination?.port == 443)
    }

    @Test func theDestinationOfAHeaderIsCheckedByTheGuard() {
        let some = configuration([route("all", to: .proxyDestination(UpstreamOptions()))]) {
            $0.acceptProxy = AcceptProxy(from: [block("10.0.0.0/8")])
        }
        let asked = inquiry(peer: "10.1.1.1", header: "PROXY TCP4 192.0.2.7 10.7.7.7 56324 443\r\n")
        #expect(decision(asked, some).verdict.reason == "local_destination_denied")
    }

    /// T-07: as a worker does it.
    @Test func whomNobodyRedirectedAsksForTheListenerItself() {
        let some = configuration([route("all", to: .originalDestination(UpstreamOptions()))])
        let found = decision(inquiry("a.test"), some)
        #expect(found.target?.destination?.addresses.map(\.guard) == [.denied(.ownListener, block: nil)])
    }

    @Test func whoSaysWhereAClientWasRedirectedFromIsHeard() {
        let some = configuration([route("all", to: .originalDestination(UpstreamOptions()))])
        var asked = inquiry("a.test")
        asked.destination = socketAddress("93.184.215.14:443")
        #expect(decision(asked, some).verdict.isForwarded)
    }

    @Test func aHeaderWithoutADestinationIsTheReason() {
        let some = configuration([route("all", to: .proxyDestination(UpstreamOptions()))]) {
            $0.acceptProxy = AcceptProxy(from: [block("10.0.0.0/8")])
        }
        let asked = inquiry(peer: "10.1.1.1", header: "PROXY UNKNOWN\r\n")
        #expect(decision(asked, some).verdict.reason == "local_no_destination")
    }
}

@Suite("Explain: clusters, policies, sources, limits")
struct ExplainedTargetTests {
    @Test func endpointsStandWithWeightAndPriority() throws {
        var some = partner
        some.endpoints[0].priority = 1
        some.endpoints[1].weight = 5
        let found = decision(inquiry(), configuration([route("all", to: toPartner)], [some]))
        let endpoints = try #require(found.target).clusters[0].endpoints
        #expect(endpoints.map(\.name) == ["203.0.113.2:443", "203.0.113.1:443"])
        #expect(endpoints.map(\.weight) == [5, 1])
        #expect(endpoints.map(\.priority) == [0, 1])
    }

    @Test func aClusterThatIsAllDownRefuses() {
        var some = partner
        for index in some.endpoints.indices { some.endpoints[index].isDown = true }
        let found = decision(inquiry(), configuration([route("all", to: toPartner)], [some]))
        #expect(found.verdict.reason == "local_no_endpoint")
    }

    @Test func oneEndpointThatHasAnAddressIsEnough() throws {
        var some = partner
        some.endpoints.append(Endpoint(host: .name(serverName("gone.test")), port: 443))
        let found = decision(inquiry(), configuration([route("all", to: toPartner)], [some]), names: [:])
        #expect(found.verdict.isForwarded)
        #expect(try #require(found.target).clusters[0].endpoints[2].destination.source == .failed(.noSuchName))
    }

    @Test func theEndpointOfAHashIsTheOneThatWorkersWouldChoose() throws {
        var some = partner
        some.balance = .sourceHash
        let all = configuration([route("all", to: toPartner)], [some])
        let table = RouteTable(compiling: all, slots: ["main": 0], generation: 0, metricIndex: { _ in -1 })
        for last in 1...50 {
            let client = ip("10.0.0.\(last)")
            var balancer = Balancer(view: table.view, board: EndpointBoard())
            let chosen = balancer.choose(
                cluster: 0, client: StableHash.of(client), tried: TriedEndpoints(), now: Instant(nanoseconds: 0))
            let expected = try #require(chosen)
            let found = decision(inquiry(client: client.description), all)
            #expect(found.target?.clusters[0].preferred == table.endpointDescription(expected))
        }
    }

    private func policies(_ change: (inout Policy.Match) -> Void) -> Configuration {
        var all = configuration([route("any", ["*"])])
        all.sources = [
            SourcePool(name: "billing", addresses: [ip("192.0.2.1")]),
            SourcePool(name: "rest", addresses: [ip("192.0.2.2")]),
        ]
        var match = Policy.Match()
        change(&match)
        all.policies = [
            Policy(name: "first", match: match, action: .source("billing")),
            Policy(name: "second", action: .source("rest")),
        ]
        return all
    }

    @Test func thePolicyThatHoldsNamesTheSource() {
        let found = decision(inquiry("a.test"), policies { _ in }, names: ["a.test": ["93.184.215.14"]])
        #expect(found.verdict.policy == "first")
        #expect(found.verdict.source == "\"billing\"")
    }

    @Test func aPolicyThatSaysAsTheRouteDoesLeavesItsSource() {
        var all = policies { _ in }
        all.policies[0].action = .route
        let found = decision(inquiry("a.test"), all, names: ["a.test": ["93.184.215.14"]])
        #expect(found.verdict.policy == "first")
        #expect(found.verdict.source == nil)
        #expect(found.text.contains("policy \"first\": decides: as the route says"))
        #expect(found.json.text.contains("\"to\": \"route\""))
    }

    @Test func policiesThatDoNotHoldStandWithTheReason() {
        let all = policies {
            $0.destinations = [block("93.0.0.0/8")]
            $0.exceptDestinations = [block("93.184.0.0/16")]
        }
        let found = decision(inquiry("a.test"), all, names: ["a.test": ["93.184.215.14"]])
        let why = "93.184.215.14 is in 93.184.0.0/16, which it excepts"
        #expect(found.target?.policy?.passed == [.init(name: "first", why: why)])
        #expect(found.verdict.policy == "second")
    }

    @Test func withoutAddressesAPolicyAboutThemIsNotGuessed() {
        let found = decision(inquiry("a.test"), policies { $0.destinations = [block("93.0.0.0/8")] })
        #expect(found.verdict.policy == nil)
        #expect(found.notes == ["Policies are asked about addresses, and the name was not resolved."])
    }

    @Test func withoutAddressesAPolicyAboutOthersIsPassed() {
        let all = policies {
            $0.clients = [block("192.168.0.0/16")]
            $0.destinations = [block("93.0.0.0/8")]
        }
        #expect(decision(inquiry("a.test"), all).verdict.policy == "second")
    }

    @Test func gatewaysAreACluster() throws {
        var all = configuration([route("any", ["*"])], [partner])
        all.clusters[0].upstream.sendProxy = SendProxy(.v2)
        all.policies = [Policy(name: "led", action: .gateways("partner"))]
        let found = decision(inquiry("a.test"), all, names: ["a.test": ["93.184.215.14"]])
        #expect(found.verdict.target == "a.test:443 through cluster \"partner\"")
        #expect(try #require(found.target).clusters.map(\.name) == ["partner"])
    }

    @Test func limitsOfEveryScopeStand() {
        var some = partner
        some.limits.pending = 7
        some.endpoints[0].connectionsMax = 3
        var all = configuration([route("all", to: toPartner)], [some]) {
            $0.limits.ratePerClient = RateLimit(30, per: .seconds(60), burst: 5)
        }
        all.limits.connections = 1000
        let found = decision(inquiry(), all).limits.map { "\($0.scope) \($0.subject ?? "-") \($0.name) \($0.value)" }
        #expect(
            found == [
                "process - connections 1000", "listener main per_client.rate 30/m burst 5",
                "cluster partner pending 7", "endpoint partner 203.0.113.1:443 max_connections 3",
            ])
    }

    private let halves = configuration(
        [
            route(
                "all",
                to: .split([
                    ClusterShare(cluster: "partner", weight: 2), ClusterShare(cluster: "none", weight: 0),
                    ClusterShare(cluster: "spare", weight: 1),
                ]))
        ], [partner, cluster("none", ["203.0.113.8:1"]), cluster("spare", ["203.0.113.9:1"])])

    @Test func clustersThatShareSessionsStandWithTheirPart() throws {
        let found = decision(inquiry(), halves)
        #expect(try #require(found.target).clusters.map(\.name) == ["partner", "spare"])
        #expect(found.text.contains("cluster \"partner\", round_robin, 66.67 %\n"))
        #expect(found.verdict.target == "one of \"partner\" 2, \"spare\" 1")
    }

    @Test func aShareThatCannotBeConnectedToIsTold() {
        var some = halves
        some.clusters[2].endpoints[0].isDown = true
        let found = decision(inquiry(), some)
        #expect(found.verdict.isForwarded)
        #expect(found.notes.count == 1)
    }

    @Test func aSplitRefusesWhereAllItsClustersDo() {
        var some = halves
        some.clusters[0].endpoints = []
        some.clusters[2].endpoints[0].isDown = true
        #expect(decision(inquiry(), some).verdict.reason == "local_no_endpoint")
    }

    @Test func limitsOfTheRouteThatTakesItStand() {
        var some = configuration([route("all", to: toPartner)], [partner])
        some.listeners[0].routes[0].limits.connections = 9
        let found = decision(inquiry(), some).limits
        #expect(found == [.init(scope: "route", subject: "all", name: "connections", value: "9")])
    }

    @Test func equalDecisionsOfTwoConfigurationsHaveEqualVerdicts() {
        let one = configuration([route("all", to: toPartner)], [partner])
        var other = one
        other.clusters[0].endpoints.removeLast()
        other.listeners[0].limits.connections = 5
        #expect(decision(inquiry(), one).verdict == decision(inquiry(), other).verdict)
        other.listeners[0].routes[0].action = .deny(.close)
        #expect(decision(inquiry(), one).verdict != decision(inquiry(), other).verdict)
    }
}

@Suite("Explain: which listener")
struct ExplainedListenerTests {
    private let two: Configuration = {
        var all = configuration([route("all", ["*"])])
        all.listeners.append(Listener(name: "other", address: socketAddress("0.0.0.0:8443")))
        return all
    }()

    private func names(_ name: String? = nil, destination: String? = nil) -> [String] {
        var asked = inquiry()
        asked.destination = destination.map(socketAddress)
        return Explainer(two).listeners(named: name, for: asked).map(\.name)
    }

    @Test func withoutAWordAllAreExplained() { #expect(names() == ["main", "other"]) }
    @Test func aNameIsOne() { #expect(names("other") == ["other"]) }
    @Test func anAddressIsOne() { #expect(names("0.0.0.0:8443") == ["other"]) }
    @Test func anUnknownNameIsNone() { #expect(names("nobody") == []) }
    @Test func aDestinationIsOfTheListenerThere() { #expect(names(destination: "127.0.0.1:443") == ["main"]) }
    @Test func aDestinationIsOfAListenerOnEveryAddress() { #expect(names(destination: "10.0.0.5:8443") == ["other"]) }
    @Test func aDestinationOfNobodyIsOfAll() { #expect(names(destination: "10.0.0.5:9") == ["main", "other"]) }
}
