import Testing
import WeirConfig
import WeirModel
import WeirNet

/// The native format: every key does what it says.
@Suite struct NativeTests {
    /// A listener with the given lines, each of them a key of the listener.
    private func listener(_ lines: String) throws -> Listener {
        let indented = lines.split(separator: "\n").map { "    \($0)" }.joined(separator: "\n")
        return try onlyListener(
            """
            listeners:
              - name: egress
                address: 127.0.0.1:8443
            \(indented)
                routes: [ { match: { server_names: ["*"] }, to: { server_name: { port: 443 } } } ]
            """)
    }

    private func configuration(_ top: String) throws -> Configuration {
        let result = reading(
            "\(top)\nlisteners: [ { address: 127.0.0.1:1, routes: [ { deny: close } ] } ]\n")
        return try #require(result.configuration, "\(result.diagnostics.map(\.description))")
    }

    private func cluster(_ lines: String) throws -> Cluster {
        let indented = lines.split(separator: "\n").map { "    \($0)" }.joined(separator: "\n")
        return try #require(try configuration("clusters:\n  - name: c\n\(indented)").clusters.first)
    }

    // MARK: Listeners

    @Test func aListenerOfAddressAndRoutesHasTheDefaults() throws {
        let listener = try onlyListener("listeners: [ { address: \"[::1]:443\", routes: [ { deny: reset } ] } ]")
        var expected = Listener(name: "[::1]:443", address: SocketAddress(.v6Loopback, port: 443))
        expected.routes = [Route(name: "route-1", action: .deny(.reset))]
        #expect(listener == expected)
    }

    @Test func clientsAllowReplacesTheDefaultNetworks() throws {
        let policy = try listener("clients: { allow: [10.0.0.0/8, 192.0.2.7] }").clients
        let blocks = [CIDR(IPAddress(10, 0, 0, 0), prefixLength: 8), CIDR(IPAddress(192, 0, 2, 7), prefixLength: 32)]
        #expect(policy == .allowing(blocks))
    }

    @Test func clientsDenyComesBeforeAllow() throws {
        let policy = try listener("clients: { allow: [10.0.0.0/8], deny: [10.9.0.0/16] }").clients
        #expect(policy.rules.map(\.allow) == [false, true])
        #expect(!policy.otherwiseAllow)
    }

    @Test func clientsDenyAloneKeepsTheDefaultNetworks() throws {
        let policy = try listener("clients: { deny: [10.9.0.0/16] }").clients
        #expect(policy.rules.dropFirst() == ClientPolicy.privateNetworks.rules[...])
    }

    @Test func acceptProxyTakesItsKeys() throws {
        var expected = AcceptProxy(from: [CIDR(IPAddress(10, 1, 0, 0), prefixLength: 16)])
        #expect(try listener("accept_proxy: { from: [10.1.0.0/16] }").acceptProxy == expected)
        expected.headerByteCountMax = 512
        expected.acceptIPv4InTCP6 = true
        let text = "accept_proxy: { from: [10.1.0.0/16], max_header: 512, accept_ipv4_in_tcp6: true }"
        #expect(try listener(text).acceptProxy == expected)
    }

    @Test func timeoutsTakeTheirKeys() throws {
        let timeouts = try listener(
            "timeouts: { preamble: 8s, hello: 500ms, idle: 1h, half_close: 2m, session: 1h30m }"
        )
        .timeouts
        #expect(timeouts.preamble == .seconds(8))
        #expect(timeouts.hello == .milliseconds(500))
        #expect(timeouts.idle == .seconds(3600))
        #expect(timeouts.halfClose == .seconds(120))
        #expect(timeouts.session == .seconds(5400))
    }

    @Test func aShortPreambleTimeoutShortensTheHellosDefault() throws {
        #expect(try listener("timeouts: { preamble: 2s }").timeouts.hello == .seconds(2))
    }

