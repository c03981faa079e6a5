import Glibc
import Testing
import WeirNet
import WeirTelemetry

@Suite struct AccessLogLineTests {
    private let registry = MetricRegistry(
        workers: [MetricCells(count: 2048)], reasonLabels: ["downstream_closed", "upstream_reset"],
        guardRuleLabels: ["private"])

    private func object(_ record: SessionRecord, proxyUniqueID: [UInt8] = []) throws -> [String: StrictJSON.Value] {
        var format = AccessLogLine(registry: registry)
        var line = JSONLine()
        var entry = LogEntry(record)
        for byte in proxyUniqueID { entry.proxyUniqueID.append(byte) }
        format.write(entry, to: &line)
        let text = String(decoding: line.bytes, as: UTF8.self)
        #expect(text.hasSuffix("}\n"))
        return try #require(StrictJSON.object(String(text.dropLast())), "\(text)")
    }

    private func record() -> SessionRecord {
        SessionRecord(
            id: 0xabc, client: SocketAddress(.v4Loopback, port: 40000), peer: SocketAddress(.v4Loopback, port: 40000),
            local: SocketAddress(.v4Loopback, port: 8443))
    }

    private func fullRecord() throws -> SessionRecord {
        var record = record()
        record.worker = 1
        record.detected = .tls
        record.flags = [.proxyAccepted, .proxyTLS, .echSeen, .halfClosed, .staleAnswer, .drained]
        record.attempts = 2
        record.status = 502
        record.reason = 1
        record.code = ECONNRESET
        record.guardRule = 0
        record.listener = registry.listener("egress")
        record.route = registry.route(listener: "egress", name: "any")
        record.cluster = registry.cluster("gateways")
        record.endpoint = registry.endpoint(cluster: "gateways", description: "gw:443")
        record.peer = SocketAddress(IPAddress(10, 0, 0, 1), port: 5)
        record.upstream = SocketAddress(.v6Loopback, port: 443)
        record.upstreamLocal = SocketAddress(.v6Loopback, port: 50000)
        record.serverName = try ServerName("Api.Example.com")
        record.acceptedAt = 951_782_400_000_000_000
        record.preambleTime = 1_500_000
        record.resolveTime = 2_000_000
        record.connectTime = 3_000_000
        record.totalTime = 4_000_000_000
        record.bytesFromClient = 517
        record.bytesFromUpstream = 1 << 40
        return record
    }

    @Test func aFullRecordHasEveryField() throws {
        let fields = try object(fullRecord(), proxyUniqueID: Array("a1".utf8))
        let expected: [String: StrictJSON.Value] = [
            "time": .text("2000-02-29T00:00:04.000000Z"), "event": .text("close"),
            "session": .text("0000000000000abc"), "worker": .number("1"), "listener": .text("egress"),
            "route": .text("any"), "cluster": .text("gateways"), "endpoint": .text("gw:443"),
            "protocol": .text("tls"), "server_name": .text("api.example.com"), "client": .text("127.0.0.1:40000"),
            "peer": .text("10.0.0.1:5"), "local": .text("127.0.0.1:8443"), "upstream": .text("[::1]:443"),
            "upstream_local": .text("[::1]:50000"), "status": .number("502"), "reason": .text("upstream_reset"),
            "errno": .text("ECONNRESET"), "guard_rule": .text("private"), "attempts": .number("2"),
            "bytes_from_client": .number("517"), "bytes_from_upstream": .number("1099511627776"),
            "preamble_seconds": .number("0.001500"), "resolve_seconds": .number("0.002000"),
            "connect_seconds": .number("0.003000"), "session_seconds": .number("4.000000"),
            "proxy": .boolean(true), "proxy_tls": .boolean(true), "proxy_unique_id": .text("a1"), "ech": .boolean(true),
            "half_closed": .boolean(true),
            "stale_dns": .boolean(true), "drained": .boolean(true),
        ]
        #expect(fields == expected)
    }

    @Test func everyFieldIsInTheOperationsPage() throws {
        let page = operationsPage()
        for field in try object(fullRecord(), proxyUniqueID: Array("a1".utf8)).keys {
            #expect(page.contains("`\(field)`"), "docs/OPERATIONS.md does not list \(field)")
        }
    }

    @Test func whatASessionNeverHadIsLeftOut() throws {
        let fields = try object(record())
        #expect(
            Set(fields.keys) == [
                "time", "event", "session", "worker", "protocol", "client", "local", "status", "reason", "attempts",
                "bytes_from_client", "bytes_from_upstream", "session_seconds",
            ])
    }

    /// PP-23, T-15: whatever the bytes are, the line stays one line of printable ASCII.
    @Test func aUniqueIDIsEscaped() throws {
        let fields = try object(record(), proxyUniqueID: [0x22, 0x0a, 0x1b, 0x80, 0xff])
        #expect(fields["proxy_unique_id"] == .text("\"\n\u{1b}\u{80}\u{ff}"))
    }

    @Test func aCodeWithoutANameIsItsNumber() throws {
        var record = record()
        record.reason = 77
        record.code = 12345
        record.guardRule = 9
        let fields = try object(record)
        #expect(fields["reason"] == .text("77"))
        #expect(fields["errno"] == .text("12345"))
        #expect(fields["guard_rule"] == .text("9"))
    }
}
