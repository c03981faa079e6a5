/// When things are to begin: as fast as others end (no rate), or at a fixed rate, whatever the subject does. Latency is
/// then counted from the moment that was due, so that a subject that stalls is not asked less (coordinated omission).
struct Schedule {
    private let interval: Double
    private let start: UInt64
    private let ramp: Double
    private var begunCount: Double = 0

    /// `rate` per second from `start` on; over the first `ramp` seconds it grows from nothing.
    init(rate: Double, start: UInt64, ramp: Double) {
        interval = 1_000_000_000 / rate
        self.start = start
        self.ramp = ramp * 1_000_000_000
    }

    /// When the next is due. A rate that grows in proportion to the time has brought `t² / (2 · ramp)` by then.
    var nextAt: UInt64 {
        let plain = begunCount * interval
        let offset = plain < ramp / 2 ? (2 * ramp * plain).squareRoot() : plain + ramp / 2
        return start + UInt64(offset)
    }

    mutating func begin() { begunCount += 1 }
}