    @Test func theOtherListenerKeysAreTaken() throws {
        #expect(try listener("detect: [tls, http]").detect == [.tls, .http])
        #expect(
            try listener("limits: { connections: 200000, per_client: { connections: 2000 } }").limits.connections
                == 200_000)
        #expect(try listener("limits: { per_client: { connections: 2000 } }").limits.connectionsPerClient == 2000)
        #expect(try listener("limits: { rate: 5000/s, burst: 10000 }").limits.rate == RateLimit(5000, burst: 10_000))
        #expect(
            try listener("limits: { per_client: { rate: 30/m } }").limits.ratePerClient
                == RateLimit(30, per: .seconds(60), burst: 30))
        #expect(try listener("half_close: false").halfClose == false)
        #expect(try listener("backlog: 128").backlog == 128)
        #expect(try listener("hello: { max_size: 8KiB, ech: deny }").hello.byteCountMax == 8192)
        #expect(try listener("hello: { ech: deny }").hello.allowECH == false)
    }

    @Test func detectNoneReadsNothing() throws {
        let text = "listeners: [ { address: 127.0.0.1:1, detect: none, routes: [ { deny: close } ] } ]"
        #expect(try onlyListener(text).detect == [])
    }

    // MARK: Routes

    @Test func aRouteTakesMatchAndTarget() throws {
        let listener = try onlyListener(
            """
            listeners:
              - address: 127.0.0.1:1
                routes:
                  - name: partner
                    match: { server_names: [Api.Partner.com, "*.partner.com"], clients: [10.2.0.0/16], alpn: [h2] }
                    to: { cluster: c }
                  - match: { server_names: ["*"] }
                    to: { server_name: { port: listener, send_proxy: v1, connect: { timeout: 1s }, source_addresses: [10.0.0.9] } }
                  - deny: access_denied
            clusters: [ { name: c, endpoints: ["10.0.0.1:443"] } ]
            """)
        let names: [ServerNamePattern] = [
            .exact(try ServerName("api.partner.com")), .wildcard(try ServerName("partner.com")),
        ]
        var options = UpstreamOptions()
        options.sendProxy = SendProxy(.v1)
        options.connectTimeout = .seconds(1)
        options.sourceAddresses = [IPAddress(10, 0, 0, 9)]
        let clients = [CIDR(IPAddress(10, 2, 0, 0), prefixLength: 16)]
        #expect(
            listener.routes == [
                Route(
                    name: "partner", match: RouteMatch(serverNames: names, clients: clients, alpn: ["h2"]),
                    action: .cluster("c")),
                Route(
                    name: "route-2", match: RouteMatch(serverNames: [.any]),
                    action: .forward(DynamicForward(port: .listener, upstream: options))),
                Route(name: "route-3", action: .deny(.accessDenied)),
            ])
    }

    @Test(arguments: [
        ("unrecognized_name", Denial.unrecognizedName), ("access_denied", .accessDenied), ("reset", .reset),
        ("close", .close),
    ])
    func denyTakesEveryWord(word: String, denial: Denial) throws {
        let text = "listeners: [ { address: 127.0.0.1:1, routes: [ { deny: \(word) } ] } ]"
        #expect(try onlyListener(text).routes.map(\.action) == [.deny(denial)])
    }

    // MARK: Clusters

    @Test func endpointsAreTextOrMappings() throws {
        let endpoints = try cluster(
            """
            endpoints:
              - 10.0.0.1:443
              - "[fd00::1]:8443"
              - { address: Egress-1.internal:443, weight: 5, priority: 1, down: true, max_fails: 0, fail_timeout: 1m }
            """
        ).endpoints
        #expect(endpoints.map(\.description) == ["10.0.0.1:443", "[fd00::1]:8443", "egress-1.internal:443"])
        var expected = Endpoint(host: .name(try ServerName("egress-1.internal")), port: 443)
        expected.weight = 5
        expected.priority = 1
        expected.isDown = true
        expected.maxFails = 0
        expected.failTimeout = .seconds(60)
        #expect(endpoints.last == expected)
    }

    @Test(arguments: [("", false), ("private_names: deny", false), ("private_names: allow", true)])
    func privateNamesHaveToBeAskedFor(line: String, expected: Bool) throws {
        #expect(try cluster("endpoints: [\"a.svc:1\"]\n\(line)").privateNames == expected)
    }

    @Test func keepaliveTakesItsKeysAndHasTheKernelsDefaults() throws {
        func keepalive(_ text: String) throws -> TCPKeepalive? {
            try cluster("endpoints: [\"10.0.0.1:1\"]\nconnect: { keepalive: \(text) }").upstream.keepalive
        }
        let given = TCPKeepalive(idle: .seconds(60), interval: .seconds(10), probes: 3)
        #expect(try keepalive("{ idle: 1m, interval: 10s, probes: 3 }") == given)
        let defaults = TCPKeepalive(idle: .seconds(7200), interval: .seconds(75), probes: 9)
        #expect(try keepalive("{}") == defaults)
    }

    @Test func connectTakesItsKeys() throws {
        let cluster = try cluster("endpoints: [\"10.0.0.1:1\"]\nconnect: { timeout: 250ms, attempts: 8, total: 20s }")
        #expect(cluster.upstream.connectTimeout == .milliseconds(250))
        #expect(cluster.upstream.attempts == 8)
        #expect(cluster.upstream.connectTotal == .seconds(20))
        #expect(cluster.balance == .roundRobin)
    }

    @Test(arguments: [
        ("round_robin", Cluster.Balance.roundRobin), ("least_connections", .leastConnections), ("random", .random),
        ("source_hash", .sourceHash), ("maglev", .sourceHash),
    ])
    func balanceTakesItsWords(word: String, balance: Cluster.Balance) throws {
        #expect(try cluster("endpoints: [\"10.0.0.1:1\"]\nbalance: \(word)").balance == balance)
    }

    /// S0-3
    @Test func outlierDetectionTakesItsKeys() throws {
        let cluster = try cluster(
            """
            endpoints: ["10.0.0.1:1"]
            outlier_detection:
              consecutive_local_origin_failures: 7
              interval: 5s
              base_ejection_time: 10s
              max_ejection_time: 1m
              max_ejection_percent: 50
              min_health_percent: 40
            """)
        var expected = OutlierDetection()
        expected.consecutiveLocalOriginFailures = 7
        expected.interval = .seconds(5)
        expected.baseEjectionTime = .seconds(10)
        expected.ejectionTimeMax = .seconds(60)
        expected.ejectionPercentMax = 50
        expected.minHealthPercent = 40
        #expect(cluster.outlierDetection == expected)
    }

    /// P-05
    @Test func outlierDetectionHasEnvoysDefaults() throws {
        let outliers = try #require(try cluster("endpoints: [\"10.0.0.1:1\"]\noutlier_detection: {}").outlierDetection)
        #expect(outliers == OutlierDetection())
        #expect(outliers.consecutiveLocalOriginFailures == 5)
        #expect(outliers.interval == .seconds(10))
        #expect(outliers.baseEjectionTime == .seconds(30))
        #expect(outliers.ejectionTimeMax == .seconds(300))
        #expect(outliers.ejectionPercentMax == 10)
    }

    @Test func aLongEjectionIsNotCutByTheDefaultCap() throws {
        let cluster = try cluster("endpoints: [\"10.0.0.1:1\"]\noutlier_detection: { base_ejection_time: 10m }")
        #expect(cluster.outlierDetection?.ejectionTimeMax == .seconds(600))
    }

    @Test func limitsAndLivesOfAClusterTakeTheirKeys() throws {
        let cluster = try cluster(
            """
            endpoints: [{ address: "10.0.0.1:1", max_connections: 9 }]
            limits: { connections: 1000, pending: 50, rate: 100/s, burst: 10 }
            overprovisioning_factor: 140
            slow_start: 30s
            max_connection_age: 1h
            on_unhealthy: close
            on_removed: close
            """)
        #expect(cluster.endpoints[0].connectionsMax == 9)
        #expect(cluster.limits.connections == 1000)
        #expect(cluster.limits.pending == 50)
        #expect(cluster.limits.rate == RateLimit(100, burst: 10))
        #expect(cluster.overprovisioningFactor == 140)
        #expect(cluster.slowStart == .seconds(30))
        #expect(cluster.connectionAgeMax == .seconds(3600))
        #expect(cluster.onUnhealthy == .close)
        #expect(cluster.onRemoved == .close)
    }

    @Test func aLongConnectTimeoutIsNotCutByTheDefaultTotal() throws {
        let cluster = try cluster("endpoints: [\"10.0.0.1:1\"]\nconnect: { timeout: 30s }")
        #expect(cluster.upstream.connectTotal == .seconds(30))
    }

    @Test func sendProxyIsAWordOrAMapping() throws {
        let endpoints = "endpoints: [\"10.0.0.1:1\"]\n"
        #expect(try cluster(endpoints + "send_proxy: v1").upstream.sendProxy == SendProxy(.v1))
        #expect(try cluster(endpoints + "send_proxy: v2").upstream.sendProxy == SendProxy(.v2))
        #expect(try cluster(endpoints + "send_proxy: off").upstream.sendProxy == nil)
        var expected = SendProxy(.v2)
        expected.authority = true
        expected.crc32c = true
        expected.uniqueID = true
        expected.alpn = true
        let text = "send_proxy: { version: v2, authority: true, crc32c: true, unique_id: true, alpn: true }"
        #expect(try cluster(endpoints + text).upstream.sendProxy == expected)
    }

    /// PO-04, PO-07.
    @Test func sendProxyTakesCustomFieldsPaddingAndWhatIsForwarded() throws {
        let text = """
            endpoints: ["10.0.0.1:1"]
            send_proxy:
              version: v2
              forward_tlvs: [authority, alpn, unique_id]
              custom: { 0xE0: blue, 0xef: "zone 1" }
              pad_to: 512
            """
        var expected = SendProxy(.v2)
        expected.forwardedTLVs = [.authority, .alpn, .uniqueID]
        expected.custom = [SendProxy.CustomTLV(0xe0, "blue"), SendProxy.CustomTLV(0xef, "zone 1")]
        expected.padTo = 512
        #expect(try cluster(text).upstream.sendProxy == expected)
    }

    /// S0-5, UP-12.
    @Test func sourceAddressesTakeSeveralOfEachFamily() throws {
        let list = "[203.0.113.10, 203.0.113.11, \"2001:db8::1\"]"
        let cluster = try cluster("endpoints: [\"10.0.0.1:1\"]\nsource_addresses: \(list)")
        #expect(
            cluster.upstream.sourceAddresses.map(\.description) == ["203.0.113.10", "203.0.113.11", "2001:db8::1"])
    }

    /// S0-5.
    @Test func aSourcePoolIsNamedByClustersAndForwards() throws {
        let result = reading(
            """
            sources:
              - name: public
                addresses: [203.0.113.10, "2001:db8::10"]
                select: client_hash
                interface: eth1
                mark: 0x10
              - { name: plain, addresses: [203.0.113.12] }
            clusters: [ { name: c, endpoints: ["10.0.0.1:1"], source: plain } ]
            listeners:
              - address: 127.0.0.1:2
                routes: [ { to: { server_name: { port: 443, source: public } } } ]
            """)
        let configuration = try #require(result.configuration, "\(result.diagnostics.map(\.description))")
        var named = SourcePool(name: "public", addresses: [IPAddress(203, 0, 113, 10), IPAddress("2001:db8::10")!])
        named.select = .clientHash
        named.interface = "eth1"
        named.mark = 16
        let plain = SourcePool(name: "plain", addresses: [IPAddress(203, 0, 113, 12)])
        #expect(configuration.sources == [named, plain])
        #expect(configuration.clusters[0].upstream.source == "plain")
        var options = UpstreamOptions()
        options.source = "public"
        let forward = DynamicForward(port: .fixed(443), upstream: options)
        #expect(configuration.listeners.flatMap(\.routes).map(\.action) == [.forward(forward)])
    }

    /// UP-06.
    @Test func healthCheckHasDefaults() throws {
        #expect(try cluster("endpoints: [\"10.0.0.1:1\"]").healthCheck == nil)
        #expect(try cluster("endpoints: [\"10.0.0.1:1\"]\nhealth_check: {}").healthCheck == HealthCheck(.tcp))
    }

    /// UP-06.
    @Test func healthCheckTakesEverySetting() throws {
        let cluster = try cluster(
            """
            endpoints: ["10.0.0.1:1"]
            health_check:
              { type: http, interval: 5s, timeout: 500ms, fall: 3, rise: 1, jitter: 0, port: 8080, server_name: a.example,
                path: "/healthz?deep=1", expected: [200, 300-399] }
            """)
        var expected = HealthCheck(.http)
        expected.interval = .seconds(5)
        expected.timeout = .milliseconds(500)
        expected.fall = 3
        expected.rise = 1
        expected.jitter = 0
        expected.port = 8080
        expected.serverName = try ServerName("a.example")
        expected.path = "/healthz?deep=1"
        expected.expected = [200...200, 300...399]
        #expect(cluster.healthCheck == expected)
    }

    /// UP-06: the default of the timeout fits into every interval.
    @Test func shortIntervalShortensTheTimeout() throws {
        let cluster = try cluster("endpoints: [\"10.0.0.1:1\"]\nhealth_check: { interval: 200ms }")
        #expect(cluster.healthCheck?.timeout == .milliseconds(200))
    }

    // MARK: The rest

    @Test func destinationsTakeBlocksAndPorts() throws {
        let policy = try configuration(
            """
            destinations:
              allow: [10.20.0.0/16, "10.0.0.0/8:443", "fd00::/8", "[fd00::/8]:8000-8999"]
              deny: [192.0.2.1]
            """
        ).destinations
        let private6 = CIDR(IPAddress(v6High: 0xfd00 << 48, low: 0), prefixLength: 8)
        #expect(
            policy.allow == [
                .init(CIDR(IPAddress(10, 20, 0, 0), prefixLength: 16)),
                .init(CIDR(IPAddress(10, 0, 0, 0), prefixLength: 8), ports: 443...443),
                .init(private6), .init(private6, ports: 8000...8999),
            ])
        #expect(policy.deny == [.init(CIDR(IPAddress(192, 0, 2, 1), prefixLength: 32))])
    }

    @Test func resolverTakesItsKeys() throws {
        let resolver = try configuration(
            """
            resolver:
              servers: [10.0.0.53, "10.0.0.54:5353", "[fd00::53]:53", "fd00::54"]
              ttl: { min: 2s, max: 10m }
              negative: 0s
              stale: 1h
              timeout: 3s
              families: v4
              cache_entries: 500
            """
        ).resolver
        #expect(
            resolver.servers.map(\.description) == ["10.0.0.53:53", "10.0.0.54:5353", "[fd00::53]:53", "[fd00::54]:53"])
        #expect(resolver.ttlMin == .seconds(2))
        #expect(resolver.ttlMax == .seconds(600))
        #expect(resolver.negativeTTL == .zero)
        #expect(resolver.staleTTL == .seconds(3600))
        #expect(resolver.timeout == .seconds(3))
        #expect(resolver.families == .v4Only)
        #expect(resolver.cacheEntryCountMax == 500)
    }

    @Test func systemServersAreTheDefault() throws {
        #expect(try configuration("resolver: { servers: system, families: both }").resolver == ResolverSettings())
    }

    @Test func theSmallSectionsAreTaken() throws {
        #expect(try configuration("admin: { address: 127.0.0.1:9901 }").admin?.address.description == "127.0.0.1:9901")
        #expect(try configuration("admin: off").admin == nil)
        #expect(try configuration("log: { access: off }").log.access == .none)
        #expect(
            try configuration("log: { access: stdout, format: json, events: [close] }").log.access == .standardOutput)
        #expect(try configuration("log: { access: /var/log/weir.log }").log.access == .file("/var/log/weir.log"))
        #expect(try configuration("workers: 3").workerCount == 3)
        #expect(try configuration("workers: auto").workerCount == nil)
        #expect(try configuration("limits: { connections: 5000 }").limits.connections == 5000)
        #expect(try configuration("limits: { buffer_memory: 1GiB }").limits.bufferByteCount == 1 << 30)
        #expect(
            try configuration("limits: { rate: 1000/h, burst: 5 }").limits.rate
                == RateLimit(1000, per: .seconds(3600), burst: 5))
        #expect(try configuration("drain: { timeout: 0s }").drainTimeout == .zero)
        #expect(try configuration("drain: { delay: 1500ms }").drainDelay == .milliseconds(1500))
        #expect(try configuration("upgrade: { timeout: 1m }").upgradeTimeout == .seconds(60))
    }

    @Test func aShadowNamesItsFilesAndHowManyDifferencesAreToldOf() throws {
        let all = try configuration("shadow: { config: [next.yaml, more], sample: 30/m }").shadow
        var expected = ShadowSettings(files: ["next.yaml", "more"])
        expected.samples = RateLimit(30, per: .seconds(60))
        #expect(all == expected)
        #expect(try configuration("shadow: { config: [next.yaml] }").shadow?.samples == RateLimit(10))
    }

    @Test func anchorsAndAliasesAreFollowed() throws {
        let listener = try onlyListener(
            """
            listeners:
              - address: 127.0.0.1:1
                clients: { allow: &office [10.1.0.0/16] }
                routes: [ { match: { clients: *office }, deny: close } ]
            """)
        #expect(listener.routes[0].match.clients.map(\.description) == ["10.1.0.0/16"])
    }

    @Test func jsonIsYAML() throws {
        let text = "{\"listeners\": [{\"address\": \"127.0.0.1:1\", \"routes\": [{\"deny\": \"close\"}]}]}"
        #expect(try onlyListener(text).address.port == 1)
    }

    /// T-01.
    @Test func anOpenProxyIsWarnedAbout() {
        let result = reading(
            """
            listeners:
              - name: world
                address: 0.0.0.0:443
                clients: { allow: all }
                routes: [ { match: { server_names: ["*"] }, to: { server_name: { port: 443 } } } ]
            """)
        #expect(result.configuration != nil)
        #expect(
            result.warningLines == [
                "5:53 listener \"world\", route \"route-1\": is an open proxy: clients with public addresses may reach any name"
            ])
    }

    /// T-01: both `clients` and `server_names` have to say so.
    @Test(arguments: ["all", "[0.0.0.0/0]", "[\"::/0\"]", "[0.0.0.0/1]"])
    func anOpenProxyWithoutServerNamesIsRefused(allow: String) {
        let result = reading(
            """
            listeners:
              - address: 0.0.0.0:443
                clients: { allow: \(allow) }
                routes: [ { to: { server_name: { port: 443 } } } ]
            """)
        #expect(
            result.errorLines.first?.hasPrefix("4:21 listener \"0.0.0.0:443\", route \"route-1\": forwards any name")
                == true
        )
    }
}
