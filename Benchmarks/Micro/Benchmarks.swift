/// What the runner asks for; the package's plugin writes the program around it. Every benchmark is run in a process of
/// its own that registers all of them, so nothing is made here.
///
/// Names have no space: thresholds are stored under a name with underscores instead, and then looked for in vain.
let benchmarks: @Sendable () -> Void = {
    registerParserBenchmarks()
    registerEncoderBenchmarks()
    registerRoutingBenchmarks()
    registerSessionBenchmarks()
    registerTimerBenchmarks()
    registerBalancerBenchmarks()
    registerSourceBenchmarks()
    registerSnapshotBenchmarks()
    registerReloadBenchmarks()
    registerMetricBenchmarks()
}
