import Benchmark
import WeirTelemetry

func registerMetricBenchmarks() {
    measure("metric-add", scale: .mega, of: MetricCells()) { cells, count in
        for _ in 0..<count { cells.add(WorkerCell.turns, 1) }
        blackHole(cells.value(WorkerCell.turns))
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
