/// How often something may happen: a bucket that holds `burst` and gains one every `interval`.
///
/// Kept as GCRA does (generic cell rate algorithm, ITU-T I.371): what is stored is not a level but the moment at which
/// the bucket will be full again, so one word is the whole state and nothing has to fill it.
///
/// In any stretch of time `t`, at most `burst + t / interval` are admitted.
package struct RateBound: BitwiseCopyable, Sendable, Equatable {
    /// Nanoseconds; 0: there is no bound.
    package let interval: UInt64
    /// How far ahead the moment of fullness may lie for one more to be admitted: `interval * (burst - 1)`.
    package let tolerance: UInt64

    /// No bound.
    package static let none = RateBound(interval: 0, tolerance: 0)

    private init(interval: UInt64, tolerance: UInt64) {
        self.interval = interval
        self.tolerance = tolerance
    }

    /// `interval` and `burst` above 0. The product must stay below 100 years.
    package init(interval: UInt64, burst: Int) {
        precondition(interval > 0 && burst > 0)
        let (tolerance, isOver) = interval.multipliedReportingOverflow(by: UInt64(burst - 1))
        precondition(!isOver && tolerance < 3_155_760_000 * 1_000_000_000)
        self.init(interval: interval, tolerance: tolerance)
    }

    package var isNone: Bool { interval == 0 }

    package enum Verdict: BitwiseCopyable, Sendable, Equatable {
        /// One more; the bucket is full again at this moment.
        case admitted(UInt64)
        case refused
        /// Refused, and the stored moment is of another bound, before a reload: this is the latest that it can be.
        case refusedAndCut(UInt64)
    }

    /// Whether one more is admitted at `now`, where the bucket is full at `fullAt`. Nanoseconds of one clock.
    package func verdict(fullAt: UInt64, now: UInt64) -> Verdict {
        let start = max(fullAt, now)
        if start - now <= tolerance { return .admitted(start + interval) }
        let latest = now + tolerance + interval
        // Another worker's clock may be a turn ahead of ours.
        return fullAt > latest + Self.clockSkewMax ? .refusedAndCut(latest) : .refused
    }

    private static let clockSkewMax: UInt64 = 1_000_000_000
}
