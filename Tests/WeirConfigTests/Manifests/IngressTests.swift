import Testing
import WeirModel

@testable import WeirConfig

/// Ingresses, as ingress-nginx takes them.
@Suite struct IngressTests {
    private static let rule = "{ host: x.test, http: { paths: [ { path: /, pathType: Prefix, backend: BACKEND } ] } }"
    private static let backend = "{ service: { name: web, port: { number: 443 } } }"

    private func ingress(
        _ annotations: String = "", name: String = "i", rules: String = Self.rule, backend: String = Self.backend,
        more: String = "", version: String = "networking.k8s.io/v1", metadata: String = ""
    ) -> String {
        """
        ---
        apiVersion: \(version)
        kind: Ingress
        metadata: { name: \(name), namespace: a, annotations: { \(annotations) }\(metadata) }
        spec:
          rules: [ \(rules.replacing("BACKEND", with: backend)) ]
        \(more)

        """
    }

    private func annotation(_ name: String, _ value: String) -> String {
        "nginx.ingress.kubernetes.io/\(name): '\(value)'"
    }

    private var passthrough: String { annotation("ssl-passthrough", "true") }

    private static let web = "outbound|443||web.a.svc.cluster.local"

    /// The routes of the Ingress with this annotation, and what is reported.
    private func routes(_ annotations: String, more: String = "") throws -> [Route] {
        let text = service("web") + ingress(annotations, more: more)
        return try #require(reading(text).configuration?.listeners.first).routes
    }

    private func cluster(_ annotations: String) throws -> Cluster {
        let text = service("web") + ingress(annotations)
        return try #require(reading(text).configuration?.clusters.first)
    }

    private func reports(_ annotations: String, more: String = "") -> [String] {
        reading(service("web") + ingress(annotations, more: more)).diagnostics.map(\.message)
    }

    private static let older = ", creationTimestamp: '2024-01-01T00:00:00Z'"
    private static let younger = ", creationTimestamp: '2024-02-02T00:00:00Z'"

    /// An Ingress that only its own network may use, with these paths of `x.test`.
    private func guarded(_ paths: String..., more: String = "", metadata: String = Self.younger) -> String {
        let list = paths.map { "{ path: \($0), backend: BACKEND }" }.joined(separator: ", ")
        return ingress(
            annotation("whitelist-source-range", "10.1.0.0/16"), name: "admin",
            rules: "{ host: x.test, http: { paths: [ \(list) ] } }", more: more, metadata: metadata)
    }

    /// An Ingress with another host.
    private func ingress(
        _ annotations: String = "", name: String, host: String, more: String = "", metadata: String = ""
    ) -> String {
        ingress(
            annotations, name: name, rules: Self.rule.replacing("x.test", with: "'\(host)'"), more: more,
            metadata: metadata)
    }

    private func reports(of text: String) -> [String] {
        reading(text).diagnostics.map(\.message)
    }

    // MARK: Hosts

