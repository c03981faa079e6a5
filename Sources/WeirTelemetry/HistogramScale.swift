/// The bounds of a histogram, whose cells stand one behind the other:
///
///     base + 0 ... base + 13   values at or below that bound and above the one before it
///     base + 14                values above the last bound
///     base + 15                the sum of all values
///
/// There is no cell for the count: it is the sum of the buckets, so the two can never disagree.
package struct HistogramScale: Sendable, BitwiseCopyable {
    package static let boundCount = 14
    /// Cells of one histogram.
    package static let cellCount: Int32 = 16
    static let sumOffset: Int32 = 15

    /// Ascending; nanoseconds or bytes.
    package let bounds: InlineArray<14, UInt64>
    /// What a value is divided by to be in the base unit of its metric.
    let divisor: Double

    /// Connects and preambles: 0.5 ms to 10 s. Values are nanoseconds.
    package static let latency = HistogramScale(
        bounds: [
            500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000, 250_000_000,
            500_000_000, 1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000,
        ], divisor: 1e9)

    /// Whole sessions: 10 ms to 4 h. Values are nanoseconds.
    package static let session = HistogramScale(
        bounds: [
            10_000_000, 50_000_000, 100_000_000, 500_000_000, 1_000_000_000, 5_000_000_000, 10_000_000_000,
            30_000_000_000, 60_000_000_000, 300_000_000_000, 600_000_000_000, 1_800_000_000_000, 3_600_000_000_000,
            14_400_000_000_000,
        ], divisor: 1e9)

    /// Hellos: 128 bytes to 64 KiB. Values are bytes.
    package static let hello = HistogramScale(
        bounds: [128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384, 32768, 65536], divisor: 1)

    /// The offset of the bucket that counts `value`.
    package func bucket(of value: UInt64) -> Int32 {
        var index = 0
        while index < Self.boundCount, value > bounds[index] { index += 1 }
        return Int32(index)
    }
}
