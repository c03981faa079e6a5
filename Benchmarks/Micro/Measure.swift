import Benchmark
import CAllocationCounter
import Glibc

extension BenchmarkMetric {
    /// Of the measured thread: unlike wall-clock time it does not grow when other programs want the core. The package's
    /// own `cpuUser` counts ticks of 10 ms.
    static var cpuTime: BenchmarkMetric { .custom("CPU time (ns)") }

    /// Heap allocations of the first round after warm-up that has any, not divided by operations: one is one too many.
    /// The rounds after it report them again, since `thresholds check` looks at the 90th percentile of all rounds.
    static var allocations: BenchmarkMetric { .custom("Allocations", useScalingFactor: false) }
}

/// The speed of a host that others use, too, drifts by half within a minute, so only what takes more than two and a
/// half times as long fails the check. Allocations do not drift.
private var thresholds: [BenchmarkMetric: BenchmarkThresholds] {
    [
        .cpuTime: BenchmarkThresholds(relative: [.p90: 150]),
        .allocations: BenchmarkThresholds(absolute: [.p90: 0]),
    ]
}

private final class Box<State: ~Copyable> {
    var state: State

    init(_ state: consuming State) { self.state = state }
}

/// Registers a benchmark of an operation on a state.
///
/// - Parameters:
///   - name: Without spaces.
///   - scale: Operations per round; so many that the clock, which is read around them, does not count.
///   - state: Made once, before the first round.
///   - allocates: Whether it may; its heap allocations are not counted then.
///   - prepare: Runs before each round and is not measured.
///   - run: Does the operation `count` times.
func measure<State: ~Copyable>(
    _ name: String, scale: BenchmarkScalingFactor = .kilo, allocates: Bool = false,
    of state: @escaping @autoclosure () -> State,
    prepare: @escaping (inout State) -> Void = { _ in }, run: @escaping (inout State, _ count: Int) -> Void
) {
    let configuration = Benchmark.Configuration(
        metrics: allocates ? [.cpuTime] : [.cpuTime, .allocations], units: [.cpuTime: .count, .allocations: .count],
        warmupIterations: 10,
        scalingFactor: scale, maxDuration: .seconds(1), thresholds: thresholds)
    var box: Box<State>?
    var allocationCount = 0
    let round: (Benchmark) -> Void = { benchmark in
        if box == nil { checkCounter() }
        let present = box ?? Box(state())
        box = present
        prepare(&present.state)
        let isMeasured = benchmark.currentIteration >= configuration.warmupIterations
        let counts = isMeasured && allocationCount == 0 && !allocates
        // All threads: every name begins with it.
        if counts { unsafe allocation_counter_start("") }
        let start = threadTime()
        run(&present.state, scale.rawValue)
        let end = threadTime()
        if counts { allocationCount = Int(allocation_counter_stop()) }
        guard isMeasured else { return }
        benchmark.measurement(.cpuTime, end - start)
        if !allocates { benchmark.measurement(.allocations, allocationCount) }
    }
    Benchmark(
        name, configuration: configuration, closure: round,
        teardown: {
            guard allocationCount > 0 else { return }
            print("\(name) allocates here; addr2line -e Benchmarks/.build/micro/release/Micro -f ADDRESS names it:")
            allocation_counter_print(STDOUT_FILENO)
        })
}

/// Nanoseconds for which this thread has run.
private func threadTime() -> Int {
    var time = timespec()
    unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// A count of zero says something only where Swift's own allocations are seen.
private func checkCounter() {
    unsafe allocation_counter_start("")
    blackHole([UInt8](repeating: 0, count: identity(100)))
    precondition(allocation_counter_stop() > 0, "an allocation was not counted")
}
