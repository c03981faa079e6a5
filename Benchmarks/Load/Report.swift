import Foundation

/// What one run found: a line of JSON.
struct Report: Encodable {
    struct Cost: Encodable {
        let pid: Int32
        let cpuSeconds: Double
        let userSeconds: Double
        let systemSeconds: Double
        /// Before the first connection, and at the end of the window.
        let residentBytesBefore: Int
        let residentBytesAfter: Int
    }

    let load: String
    let concurrency: Int
    let rate: Double?
    /// The window, warm-up left out.
    let seconds: Double
    let operations: UInt64
    /// Those of the warm-up, too.
    let operationsInAll: UInt64
    let operationsPerSecond: Double
    let bytesDown: UInt64
    let bytesUp: UInt64
    let gigabitsPerSecond: Double
    let open: Int
    let errors: Int
    let latencyMicroseconds: Latencies.Summary?
    let watched: [Cost]
    /// Of one core; near 1 the generator is the limit.
    let generatorCPUShare: Double

    var line: String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = .sortedKeys
        guard let data = try? encoder.encode(self) else { fatalError("a report of finite numbers can be encoded") }
        return String(decoding: data, as: UTF8.self)
    }
}
