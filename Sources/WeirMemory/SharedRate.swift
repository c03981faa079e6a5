import Synchronization

/// A rate that all threads share, alone on its cache line. Exact: each admission is one compare-and-exchange.
@safe
package final class SharedRate: Sendable {
    // As in `SharedCounter`.
    private let before = InlineArray<8, Int>(repeating: 0)
    private let fullAt = Atomic<UInt64>(0)
    private let after = InlineArray<8, Int>(repeating: 0)

    package init() {}

    /// Admits one more at `now`, in nanoseconds; false where `bound` does not.
    package func take(_ bound: RateBound, now: UInt64) -> Bool {
        if bound.isNone { return true }
        var seen = fullAt.load(ordering: .relaxed)
        while true {
            let next: UInt64
            let isAdmitted: Bool
            switch bound.verdict(fullAt: seen, now: now) {
            case .admitted(let moment): (next, isAdmitted) = (moment, true)
            case .refusedAndCut(let moment): (next, isAdmitted) = (moment, false)
            case .refused: return false
            }
            let (exchanged, original) = fullAt.weakCompareExchange(expected: seen, desired: next, ordering: .relaxed)
            if exchanged { return isAdmitted }
            seen = original
        }
    }
}