    @Test func aHostThatIsPassedThroughIsLedOnByItsServerNameAtPort443() throws {
        #expect(
            try routing(service("web") + ingress(passthrough)) == [
                "port-443 Ingress/a/i/x.test [x.test] -> \(Self.web)"
            ])
    }

    @Test func aPlainHostIsToldByItsHeadAtPort80() throws {
        let text = service("web") + ingress()
        #expect(try routing(text) == ["port-80 Ingress/a/i/x.test [x.test] -> \(Self.web)"])
        #expect(reading(text).configuration?.listeners[0].detect == [.http])
    }

    @Test(arguments: ["networking.k8s.io/v1beta1", "extensions/v1beta1"])
    func backendsOfEarlierVersionsAreTheSame(version: String) throws {
        let text = service("web") + ingress(backend: "{ serviceName: web, servicePort: https }", version: version)
        #expect(try routing(text) == ["port-80 Ingress/a/i/x.test [x.test] -> \(Self.web)"])
    }

    @Test func aPathBelowTheRootIsUnsupported() throws {
        let paths = "[ { path: /foo, backend: BACKEND }, { path: /, backend: BACKEND } ]"
        let text = service("web") + ingress(rules: "{ host: x.test, http: { paths: \(paths) } }")
        #expect(
            reading(text).diagnostics.map(\.message) == [
                "Ingress a/i: spec.rules[0].http.paths[0].path: paths are not looked at: only `/` of a host can be led on"
            ])
        #expect(try routing(text) == ["port-80 Ingress/a/i/x.test [x.test] -> \(Self.web)"])
    }

    @Test func tlsThatWouldHaveToBeEndedIsUnsupportedAndItsHostsAreNotServed() throws {
        let rules = "\(Self.rule), { host: y.test, http: { paths: [ { backend: BACKEND } ] } }"
        let text = service("web") + ingress(rules: rules, more: "  tls: [ { hosts: [x.test], secretName: s } ]")
        #expect(
            reading(text).diagnostics.map(\.message) == [
                "Ingress a/i: spec.tls[0]: TLS is never ended here: "
                    + "the annotation ssl-passthrough leads it on to a service that ends it"
            ])
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/i/y.test [y.test] -> \(Self.web)",
                "port-80 Ingress/a/i/x.test/tls [x.test] -> accessDenied",
            ])
    }

    @Test func tlsThatWouldHaveToBeEndedIsNotPassedThroughByTheWildcardOfAnother() throws {
        let wildcard = ingress(passthrough, name: "w", rules: Self.rule.replacing("x.test", with: "'*.test'"))
        let text = service("web") + ingress(more: "  tls: [ { hosts: [x.test] } ]") + wildcard
        #expect(try routing(text).contains("port-443 Ingress/a/i/x.test/tls [x.test] -> unrecognizedName"))
    }

    @Test func aHostOfOtherPathsOnlyIsNotServedByTheWildcardOfAnother() throws {
        let paths = "{ host: x.test, http: { paths: [ { path: /api, backend: BACKEND } ] } }"
        let wildcard = ingress(name: "w", rules: Self.rule.replacing("x.test", with: "'*.test'"))
        #expect(
            try routing(service("web") + ingress(rules: paths) + wildcard) == [
                "port-80 Ingress/a/w/*.test [*.test] -> \(Self.web)",
                "port-80 Ingress/a/i/x.test [x.test] -> accessDenied",
            ])
    }

    @Test func aPathThatIsGuardedClosesItsHostWhoeverLeadsTheRest() throws {
        let paths = "{ host: x.test, http: { paths: [ { path: /admin, backend: BACKEND } ] } }"
        let guarded = ingress(annotation("whitelist-source-range", "10.1.0.0/16"), name: "z", rules: paths)
        let text = service("web") + ingress() + guarded
        #expect(try routing(text) == ["port-80 Ingress/a/z/x.test/guarded [x.test] -> accessDenied"])
        #expect(reading(text).diagnostics.contains { $0.message.contains("refused to everybody") })
    }

    @Test func aPathThatIsGuardedClosesItsHostThoughItsTLSIsNotServed() throws {
        let text =
            service("web") + ingress(name: "main", metadata: Self.older)
            + guarded("/admin", more: "  tls: [ { hosts: [x.test] } ]")
        #expect(try routing(text) == ["port-80 Ingress/a/admin/x.test/guarded [x.test] -> accessDenied"])
        #expect(reports(of: text).contains("Ingress a/main: host \"x.test\" is refused to everybody"))
    }

    @Test func aPathThatIsGuardedClosesItsHostWhereAnotherHasTheRest() throws {
        let text = service("web") + ingress(name: "main", metadata: Self.older) + guarded("/", "/admin")
        #expect(try routing(text) == ["port-80 Ingress/a/admin/x.test/guarded [x.test] -> accessDenied"])
    }

    @Test func aPathThatIsGuardedIsLedOnWithTheHostByWhoGuardsIt() throws {
        let text = service("web") + guarded("/", "/admin", metadata: Self.older) + ingress(metadata: Self.younger)
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/admin/x.test [x.test] [10.1.0.0/16] -> \(Self.web)",
                "port-80 Ingress/a/admin/x.test/others [x.test] -> accessDenied",
            ])
    }

    @Test func aPathThatIsGuardedClosesItsHostAtTheOtherPortToo() throws {
        let text = service("web") + ingress(passthrough, name: "main", metadata: Self.older) + guarded("/admin")
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/admin/x.test/guarded [x.test] -> accessDenied",
                "port-443 Ingress/a/admin/x.test/guarded [x.test] -> reset",
            ])
    }

    @Test func aHostThatIsGuardedIsNotAYoungersAtTheOtherPort() throws {
        let text = service("web") + guarded("/", metadata: Self.older) + ingress(passthrough, metadata: Self.younger)
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/admin/x.test [x.test] [10.1.0.0/16] -> \(Self.web)",
                "port-80 Ingress/a/admin/x.test/others [x.test] -> accessDenied",
            ])
    }

    /// What is inside TLS is not looked at, but at port 80 the path would be open.
    @Test(arguments: ["auth-type", "auth-url"])
    func aPathThatIsGuardedByAnAnswerClosesItsHostThoughItsTLSIsPassedOn(name: String) throws {
        let paths = "{ host: x.test, http: { paths: [ { path: /admin, backend: BACKEND } ] } }"
        let text =
            service("web") + ingress(metadata: Self.older)
            + ingress("\(passthrough), \(annotation(name, "x"))", name: "z", rules: paths, metadata: Self.younger)
        #expect(try !routing(text).contains { $0.contains(Self.web) })
    }

    @Test func aPathThatIsGuardedAmongHostsWithoutANameClosesThem() throws {
        let paths = "{ http: { paths: [ { path: /admin, backend: BACKEND } ] } }"
        let text =
            service("web") + ingress(name: "main", rules: "", more: "  defaultBackend: \(Self.backend)")
            + ingress("\(passthrough), \(annotation("denylist-source-range", "10.0.0.7"))", name: "z", rules: paths)
        #expect(try !routing(text).contains { $0.contains(Self.web) })
    }

    /// As those who ask for certificates have it beside a path of their own.
    @Test func aListOfSourceRangesThatIsEverybodyGuardsNothing() throws {
        let paths = "{ host: x.test, http: { paths: [ { path: /.well-known, pathType: Exact, backend: BACKEND } ] } }"
        let everybody = annotation("whitelist-source-range", "0.0.0.0/0,::/0")
        let text = service("web") + ingress() + ingress(everybody, name: "solver", rules: paths)
        #expect(try routing(text) == ["port-80 Ingress/a/i/x.test [x.test] -> \(Self.web)"])
    }

    @Test func aHostWhoseTLSIsNotServedIsNotAYoungers() throws {
        let text =
            service("web") + ingress(more: "  tls: [ { hosts: [x.test] } ]", metadata: Self.older)
            + ingress(name: "j", metadata: Self.younger) + ingress(passthrough, name: "k", metadata: Self.younger)
            + ingress(name: "l", host: "y.test") + ingress(passthrough, name: "m", host: "z.test")
        let routes = try routing(text)
        #expect(routes.contains("port-80 Ingress/a/i/x.test/tls [x.test] -> accessDenied"))
        #expect(routes.contains("port-443 Ingress/a/i/x.test/tls [x.test] -> unrecognizedName"))
        #expect(reports(of: text).contains("Ingress a/k: host \"x.test\" is Ingress a/i's already"))
    }

    @Test func aHostBelowAWildcardOfTLSIsNotServedByThatWildcardOfAnother() throws {
        let text =
            service("web") + ingress(more: "  tls: [ { hosts: ['*.test'] } ]") + ingress(name: "w", host: "*.test")
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/w/*.test [*.test] -> \(Self.web)",
                "port-80 Ingress/a/i/x.test/tls [x.test] -> accessDenied",
            ])
    }

    @Test func aHostThatIsPassedThroughIsNotServedInClearByTheWildcardOfAnother() throws {
        let text = service("web") + ingress(passthrough) + ingress(name: "w", host: "*.test")
        #expect(try routing(text).contains("port-80 Ingress/a/i/x.test [x.test] -> accessDenied"))
    }

    @Test func aPlainHostIsNotPassedThroughByTheWildcardOfAnother() throws {
        let text = service("web") + ingress() + ingress(passthrough, name: "w", host: "*.test")
        #expect(try routing(text).contains("port-443 Ingress/a/i/x.test [x.test] -> unrecognizedName"))
    }

    @Test func aHostMayBePassedThroughByOneAndPlainByAnother() throws {
        let text = service("web") + ingress(passthrough) + ingress(name: "j")
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/j/x.test [x.test] -> \(Self.web)",
                "port-443 Ingress/a/i/x.test [x.test] -> \(Self.web)",
            ])
    }

    @Test func aWildcardOfTLSCoversTheHostsBelowIt() throws {
        let rules = "\(Self.rule), { host: y.example, http: { paths: [ { backend: BACKEND } ] } }"
        let text = service("web") + ingress(rules: rules, more: "  tls: [ { hosts: ['*.test'] } ]")
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/i/y.example [y.example] -> \(Self.web)",
                "port-80 Ingress/a/i/x.test/tls [x.test] -> accessDenied",
                "port-80 Ingress/a/i/*.test/tls [*.test] -> accessDenied",
            ])
    }

    @Test func tlsOfAHostThatIsPassedThroughAsksForNothingElse() {
        #expect(reports(passthrough, more: "  tls: [ { hosts: [x.test], secretName: s } ]") == [])
    }

    @Test func theDefaultBackendComesAfterEveryHost() throws {
        let rules = "{ http: { paths: [ { backend: BACKEND } ] } }"
        let text =
            service("web") + ingress(name: "a", rules: "", more: "  defaultBackend: \(Self.backend)")
            + ingress(name: "b", rules: rules)
        #expect(
            reading(text).unsupportedLines == [
                "19:19 Ingress a/a: every other host is Ingress a/b's already"
            ])
        #expect(try routing(text) == ["port-80 Ingress/a/b/* -> \(Self.web)"])
    }

    @Test func ofTwoForOneHostTheOlderHasIt() throws {
        let text =
            service("web") + ingress(name: "a", metadata: ", creationTimestamp: '2024-02-02T00:00:00Z'")
            + ingress(name: "b", metadata: ", creationTimestamp: '2024-01-01T00:00:00Z'")
        #expect(try routing(text) == ["port-80 Ingress/a/b/x.test [x.test] -> \(Self.web)"])
        #expect(
            reading(text).unsupportedLines.map { $0.split(separator: " ", maxSplits: 1)[1] } == [
                "Ingress a/a: host \"x.test\" is Ingress a/b's already"
            ])
    }

    @Test(arguments: ["", Self.older])
    func ofTwoOfOneAgeTheLastByNameHasTheHost(metadata: String) throws {
        let text = service("web") + ingress(name: "a", metadata: metadata) + ingress(name: "b", metadata: metadata)
        #expect(try routing(text) == ["port-80 Ingress/a/b/x.test [x.test] -> \(Self.web)"])
    }

    @Test func aClassOfAnotherControllerIsPassedOver() throws {
        let kind = "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: { name: other }\n"
        let text =
            service("web") + kind + "spec: { controller: example.com/other }\n" + ingress()
            + ingress(name: "j", more: "  ingressClassName: other")
        #expect(try routing(text) == ["port-80 Ingress/a/i/x.test [x.test] -> \(Self.web)"])
        #expect(reading(text).notices(containing: "class \"other\" is example.com/other's: passed over"))
    }

    @Test func aServiceThatIsNotThereIsReportedAndItsHostRefused() throws {
        let text = service("web") + ingress(backend: "{ service: { name: web, port: { number: 99 } } }")
        #expect(reading(text).diagnostics.map(\.message) == ["Ingress a/i: service a/web has no port 99"])
        #expect(try routing(text) == ["port-80 Ingress/a/i/x.test [x.test] -> reset"])
    }

    @Test func anotherNamespaceIsNotReachedByDotsInAName() throws {
        let text =
            service("web", namespace: "b") + ingress(backend: "{ service: { name: web.b, port: { number: 443 } } }")
        #expect(try routing(text) == ["port-80 Ingress/a/i/x.test [x.test] -> outbound|443||web.b.a.svc.cluster.local"])
    }

    // MARK: Annotations

    /// S2-2.
    @Test func serviceUpstreamLeadsToTheAddressOfTheService() throws {
        #expect(try cluster(annotation("service-upstream", "true")).endpoints.map(\.description) == ["10.96.0.1:443"])
        #expect(try cluster("").endpoints.map(\.description) == ["10.0.0.1:8443"])
    }

    /// S2-5.
    @Test func aListOfSourceRangesLetsInThoseAndRefusesTheRest() throws {
        let text = service("web") + ingress(annotation("whitelist-source-range", "10.0.0.0/24,172.10.0.1"))
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/i/x.test [x.test] [10.0.0.0/24 172.10.0.1/32] -> \(Self.web)",
                "port-80 Ingress/a/i/x.test/others [x.test] -> accessDenied",
            ])
        #expect(reading(text).notices(containing: "172.10.0.1/32 may not connect at all"))
    }

    @Test func thoseOnTheDenylistAreRefusedFirst() throws {
        let text = service("web") + ingress(annotation("denylist-source-range", "10.0.0.7"))
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/i/x.test/denied [x.test] [10.0.0.7/32] -> accessDenied",
                "port-80 Ingress/a/i/x.test [x.test] -> \(Self.web)",
            ])
    }

    /// S2-4.
    @Test func limitsAreThoseOfTheRouteForEachClient() throws {
        let annotations = [annotation("limit-connections", "3"), annotation("limit-rps", "2")].joined(separator: ", ")
        let limits = try #require(routes(annotations).first).limits
        #expect(limits.connectionsPerClient == 3)
        #expect(limits.ratePerClient == RateLimit(2, per: .seconds(1), burst: 10))
    }

    @Test func aRatePerMinuteHasTheBurstOfItsMultiplier() throws {
        let annotations = [annotation("limit-rpm", "30"), annotation("limit-burst-multiplier", "2")]
        let limits = try #require(routes(annotations.joined(separator: ", ")).first).limits
        #expect(limits.ratePerClient == RateLimit(30, per: .seconds(60), burst: 60))
    }

    @Test func ofTwoRatesTheOnePerSecondHoldsAndTheOtherIsReported() throws {
        let annotations = [annotation("limit-rpm", "30"), annotation("limit-rps", "2")].joined(separator: ", ")
        #expect(try routes(annotations).first?.limits.ratePerClient?.count == 2)
        #expect(
            reports(annotations) == [
                "Ingress a/i: annotation nginx.ingress.kubernetes.io/limit-rpm: "
                    + "there is one rate for each client, and limit-rps is taken"
            ])
    }

    @Test func clientsOfTheLimitWhitelistHaveNoLimits() throws {
        let annotations = [annotation("limit-rps", "2"), annotation("limit-whitelist", "10.1.0.0/16")]
        let routes = try routes(annotations.joined(separator: ", "))
        #expect(routes.map(\.name) == ["Ingress/a/i/x.test/unlimited", "Ingress/a/i/x.test"])
        #expect(routes.map { $0.limits == RouteLimits() } == [true, false])
    }

    /// S2-6.
    @Test(arguments: ["$remote_addr", "$binary_remote_addr"])
    func hashingTheClientIsASourceHash(value: String) throws {
        #expect(try cluster(annotation("upstream-hash-by", value)).balance == .sourceHash)
        #expect(reports(annotation("upstream-hash-by", value)) == [])
    }

    @Test func settingsOfOneIngressAreNotThoseOfAnother() throws {
        let text =
            service("web") + ingress(annotation("upstream-hash-by", "$remote_addr"))
            + ingress(name: "j", rules: Self.rule.replacing("x.test", with: "y.test"))
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/j/y.test [y.test] -> \(Self.web)",
                "port-80 Ingress/a/i/x.test [x.test] -> \(Self.web)|Ingress/a/i",
            ])
    }

    @Test func connectsAndTheirTriesAreTheClusters() throws {
        let upstream = try cluster(
            [
                annotation("proxy-connect-timeout", "7"), annotation("proxy-next-upstream-tries", "2"),
                annotation("proxy-next-upstream-timeout", "20"),
            ].joined(separator: ", ")
        ).upstream
        #expect(upstream.connectTimeout == .seconds(7))
        #expect(upstream.attempts == 2)
        #expect(upstream.connectTotal == .seconds(20))
    }

    @Test func otherNamesOfAServerAreItsNamesToo() throws {
        #expect(
            try routing(service("web") + ingress(annotation("server-alias", "y.test, *.z.test"))) == [
                "port-80 Ingress/a/i/x.test [x.test y.test *.z.test] -> \(Self.web)"
            ])
    }

    @Test func anotherNameThatIsSomebodysHostIsItsHosts() throws {
        let text =
            service("web") + ingress(annotation("server-alias", "y.test, z.test"), metadata: Self.older)
            + ingress(name: "j", host: "y.test", metadata: Self.younger)
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/i/x.test [x.test z.test] -> \(Self.web)",
                "port-80 Ingress/a/j/y.test [y.test] -> \(Self.web)",
            ])
        #expect(
            reports(of: text) == ["Ingress a/i: annotation server-alias: \"y.test\" is Ingress a/j's already"])
    }

    @Test func anotherNameIsNobodysWhoseHostHasItAtTheOtherPort() throws {
        let text =
            service("web") + ingress(annotation("server-alias", "y.test"), metadata: Self.older)
            + ingress(passthrough, name: "j", host: "y.test", metadata: Self.younger)
        #expect(try routing(text).contains("port-80 Ingress/a/i/x.test [x.test] -> \(Self.web)"))
        #expect(try routing(text).contains("port-80 Ingress/a/j/y.test [y.test] -> accessDenied"))
    }

    @Test func ofTwoWithOneOtherNameTheOlderHasIt() throws {
        let alias = annotation("server-alias", "z.test")
        let text =
            service("web") + ingress(alias, metadata: Self.younger)
            + ingress(alias, name: "j", host: "y.test", metadata: Self.older)
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/j/y.test [y.test z.test] -> \(Self.web)",
                "port-80 Ingress/a/i/x.test [x.test] -> \(Self.web)",
            ])
        #expect(
            reports(of: text) == ["Ingress a/i: annotation server-alias: \"z.test\" is Ingress a/j's already"])
    }

    @Test func theOtherNameOfTwoHostsIsTheFirstOnes() throws {
        let rules = [Self.rule, Self.rule.replacing("x.test", with: "w.test")].joined(separator: ", ")
        let text = service("web") + ingress(annotation("server-alias", "z.test, z.test, x.test"), rules: rules)
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/i/x.test [x.test] -> \(Self.web)",
                "port-80 Ingress/a/i/w.test [w.test z.test] -> \(Self.web)",
            ])
        #expect(reports(of: text) == [])
    }

    @Test(arguments: [
        ("", "{ path: /api, backend: BACKEND }", ""),
        ("", "{ path: /, backend: BACKEND }", "  tls: [ { hosts: [x.test] } ]"),
        (", nginx.ingress.kubernetes.io/whitelist-source-range: 10.1.0.0/16", "{ path: /admin, backend: BACKEND }", ""),
    ])
    func theOtherNameOfAHostThatIsNotLedOnIsNotServedByTheWildcardOfAnother(
        guardian: String, path: String, more: String
    ) throws {
        let annotations = annotation("server-alias", "y.test") + guardian
        let text =
            service("web")
            + ingress(annotations, rules: "{ host: x.test, http: { paths: [ \(path) ] } }", more: more)
            + ingress(name: "w", host: "*.test") + ingress(passthrough, name: "v", host: "*.test")
        let routes = try routing(text)
        #expect(routes.contains("port-80 Ingress/a/i/y.test [y.test] -> accessDenied"))
        #expect(routes.contains("port-443 Ingress/a/i/y.test [y.test] -> unrecognizedName"))
        let refusal = "\"y.test\" is refused: not every host of this Ingress is led on"
        #expect(reports(of: text).contains("Ingress a/i: annotation server-alias: \(refusal)"))
    }

    @Test func theOtherNameOfAHostThatIsAnothersIsNotServedByAWildcard() throws {
        let text =
            service("web") + ingress(annotation("server-alias", "y.test"), metadata: Self.younger)
            + ingress(name: "j", metadata: Self.older) + ingress(name: "w", host: "*.test")
        #expect(try routing(text).contains("port-80 Ingress/a/i/y.test [y.test] -> accessDenied"))
    }

    @Test func everyNameIsNoOtherNameOfAHost() throws {
        let text = service("web") + ingress(annotation("server-alias", "*"))
        #expect(try routing(text) == ["port-80 Ingress/a/i/x.test [x.test] -> \(Self.web)"])
        #expect(reports(of: text).count == 1)
    }

    @Test func aRuleWithoutAHostHasNoOtherNames() throws {
        let rules = "{ http: { paths: [ { backend: BACKEND } ] } }"
        let text = service("web") + ingress(annotation("server-alias", "y.test"), rules: rules)
        #expect(
            try routing(text) == [
                "port-80 Ingress/a/i/* -> \(Self.web)", "port-80 Ingress/a/i/y.test [y.test] -> accessDenied",
            ])
    }

    @Test(arguments: [
        ("rewrite-target", "/", "it is about HTTP, which is passed on as it comes"),
        ("enable-cors", "true", "it is about HTTP, which is passed on as it comes"),
        ("affinity", "cookie", "cookies are HTTP's; `upstream-hash-by: $remote_addr` keeps clients too"),
        ("session-cookie-name", "route", "it is about HTTP, which is passed on as it comes"),
        ("backend-protocol", "HTTPS", "nothing is encrypted here that the client did not"),
        ("secure-backends", "true", "nothing is encrypted here that the client did not"),
        ("upstream-hash-by", "$request_uri", "only the client's address is hashed: $remote_addr"),
        ("limit-rate", "100", "how fast bytes move is not limited here"),
        (
            "proxy-read-timeout", "5",
            "silence is timed for the whole listener: its `timeouts.idle` in native YAML"
        ),
        ("colour", "red", "is not known here"),
    ])
    func anAnnotationThatCannotBeDoneIsReportedByItsName(name: String, value: String, message: String) {
        #expect(
            reports(annotation(name, value)) == [
                "Ingress a/i: annotation nginx.ingress.kubernetes.io/\(name): \(message)"
            ])
    }

    @Test func theOlderPrefixMeansTheSame() {
        #expect(
            reports("ingress.kubernetes.io/enable-cors: 'true'") == [
                "Ingress a/i: annotation ingress.kubernetes.io/enable-cors: it is about HTTP, which is passed on as it comes"
            ])
    }

    @Test(arguments: [
        ("enable-cors", "false"), ("ssl-redirect", "false"), ("proxy-buffering", "off"), ("backend-protocol", "HTTP"),
        ("limit-rps", "0"), ("enable-access-log", "true"),
    ])
    func anAnnotationThatAsksForWhatIsDoneAnywayIsNotReported(name: String, value: String) {
        #expect(reports(annotation(name, value)) == [])
    }

    @Test func annotationsOfOthersAskForNothing() {
        #expect(reports("cert-manager.io/cluster-issuer: x") == [])
    }

    @Test func backendsOfWhatIsPassedThroughSpeakTLSAsTheyAreToldTo() {
        #expect(reports("\(passthrough), \(annotation("backend-protocol", "HTTPS"))") == [])
    }

    @Test(arguments: ["auth-type", "auth-url", "auth-tls-secret"])
    func whereSomethingElseDecidesWhoMayPassNobodyMay(name: String) throws {
        let text = service("web") + ingress(annotation(name, "x"))
        #expect(try routing(text) == ["port-80 Ingress/a/i/x.test [x.test] -> accessDenied"])
        #expect(reading(text).unsupportedLines.count == 1)
    }

    @Test func aCanaryDoesNotTakeTheHostOfItsIngress() throws {
        let text =
            service("web") + ingress("\(annotation("canary", "true")), \(annotation("canary-weight", "10"))", name: "a")
            + ingress(name: "b")
        #expect(try routing(text) == ["port-80 Ingress/a/b/x.test [x.test] -> \(Self.web)"])
        #expect(reading(text).unsupportedLines.map { $0.hasSuffix("this is not supported") } == [true])
    }

    @Test(arguments: [
        ("whitelist-source-range", "10.0.0.0/33"), ("limit-rps", "many"), ("ssl-passthrough", "yes"),
        ("proxy-connect-timeout", "soon"),
    ])
    func aValueThatIsNoneIsAnError(name: String, value: String) {
        let result = reading(service("web") + ingress(annotation(name, value)))
        #expect(result.errorLines.count == 1)
        #expect(result.errorLines.first?.contains(name) == true)
    }

    @Test func moreOfTheBurstThanThereAreNumbersIsTheMost() throws {
        let annotations = [
            annotation("limit-rps", "9223372036854775807"), annotation("limit-burst-multiplier", "9223372036854775807"),
        ].joined(separator: ", ")
        #expect(try routes(annotations).first?.limits.ratePerClient == RateLimit(1_000_000, burst: 1_000_000))
    }
}
