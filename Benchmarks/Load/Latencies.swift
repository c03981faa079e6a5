import Histogram

/// Latencies in nanoseconds, with three significant digits from a microsecond to a minute.
struct Latencies {
    private var histogram = Histogram<UInt64>(
        lowestDiscernibleValue: 1000, highestTrackableValue: 60_000_000_000, numberOfSignificantValueDigits: .three)

    mutating func record(_ nanoseconds: UInt64) { histogram.record(min(nanoseconds, 60_000_000_000)) }

    mutating func reset() { histogram.reset() }

    struct Summary: Encodable {
        let p50: Double
        let p90: Double
        let p99: Double
        let p999: Double
        let max: Double
        let mean: Double
    }

    /// In microseconds; nil where nothing was recorded.
    var summary: Summary? {
        guard histogram.totalCount > 0 else { return nil }
        func at(_ percentile: Double) -> Double { Double(histogram.valueAtPercentile(percentile)) / 1000 }
        return Summary(
            p50: at(50), p90: at(90), p99: at(99), p999: at(99.9), max: Double(histogram.max) / 1000,
            mean: histogram.mean / 1000)
    }
}
