import Testing
import WeirConfig
import WeirModel
import WeirNet

/// The nginx files that the engine's users run today, as they stand.
@Suite struct NginxSeedTests {
    /// S0-1: the egress proxy that replaces a cloud NAT. No events block, no resolver.
    static let egress = """
        stream {
        server {
        listen 443;
        ssl_preread on;
        proxy_pass $ssl_preread_server_name:$server_port;
        }
        }
        """

    /// S3-5: the node-local proxy that sends the PROXY header.
    static let nodeLocal = """
        error_log /dev/stdout;
        stream {
            server {
                listen 10.1.2.3:443;
                proxy_pass api.<external-domain>:8443;
                proxy_protocol on;

                proxy_protocol_timeout 5s;
                resolver_timeout 5s;
                proxy_connect_timeout 5s;
            }
        }

        events { }
        """

    @Test func egressFileForwardsToTheNameOnTheListenersPort() throws {
        let listener = try onlyListener(Self.egress)
        #expect(listener.address == SocketAddress("0.0.0.0:443"))
        #expect(listener.detect == [.tls])
        #expect(listener.clients == .privateNetworks)
        #expect(listener.routes.map(\.action) == [.forward(DynamicForward(port: .listener))])
        #expect(listener.routes.map(\.match) == [RouteMatch(serverNames: [.any])])
    }

    @Test func egressFileHasNoWarningAndTellsItsDefaults() {
        let result = reading(Self.egress)
        #expect(result.diagnostics == [])
        #expect(
            result.notices == [
                "test.conf:3: only loopback and private addresses may connect: the file has no `allow`; "
                    + "`allow all;` lets everyone in",
                "test.conf:5: no `resolver`: names are asked of the system's name servers",
            ])
    }

    /// The document leaves the domain open; nginx cannot start from it either.
    @Test func nodeLocalFileHasNothingWrongButItsPlaceholder() {
        #expect(
            reading(Self.nodeLocal).errorLines == [
                "5:20 \"api.<external-domain>:8443\" holds a placeholder: put the real name in its place"
            ])
    }

    @Test func nodeLocalFileSendsTheProxyHeaderWithinItsTimeouts() throws {
        let text = Self.nodeLocal.replacing("<external-domain>", with: "garden.example")
        let result = reading(text)
        let configuration = try #require(result.configuration)
        let listener = try onlyListener(text)
        #expect(listener.address == SocketAddress("10.1.2.3:443"))
        #expect(listener.detect == [])
        #expect(listener.routes.map(\.action) == [.cluster("api.garden.example:8443")])
        let cluster = try #require(configuration.clusters.first)
        #expect(cluster.endpoints.map(\.description) == ["api.garden.example:8443"])
        #expect(cluster.upstream.sendProxy == SendProxy(.v1))
        #expect(cluster.upstream.connectTimeout == .seconds(5))
        #expect(configuration.resolver.timeout == .seconds(5))
        #expect(listener.timeouts.preamble == .seconds(5 + 5 + 15))
    }
}
