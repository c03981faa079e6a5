import Benchmark
import WeirNet
import WeirTelemetry

func registerMetricBenchmarks() {
    measure("metric-add", scale: .mega, of: MetricCells()) { cells, count in
        for _ in 0..<count { cells.add(WorkerCell.turns, 1) }
        blackHole(cells.value(WorkerCell.turns))
    }
    measure("log-line", of: LogFormat()) { format, count in
        for index in 0..<count { format.write(afterMicroseconds: UInt64(index)) }
        blackHole(format.line.count)
    }
    // 0.1 to 10 ms, as connects take.
    measure(
        "metric-observe-latency", scale: .mega,
        of: (MetricCells(), (0..<1000).map { UInt64(100_000 + 10_000 * $0) })
    ) { state, count in
        let (cells, values) = state
        for _ in 0..<count / values.count {
            for value in values { cells.observe(.latency, at: 64, value) }
        }
        blackHole(cells.value(64))
    }
}

/// What the access log's thread does with a record, but for the write.
private struct LogFormat: ~Copyable {
    private var format: AccessLogLine
    private var entry: LogEntry
    var line = JSONLine(capacity: 65_536)

    init() {
        let registry = MetricRegistry(
            workers: [MetricCells(count: 4096)], reasonLabels: ["finished"], guardRuleLabels: [])
        format = AccessLogLine(registry: registry)
        let client = SocketAddress(IPAddress(203, 0, 113, 7), port: 50123)
        var record = SessionRecord(
            id: 1, client: client, peer: client, local: SocketAddress(IPAddress(192, 0, 2, 1), port: 443))
        record.detected = .tls
        record.listener = registry.listener("egress")
        record.route = registry.route(listener: "egress", name: "partner")
        record.cluster = registry.cluster("partner")
        record.endpoint = registry.endpoint(cluster: "partner", description: "198.51.100.10:443")
        record.upstream = SocketAddress(IPAddress(198, 51, 100, 10), port: 443)
        record.serverName = (try? ServerName("api.partner.example")) ?? .none
        record.status = 200
        record.attempts = 1
        record.acceptedAt = 1_763_766_000_000_000_000
        record.preambleTime = 1_500_000
        record.connectTime = 12_345_678
        record.totalTime = 45_678_901
        record.bytesFromClient = 2_517
        record.bytesFromUpstream = 31_415
        entry = LogEntry(record)
    }

    mutating func write(afterMicroseconds microseconds: UInt64) {
        if line.bytes.count > 32_768 { line.removeAll() }
        entry.record.acceptedAt += microseconds * 1000
        format.write(entry, to: &line)
    }
}
