import Testing
import WeirModel
import WeirNet

@testable import WeirConfig

/// DestinationRule (S0-3).
@Suite struct DestinationRuleTests {
    private static func rule(_ policy: String, name: String = "a") -> String {
        IstioSample.document("DestinationRule", "host: there.example.com\n\(policy)", name: name)
    }

    private static let route = IstioSample.route(to: "{ host: there.example.com }")

    /// The cluster that the policy, as a flow mapping, makes.
    private func cluster(_ policy: String) throws -> Cluster {
        try result(policy).cluster("outbound|443||there.example.com")
    }

    private func result(_ policy: String) -> ConfigResult {
        reading(documents: Self.route, IstioSample.entry(), Self.rule("trafficPolicy: { \(policy) }"))
    }

    @Test func outlierDetectionHasTheFieldsOfTheDocument() throws {
        let outliers = try #require(
            try reading(IstioSample.egress).cluster("outbound|443||egress.mydomain.internal").outlierDetection)
        #expect(outliers.consecutiveLocalOriginFailures == 3)
        #expect(outliers.interval == .seconds(5))
        #expect(outliers.baseEjectionTime == .seconds(60))
        #expect(outliers.ejectionPercentMax == 100)
    }

    @Test func whatIsNotSaidOfOutlierDetectionIsAsInEnvoy() throws {
        let outliers = try #require(try cluster("outlierDetection: {}").outlierDetection)
        #expect(outliers.consecutiveLocalOriginFailures == 5)
        #expect(outliers.interval == .seconds(10))
        #expect(outliers.baseEjectionTime == .seconds(30))
        #expect(outliers.ejectionTimeMax == .seconds(300))
        #expect(outliers.ejectionPercentMax == 10)
        #expect(outliers.minHealthPercent == 0)
    }

    @Test(arguments: [
        ("consecutive5xxErrors: 7", 7),
        ("consecutiveErrors: 4", 4),
        ("consecutiveGatewayErrors: 3", 3),
        ("consecutiveGatewayErrors: 9", 5),
        ("consecutiveGatewayErrors: 9, consecutive5xxErrors: 0", 9),
        ("consecutive5xxErrors: 0", 0),
        ("consecutiveLocalOriginFailures: 2", 5),
        ("splitExternalLocalOriginErrors: true", 5),
        ("splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, consecutive5xxErrors: 1", 2),
    ])
    func failuresToConnectCountAsEnvoyCountsThem(fields: String, failures: Int) throws {
        let outliers = try #require(try cluster("outlierDetection: { \(fields) }").outlierDetection)
        #expect(outliers.consecutiveLocalOriginFailures == failures)
    }

    @Test func anEjectionMayLastAsLongAsItsBaseTime() throws {
        let outliers = try #require(try cluster("outlierDetection: { baseEjectionTime: 15m }").outlierDetection)
        #expect(outliers.ejectionTimeMax == .seconds(900))
    }

    @Test(arguments: [
        ("loadBalancer: { simple: ROUND_ROBIN }", Cluster.Balance.roundRobin),
        ("loadBalancer: { simple: LEAST_REQUEST }", .leastConnections),
        ("loadBalancer: { simple: LEAST_CONN }", .leastConnections),
        ("loadBalancer: { simple: RANDOM }", .random),
        ("loadBalancer: { simple: UNSPECIFIED }", .leastConnections),
        ("loadBalancer: { consistentHash: { useSourceIp: true, maglev: { tableSize: 65537 } } }", .sourceHash),
        ("connectionPool: {}", .leastConnections),
    ])
    func theLoadBalancerIsWhatIstioCallsSo(policy: String, balance: Cluster.Balance) throws {
        #expect(try cluster(policy).balance == balance)
    }

    @Test(arguments: ["warmupDurationSecs: 30s", "warmup: { duration: 30s }"])
    func warmupIsASlowStart(field: String) throws {
        let cluster = try cluster("loadBalancer: { simple: ROUND_ROBIN, \(field) }")
        #expect(cluster.slowStart == .seconds(30))
        #expect(cluster.balance == .roundRobin)
    }

    @Test func theConnectionPoolOfTCPBoundsTheCluster() throws {
        let cluster = try cluster(
            """
            connectionPool: { tcp: { maxConnections: 100, connectTimeout: 30ms, maxConnectionDuration: 1h, \
            tcpKeepalive: { time: 600s, interval: 20s, probes: 4 } }, http: { http1MaxPendingRequests: 7 } }
            """)
        #expect(cluster.limits.connections == 100)
        #expect(cluster.limits.pending == 7)
        #expect(cluster.upstream.connectTimeout == .milliseconds(30))
        #expect(cluster.connectionAgeMax == .seconds(3600))
        #expect(
            cluster.upstream.keepalive == TCPKeepalive(idle: .seconds(600), interval: .seconds(20), probes: 4))
    }

    @Test func oneAttemptMayTakeLongerThanAllOfThemByDefault() throws {
        #expect(try cluster("connectionPool: { tcp: { connectTimeout: 8s } }").upstream.connectTotal == .seconds(8))
    }

    @Test func theIdleTimeoutIsTheListeners() throws {
        let listener = try result("connectionPool: { tcp: { idleTimeout: 90s } }").listener(443)
        #expect(listener.timeouts.idle == .seconds(90))
    }

    @Test func anIdleTimeoutOfZeroIsNone() throws {
        let listener = try result("connectionPool: { tcp: { idleTimeout: 0s } }").listener(443)
        #expect(listener.timeouts.idle > .seconds(86400 * 365))
    }

    @Test(arguments: [("V1", SendProxy.Version.v1), ("V2", .v2)])
    func proxyProtocolIsSentToTheHost(word: String, version: SendProxy.Version) throws {
        #expect(try cluster("proxyProtocol: { version: \(word) }").upstream.sendProxy == SendProxy(version))
    }

    @Test func settingsOfAPortStandInPlaceOfAllOthers() throws {
        let cluster = try cluster(
            """
            connectionPool: { tcp: { maxConnections: 1 } }, \
            portLevelSettings: [ { port: { number: 443 }, loadBalancer: { simple: RANDOM } } ]
            """)
        #expect(cluster.balance == .random)
        #expect(cluster.limits.connections == nil)
    }

    @Test func settingsOfAnotherPortDoNotHold() throws {
        let cluster = try cluster("portLevelSettings: [ { port: { number: 444 }, loadBalancer: { simple: RANDOM } } ]")
        #expect(cluster.balance == .leastConnections)
    }

    // MARK: Subsets

    private static let twoVersions = """
        apiVersion: networking.istio.io/v1
        kind: ServiceEntry
        metadata: { name: there, namespace: n }
        spec:
          hosts: [ there.example.com ]
          ports: [ { number: 443, name: tls, protocol: TLS } ]
          resolution: STATIC
          endpoints: [ { address: 192.0.2.1, labels: { version: v1 } }, { address: 192.0.2.2, labels: { version: v2 } } ]

        """

    private static let subsets = rule(
        """
        trafficPolicy: { connectionPool: { tcp: { maxConnections: 5 } }, loadBalancer: { simple: ROUND_ROBIN } }
        subsets:
        - { name: v2, labels: { version: v2 }, trafficPolicy: { loadBalancer: { simple: RANDOM } } }
        """)

    @Test func aSubsetIsTheMembersWithItsLabelsUnderAPolicyOfItsOwn() throws {
        let route = IstioSample.route(to: "{ host: there.example.com, subset: v2 }")
        let cluster = try reading(documents: route, Self.twoVersions, Self.subsets)
            .cluster("outbound|443|v2|there.example.com")
        #expect(cluster.endpoints.map(\.description) == ["192.0.2.2:443"])
        #expect(cluster.balance == .random)
        #expect(cluster.limits.connections == 5)
    }

    @Test func aSubsetThatNoRuleDescribesIsReportedAndDenied() throws {
        let route = IstioSample.route(to: "{ host: there.example.com, subset: v3 }")
        let result = reading(documents: route, Self.twoVersions, Self.subsets)
        #expect(try result.listener(443).routes.map(\.action) == [.deny(.reset)])
        #expect(result.unsupportedLines.contains { $0.contains("no DestinationRule describes subset \"v3\"") })
    }

    // MARK: Which rule

    @Test func aRuleForAWildcardHoldsWhereNoneIsForTheHost() throws {
        let rule = Self.rule("trafficPolicy: { loadBalancer: { simple: RANDOM } }")
            .replacing("host: there", with: "host: \"*").replacing(".example.com\n", with: ".example.com\"\n")
        let result = reading(documents: Self.route, IstioSample.entry(), rule)
        #expect(try result.cluster("outbound|443||there.example.com").balance == .random)
    }

    @Test func subsetsOfTwoRulesForAHostAddUp() throws {
        let second = Self.rule("subsets: [ { name: v1, labels: { version: v1 } } ]", name: "b")
        let route = IstioSample.route(to: "{ host: there.example.com, subset: v1 }")
        let result = reading(documents: route, Self.twoVersions, Self.subsets, second)
        let cluster = try result.cluster("outbound|443|v1|there.example.com")
        #expect(cluster.limits.connections == 5)
        #expect(result.notices(containing: "the trafficPolicy is that of DestinationRule n/a"))
    }

    @Test func theTrafficPolicyIsThatOfTheFirstRuleThatHasOne() throws {
        let first = Self.rule("subsets: [ { name: v1, labels: { version: v1 } } ]", name: "a")
        let second = Self.rule("trafficPolicy: { loadBalancer: { simple: RANDOM } }", name: "b")
        let result = reading(documents: Self.route, Self.twoVersions, first, second)
        #expect(try result.cluster("outbound|443||there.example.com").balance == .random)
        #expect(result.notices(containing: "the trafficPolicy is that of DestinationRule n/b"))
    }

    @Test func aRuleForOtherWorkloadsIsPassedOver() throws {
        let rule = Self.rule(
            "workloadSelector: { matchLabels: { app: b } }\ntrafficPolicy: { loadBalancer: { simple: RANDOM } }")
        let own = "manifests: { workload_labels: { app: a } }\n"
        let result = reading(documents: own, Self.route, IstioSample.entry(), rule)
        #expect(try result.cluster("outbound|443||there.example.com").balance == .roundRobin)
    }

    @Test func withoutARuleTheDefaultsAreTheProxysOwn() throws {
        let result = reading(documents: Self.route, IstioSample.entry())
        #expect(try result.cluster("outbound|443||there.example.com").outlierDetection == nil)
    }

    // MARK: Namespaces

    private static let random = rule("trafficPolicy: { loadBalancer: { simple: RANDOM } }")

    /// The rule, in another namespace.
    private static func random(in namespace: String) -> String {
        random.replacing("namespace: n", with: "namespace: \(namespace)")
    }

    /// Its client is in namespace `client`, its host in `n`.
    private static let foreign = route.replacing("namespace: n", with: "namespace: client")

    @Test func aRuleOfAThirdNamespaceIsNotUsedAndReported() throws {
        let result = reading(documents: Self.route, IstioSample.entry(), Self.random(in: "evil"))
        #expect(try result.cluster("outbound|443||there.example.com").balance == .roundRobin)
        #expect(
            result.unsupportedLines.map {
                $0.contains(
                    "DestinationRule evil/a: namespace evil is neither that of who leads to \"there.example.com\"")
            } == [true])
    }

    @Test(arguments: ["n", "istio-system"])
    func aRuleOfTheHostsNamespaceAndOneOfTheRootNamespaceHoldForAll(namespace: String) throws {
        let result = reading(documents: Self.foreign, IstioSample.entry(), Self.random(in: namespace))
        #expect(try result.cluster("outbound|443||there.example.com").balance == .random)
        #expect(result.unsupportedLines == [])
    }

    @Test func aRuleOfTheClientsNamespaceHoldsForItsRoutesOnly() throws {
        let result = reading(
            documents: Self.route, Self.foreign, IstioSample.entry(), Self.random(in: "client"),
            Self.rule("trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } }"))
        #expect(try result.cluster("outbound|443||there.example.com|Namespace/client").balance == .random)
        #expect(try result.cluster("outbound|443||there.example.com").balance == .roundRobin)
        #expect(result.unsupportedLines == [])
    }

    @Test func theNamespaceOfAServiceThatNobodyDescribesIsInItsName() throws {
        let route = IstioSample.route(to: "{ host: web.m.svc.cluster.local, port: { number: 443 } }")
        let rule = Self.random(in: "m").replacing("there.example.com", with: "web.m.svc.cluster.local")
        #expect(
            try reading(documents: route, rule).cluster("outbound|443||web.m.svc.cluster.local").balance == .random)
    }

    // MARK: Locality

    @Test func failoverPriorityPutsEndpointsWithMoreOfTheLabelsFirst() throws {
        let policy = "loadBalancer: { localityLbSetting: { failoverPriority: [ version=v2 ] } }, outlierDetection: {}"
        let result = reading(documents: Self.route, Self.twoVersions, Self.rule("trafficPolicy: { \(policy) }"))
        #expect(try result.cluster("outbound|443||there.example.com").endpoints.map(\.priority) == [1, 0])
    }

    @Test func failoverPriorityWithoutOutlierDetectionHasNoEffectAndThatIsSaid() throws {
        let policy = "loadBalancer: { localityLbSetting: { failoverPriority: [ version=v2 ] } }"
        let result = reading(documents: Self.route, Self.twoVersions, Self.rule("trafficPolicy: { \(policy) }"))
        #expect(try result.cluster("outbound|443||there.example.com").endpoints.map(\.priority) == [0, 0])
        #expect(result.notices(containing: "failoverPriority holds beside outlierDetection only, as in Istio"))
    }

    // MARK: What cannot be done

    @Test(arguments: [
        ("tls: { mode: SIMPLE, sni: a }", "trafficPolicy.tls.mode: SIMPLE would have the proxy begin TLS itself"),
        ("tls: { mode: ISTIO_MUTUAL }", "trafficPolicy.tls.mode: ISTIO_MUTUAL would have"),
        ("tunnel: { targetHost: a, targetPort: 1 }", "trafficPolicy.tunnel: tunnels through HTTP CONNECT"),
        ("loadBalancer: { simple: PASSTHROUGH }", "loadBalancer.simple: PASSTHROUGH"),
        ("loadBalancer: { consistentHash: { httpHeaderName: a } }", "consistentHash.httpHeaderName: what is encrypted"),
        ("loadBalancer: { simple: LEAST_REQUEST, warmup: { duration: 1s } }", "warmup: holds for ROUND_ROBIN only"),
        ("loadBalancer: { localityLbSetting: { distribute: [ { from: a } ] } }", "localityLbSetting.distribute: where"),
        ("connectionPool: { http: { maxRetries: 3 } }", "connectionPool.http.maxRetries: is about HTTP requests"),
        ("connectionPool: { tcp: { colour: red } }", "connectionPool.tcp.colour: has no effect"),
    ])
    func whatIsAskedForAndNotDoneIsReportedWithItsField(policy: String, message: String) {
        let result = result(policy)
        #expect(result.errorLines == [])
        #expect(result.unsupportedLines.count == 1)
        #expect(result.unsupportedLines.first?.contains(message) ?? false, "\(result.unsupportedLines)")
    }

    @Test func noTLSToTheHostIsWhatIsDoneAnyway() {
        #expect(result("tls: { mode: DISABLE }").unsupportedLines == [])
    }

    @Test(arguments: [
        ("outlierDetection: { maxEjectionPercent: 101 }", "expected a number 0...100"),
        ("outlierDetection: { interval: 0s }", "outlierDetection.interval: is at least 1ms"),
        ("outlierDetection: { baseEjectionTime: soon }", "expected a duration"),
        ("connectionPool: { tcp: { connectTimeout: 0s } }", "tcp.connectTimeout: is at least 1ms"),
        ("loadBalancer: { simple: BEST }", "expected ROUND_ROBIN, LEAST_REQUEST, RANDOM or PASSTHROUGH"),
        ("proxyProtocol: { version: V3 }", "expected V1 or V2"),
        ("portLevelSettings: [ {} ]", "settings of a port have port.number"),
    ])
    func whatIstioWouldNotTakeIsAnError(policy: String, error: String) {
        let errors = result(policy).errorLines
        #expect(errors.contains { $0.contains(error) }, "\(errors)")
    }
}
