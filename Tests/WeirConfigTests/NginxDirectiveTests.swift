import Testing
import WeirConfig
import WeirModel
import WeirNet

/// Each nginx directive that is read, alone.
@Suite struct NginxDirectiveTests {
    // MARK: listen

    @Test(arguments: [
        ("443", ["0.0.0.0:443"]), ("*:443", ["0.0.0.0:443"]), ("127.0.0.1:8443", ["127.0.0.1:8443"]),
        ("[::]:443", ["[::]:443"]), ("[::]:443 ipv6only=on", ["[::]:443"]),
        ("[::]:443 ipv6only=off", ["[::]:443", "0.0.0.0:443"]), ("localhost:1", ["127.0.0.1:1"]),
        ("127.0.0.1:8000-8002", ["127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002"]),
        ("443; listen [::]:443 ipv6only=off", ["0.0.0.0:443", "[::]:443"]),
    ])
    func listenTakesItsForms(form: String, addresses: [String]) throws {
        let result = reading("stream { server { listen \(form); proxy_pass 10.0.0.1:1; } }")
        #expect(try #require(result.configuration).listeners.map(\.address.description) == addresses)
    }

    @Test func aPlainTargetWithoutPrereadReadsNothing() throws {
        let listener = try onlyListener("stream { server { listen 1; proxy_pass 10.0.0.1:1; } }")
        #expect(listener.detect == [])
        #expect(listener.routes.map(\.match) == [RouteMatch()])
    }

