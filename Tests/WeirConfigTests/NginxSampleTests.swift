import Testing
import WeirConfig
import WeirModel
import WeirNet

@Suite struct NginxSampleTests {
    private let result = reading(NginxSample.text)
    private let configuration: Configuration

    init() throws {
        configuration = try #require(result.configuration, "\(result.diagnostics.map(\.description))")
        try #require(configuration.listeners.count == 3)
    }

    @Test func everyServerAddressIsAListener() {
        #expect(configuration.listeners.map(\.name) == ["0.0.0.0:443", "[::]:443", "127.0.0.1:5432"])
        #expect(configuration.listeners[0].routes == configuration.listeners[1].routes)
        #expect(result.diagnostics == [])
    }

    @Test func theFirstListenerHasItsSettings() {
        let listener = configuration.listeners[0]
        #expect(listener.backlog == 1024)
        #expect(listener.detect == [.tls])
        #expect(listener.timeouts.hello == .seconds(4))
        #expect(listener.timeouts.idle == .seconds(600))
        #expect(listener.timeouts.preamble == .seconds(4 + 3 + 6))
        #expect(listener.hello.byteCountMax == 32768)
        #expect(listener.limits.connectionsPerClient == 100)
        #expect(listener.clients == .allowing([CIDR(IPAddress(10, 0, 0, 0), prefixLength: 8)]))
    }

    @Test func theMapsBecomeRoutes() throws {
        let routes = configuration.listeners[0].routes
        #expect(
            routes.map(\.name) == [
                "10.9.0.2:8443-acme-tls/1", "default-acme-tls/1", "no-name-acme-tls/1", "partner", "10.9.0.1:443",
                "refused", "default",
            ])
        try #require(routes.count == 7)
        let names: [ServerNamePattern] = try [
            .exact(ServerName("api.partner.com")), .wildcard(ServerName("partner.com")),
        ]
        #expect(routes[3].match == RouteMatch(serverNames: names))
        #expect(routes[3].action == .cluster("partner"))
        #expect(routes[5].action == .deny(.close))
        #expect(routes[6].match == RouteMatch(serverNames: [.any]))
        guard case .forward(let forward) = routes[6].action else {
            Issue.record("the default forwards")
            return
        }
        #expect(forward.port == .listener)
    }

    @Test func theUpstreamIsSharedUnderTwoNamesWithTwoSettings() throws {
        let partner = try #require(configuration.clusters.first { $0.name == "partner" })
        #expect(partner.endpoints.map(\.weight) == [3, 1, 1])
        #expect(partner.endpoints.map(\.priority) == [0, 1, 0])
        #expect(partner.endpoints.map(\.isDown) == [false, false, true])
        #expect(partner.endpoints[0].maxFails == 2)
        #expect(partner.endpoints[0].failTimeout == .seconds(15))
        #expect(partner.upstream.sourceAddresses == [IPAddress(203, 0, 113, 10)])
        #expect(partner.upstream.attempts == 2)
        #expect(partner.upstream.connectTotal == .seconds(6))
        let second = try #require(configuration.clusters.first { $0.name == "partner@127.0.0.1:5432" })
        #expect(second.endpoints == partner.endpoints)
        #expect(second.upstream.sendProxy == SendProxy(.v1))
        #expect(second.upstream.sourceAddresses == [])
    }

    @Test func theProxyListenerTrustsWhomTheFileNames() {
        let listener = configuration.listeners[2]
        #expect(listener.acceptProxy?.from.map(\.description) == ["10.1.0.0/16"])
        #expect(listener.detect == [])
        #expect(listener.timeouts.hello == .seconds(3))
    }

    @Test func globalSettingsAreTaken() {
        #expect(configuration.workerCount == 4)
        #expect(configuration.drainTimeout == .seconds(90))
        #expect(configuration.log.access == .file("/var/log/nginx/stream.log"))
        #expect(configuration.resolver.servers.map(\.description) == ["10.0.0.53:53", "[fd00::53]:5353"])
        #expect(configuration.resolver.ttlMin == .seconds(30))
        #expect(configuration.resolver.ttlMax == .seconds(30))
        #expect(configuration.resolver.families == .v4Only)
        #expect(configuration.resolver.timeout == .seconds(3))
    }

    @Test func whatHasNoEffectIsNoticedByLine() {
        for (line, word) in [
            (2, "user"), (4, "pid"), (5, "error_log"), (6, "load_module"), (7, "worker_rlimit_nofile"),
            (11, "worker_connections"), (12, "multi_accept"), (13, "use"), (17, "log_format"), (19, "basic"),
            (21, "status_zone"), (24, "map_hash_bucket_size"), (40, "map"), (43, "zone"), (50, "reuseport"),
            (50, "so_keepalive"), (62, "proxy_buffer_size"), (63, "tcp_nodelay"),
        ] {
            let start = "test.conf:\(line): \"\(word)\""
            #expect(result.notices.contains { $0.hasPrefix(start) }, "\(start)")
        }
    }
}
