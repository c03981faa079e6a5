import WeirMemory
import WeirNet

/// Turns session records into lines. docs/OPERATIONS.md lists the fields; a field without a value is left out.
package struct AccessLogLine {
    private let registry: MetricRegistry
    /// Names by base, so that the registry is asked once per subject and not once per record.
    private var names: [Int32: String] = [:]

    package init(registry: MetricRegistry) { self.registry = registry }

    /// Appends the line of `record` to `line`.
    package mutating func write(_ entry: borrowing LogEntry, to line: inout JSONLine) {
        write(entry.record, proxyUniqueID: entry.proxyUniqueID, to: &line)
    }

    private mutating func write(
        _ record: borrowing SessionRecord, proxyUniqueID: borrowing InlineBytes<128>, to line: inout JSONLine
    ) {
        line.begin()
        line.time("time", nanosecondsSince1970: record.acceptedAt &+ record.totalTime)
        line.text("event", "close")
        line.hexadecimal("session", record.id)
        line.integer("worker", UInt64(record.worker))
        name("listener", record.listener, to: &line)
        name("route", record.route, to: &line)
        name("cluster", record.cluster, to: &line)
        name("endpoint", record.endpoint, to: &line)
        line.text("protocol", Self.label(of: record.detected))
        if !record.serverName.isNone { record.serverName.withBytes { line.peerBytes("server_name", $0) } }
        line.address("client", record.client)
        if record.peer != record.client { line.address("peer", record.peer) }
        line.address("local", record.local)
        if let upstream = record.upstream { line.address("upstream", upstream) }
        if let upstreamLocal = record.upstreamLocal { line.address("upstream_local", upstreamLocal) }
        line.integer("status", UInt64(record.status))
        line.text("reason", Self.label(Int(record.reason), of: registry.reasonLabels))
        if record.code != 0 { line.text("errno", ErrorCode.name(record.code)) }
        if record.guardRule >= 0 {
            line.text("guard_rule", Self.label(Int(record.guardRule), of: registry.guardRuleLabels))
        }
        line.integer("attempts", UInt64(record.attempts))
        line.integer("bytes_from_client", record.bytesFromClient)
        line.integer("bytes_from_upstream", record.bytesFromUpstream)
        if let time = record.preambleTime { line.seconds("preamble_seconds", nanoseconds: time) }
        if let time = record.resolveTime { line.seconds("resolve_seconds", nanoseconds: time) }
        if let time = record.connectTime { line.seconds("connect_seconds", nanoseconds: time) }
        line.seconds("session_seconds", nanoseconds: record.totalTime)
        if record.flags.contains(.proxyAccepted) { line.flag("proxy", true) }
        if record.flags.contains(.proxyTLS) { line.flag("proxy_tls", true) }
        if !proxyUniqueID.isEmpty { proxyUniqueID.withBytes { line.peerBytes("proxy_unique_id", $0) } }
        if record.flags.contains(.echSeen) { line.flag("ech", true) }
        if record.flags.contains(.halfClosed) { line.flag("half_closed", true) }
        if record.flags.contains(.staleAnswer) { line.flag("stale_dns", true) }
        if record.flags.contains(.drained) { line.flag("drained", true) }
        line.end()
    }

    private mutating func name(_ key: StaticString, _ base: Int32, to line: inout JSONLine) {
        guard base >= 0 else { return }
        if let known = names[base] {
            line.text(key, known)
        } else if let name = registry.subject(at: base)?.name {
            names[base] = name
            line.text(key, name)
        }
    }

    private static func label(of detected: SessionRecord.DetectedProtocol) -> String {
        switch detected {
        case .none: "none"
        case .tls: "tls"
        case .http: "http"
        }
    }

    /// A code without a label is written as its number: a fault of ours, but no reason to lose the line.
    private static func label(_ code: Int, of labels: [String]) -> String {
        code < labels.count ? labels[code] : String(code)
    }
}