    @Test func aPlainTargetWithPrereadReadsTheHello() throws {
        #expect(
            try onlyListener("stream { server { listen 1; ssl_preread on; proxy_pass 10.0.0.1:1; } }").detect == [.tls])
    }

    // MARK: proxy_pass

    @Test(arguments: [
        ("$ssl_preread_server_name:443", RouteAction.forward(DynamicForward(port: .fixed(443)))),
        ("$ssl_preread_server_name:$server_port", .forward(DynamicForward(port: .listener))),
        ("${ssl_preread_server_name}:8443", .forward(DynamicForward(port: .fixed(8443)))),
        ("10.0.0.1:443", .cluster("10.0.0.1:443")), ("[fd00::1]:443", .cluster("[fd00::1]:443")),
        ("Api.Example:443", .cluster("api.example:443")), ("10.0.0.1:$server_port", .cluster("10.0.0.1:443")),
    ])
    func proxyPassTakesItsForms(target: String, action: RouteAction) throws {
        let listener = try onlyListener("stream { server { listen 443; ssl_preread on; proxy_pass \(target); } }")
        #expect(listener.routes.map(\.action) == [action])
    }

    @Test func aPlainTargetIsAClusterThatNeverRests() throws {
        let result = reading("stream { server { listen 1; proxy_pass 10.0.0.1:1; } }")
        let cluster = try #require(result.configuration?.clusters.first)
        #expect(cluster.endpoints.map(\.maxFails) == [0])
    }

    /// S2-6
    @Test(arguments: ["$remote_addr", "$binary_remote_addr", "$remote_addr consistent"])
    func hashTakesTheClientsAddress(arguments: String) throws {
        let result = reading(
            "stream { upstream u { hash \(arguments); server 10.0.0.1:1; } server { listen 1; proxy_pass u; } }")
        #expect(try #require(result.configuration).clusters.map(\.balance) == [.sourceHash])
    }

    @Test(arguments: [
        ("least_conn", Cluster.Balance.leastConnections), ("random", .random), ("random two", .random),
        ("random two least_conn", .random),
    ])
    func methodsOfAnUpstreamAreBalances(method: String, balance: Cluster.Balance) throws {
        let result = reading(
            "stream { upstream u { \(method); server 10.0.0.1:1; } server { listen 1; proxy_pass u; } }")
        #expect(try #require(result.configuration).clusters.map(\.balance) == [balance])
    }

    /// UP-03
    @Test func maxConnsIsALimitOfTheEndpointAndZeroIsNone() throws {
        let result = reading(
            "stream { upstream u { server 10.0.0.1:1 max_conns=9; server 10.0.0.2:1 max_conns=0; } "
                + "server { listen 1; proxy_pass u; } }")
        #expect(try #require(result.configuration).clusters[0].endpoints.map(\.connectionsMax) == [9, nil])
    }

    @Test func theLongestSlowStartOfItsServersIsThatOfTheCluster() throws {
        let result = reading(
            "stream { upstream u { server 10.0.0.1:1 slow_start=10s; server 10.0.0.2:1 slow_start=30s; } "
                + "server { listen 1; proxy_pass u; } }")
        #expect(try #require(result.configuration).clusters[0].slowStart == .seconds(30))
    }

    // MARK: Settings of a server

    private func options(_ directives: String) throws -> UpstreamOptions {
        guard case .forward(let forward) = try onlyListener(nginxServer(directives)).routes[0].action else {
            throw Expected()
        }
        return forward.upstream
    }

    private struct Expected: Error {}

    @Test func connectSettingsAreTaken() throws {
        #expect(try options("").connectTimeout == UpstreamOptions().connectTimeout)
        #expect(try options("proxy_connect_timeout 1s;").connectTotal == .seconds(3))
        #expect(try options("proxy_next_upstream off;").attempts == 1)
        #expect(try options("proxy_next_upstream_tries 0;").attempts == 8)
        #expect(try options("proxy_next_upstream_tries 20;").attempts == 8)
        #expect(try options("proxy_next_upstream_timeout 7s;").connectTotal == .seconds(7))
        #expect(try options("proxy_protocol on;").sendProxy == SendProxy(.v1))
        #expect(try options("proxy_protocol on; proxy_protocol_version 2;").sendProxy == SendProxy(.v2))
        #expect(try options("proxy_protocol off;").sendProxy == nil)
        #expect(try options("proxy_bind 10.0.0.9;").sourceAddresses == [IPAddress(10, 0, 0, 9)])
        #expect(try options("proxy_bind off;").sourceAddresses == [])
    }

    @Test(arguments: [
        ("500ms", Duration.milliseconds(500)), ("30", .seconds(30)), ("1h30m", .seconds(5400)), ("1d", .seconds(86400)),
        ("1M", .seconds(2_592_000)),
    ])
    func timesAreCountedAsNginxDoes(text: String, time: Duration) throws {
        #expect(try onlyListener(nginxServer("proxy_timeout \(text);")).timeouts.idle == time)
    }

    @Test func halfCloseIsOnUnlessTheFileTurnsItOff() throws {
        #expect(try onlyListener(nginxServer("")).halfClose)
        #expect(try onlyListener(nginxServer("proxy_half_close on;")).halfClose)
        #expect(try !onlyListener(nginxServer("proxy_half_close off;")).halfClose)
    }

    @Test func aServerInheritsWhatStreamSaysWhereverItStands() throws {
        let text = """
            stream {
                server { listen 1; proxy_pass 10.0.0.1:1; proxy_timeout 5s; }
                server { listen 2; proxy_pass 10.0.0.1:1; }
                proxy_timeout 7s;
                allow 10.0.0.0/8;
                deny all;
            }
            """
        let listeners = try #require(reading(text).configuration).listeners
        #expect(listeners.map(\.timeouts.idle) == [.seconds(5), .seconds(7)])
        #expect(listeners.map(\.clients.rules.count) == [1, 1])
    }

    @Test func aServersOwnAccessRulesReplaceThoseOfStream() throws {
        let listener = try onlyListener(
            nginxServer("deny 10.1.0.0/16; allow 10.0.0.0/8; deny all;", stream: "allow all;"))
        #expect(listener.clients.rules.map(\.block.description) == ["10.1.0.0/16", "10.0.0.0/8"])
        #expect(listener.clients.rules.map(\.allow) == [false, true])
        #expect(!listener.clients.otherwiseAllow)
    }

    // MARK: Access (T-01, T-08)

    @Test func withoutAccessRulesOnlyPrivateNetworksAreLetIn() throws {
        let text = nginxServer("")
        #expect(try onlyListener(text).clients == .privateNetworks)
        #expect(reading(text).notices(containing: "`allow all;` lets everyone in"))
    }

    @Test func rulesWithoutAnEndLetInPrivateNetworksOnly() throws {
        let text = nginxServer("deny 10.1.0.0/16;")
        let clients = try onlyListener(text).clients
        #expect(
            clients.rules.first
                == ClientPolicy.Rule(allow: false, block: CIDR(IPAddress(10, 1, 0, 0), prefixLength: 16)))
        #expect(clients.rules.dropFirst() == ClientPolicy.privateNetworks.rules[...])
        #expect(!clients.otherwiseAllow)
        #expect(reading(text).notices(containing: "`deny all;` at the end says otherwise"))
    }

    @Test func allowAllOnADynamicForwardIsAnOpenProxy() throws {
        let result = reading(nginxServer("allow all;"))
        #expect(try #require(result.configuration).listeners[0].clients == .everyone)
        #expect(
            result.warningLines == [
                "6:12 listener \"0.0.0.0:443\", route \"default\": is an open proxy: clients with public addresses may reach any name"
            ])
    }

    @Test func allowAllOnAPlainTargetIsNoOpenProxy() {
        #expect(reading("stream { server { listen 1; proxy_pass 10.0.0.1:1; allow all; } }").diagnostics == [])
    }

    @Test func proxyHeadersWithoutTrustListAreBelievedFromPrivateNetworks() throws {
        let text = "stream { server { listen 1 proxy_protocol; proxy_pass 10.0.0.1:1; } }"
        let acceptProxy = try #require(try onlyListener(text).acceptProxy)
        #expect(acceptProxy.from == ClientPolicy.privateNetworks.rules.map(\.block))
        #expect(acceptProxy.acceptIPv4InTCP6)
        #expect(
            reading(text).notices(containing: "PROXY headers are believed from loopback and private addresses only"))
    }

    @Test func theTrustListWithoutProxyProtocolIsNoticed() {
        let result = reading(nginxServer("set_real_ip_from 10.0.0.0/8;"))
        #expect(result.notices(containing: "\"set_real_ip_from\" has no effect on 0.0.0.0:443"))
    }

    // MARK: Limits and log

    @Test func theSmallestConnectionLimitCounts() throws {
        let zones = "limit_conn_zone $binary_remote_addr zone=a:1m; limit_conn_zone $remote_addr zone=b:1m;"
        let listener = try onlyListener(nginxServer("limit_conn a 50; limit_conn b 20;", stream: zones))
        #expect(listener.limits.connectionsPerClient == 20)
    }

    @Test(arguments: [
        ("off", LogSettings.Target.none), ("/dev/stdout", .standardOutput), ("/var/log/x.log", .file("/var/log/x.log")),
    ])
    func accessLogIsTheLogsTarget(path: String, target: LogSettings.Target) throws {
        #expect(try #require(reading(nginxServer("access_log \(path);")).configuration).log.access == target)
    }

    @Test func ipv4OffAsksForIPv6Only() throws {
        let result = reading(nginxServer("resolver 10.0.0.53 ipv4=off;"))
        #expect(try #require(result.configuration).resolver.families == .v6Only)
    }

    @Test(arguments: ["proxy_ssl off;", "proxy_upload_rate 0;", "limit_conn_dry_run off;"])
    func whatIsNotSupportedMayBeTurnedOff(directive: String) {
        #expect(reading(nginxServer(directive)).errorLines == [])
    }
}
