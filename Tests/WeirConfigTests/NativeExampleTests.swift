import Testing
import WeirConfig
import WeirModel

/// The long example of the native format, with every key a release is to have.
@Suite struct NativeExampleTests {
    static let example = """
        listeners:
          - name: egress
            address: 0.0.0.0:443
            clients: { allow: [10.0.0.0/8] }              # default: loopback, RFC 1918, ULA
            accept_proxy: { from: [10.1.0.0/16] }         # PROXY v1/v2 required from these peers, refused from others
            limits: { connections: 200000, per_client: { connections: 2000, rate: 500/s } }
            timeouts: { preamble: 5s, idle: 1h, half_close: 60s }
            routes:
              - match: { server_names: [api.partner.com, "*.partner.com"], clients: [10.2.0.0/16] }
                to: { cluster: partner-gateways }
              - match: { server_names: ["*"] }
                to: { server_name: { port: 443, source: public } }  # dynamic forward: resolve the name itself
              - deny: unrecognized_name
        clusters:
          - name: partner-gateways
            endpoints: [ { address: egress-1.internal:443, weight: 1 }, { address: egress-2.internal:443, priority: 1 } ]
            balance: round_robin                          # least_connections, random, source_hash, maglev
            connect: { timeout: 2s, attempts: 3, total: 5s }
            health_check: { interval: 1s, timeout: 1s, fall: 2, rise: 2 }
            outlier_detection: { consecutive_local_origin_failures: 5, base_ejection_time: 30s, max_ejection_percent: 10 }
            send_proxy: v2
        sources:
          - name: public
            addresses: [203.0.113.10, 203.0.113.11]
            select: least_ports
        destinations: { allow: [10.20.0.0/16] }           # exemptions from the guard on resolved addresses
        resolver: { servers: system, ttl: { min: 1s, max: 5m }, negative: 5s, stale: 60s }
        admin: { address: 127.0.0.1:9901 }
        log: { format: json, events: [close] }
        """

    @Test func itRuns() throws {
        let text = Self.example
        let result = reading(text)
        let configuration = try #require(result.configuration, "\(result.diagnostics.map(\.description))")
        #expect(result.diagnostics == [])
        #expect(configuration.listeners[0].routes.map(\.name) == ["route-1", "route-2", "route-3"])
        #expect(configuration.clusters[0].endpoints.map(\.priority) == [0, 1])
        #expect(configuration.clusters[0].healthCheck == HealthCheck(.tcp))
        #expect(configuration.listeners[0].limits.connectionsPerClient == 2000)
        #expect(configuration.listeners[0].limits.ratePerClient == RateLimit(500))
        #expect(configuration.sources.map(\.name) == ["public"])
    }
}
