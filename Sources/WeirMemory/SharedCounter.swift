import Synchronization

/// A count that all threads change, alone on its cache line.
@safe
package final class SharedCounter: Sendable {
    // The object's header and these share no line with a neighbour's count: 64 bytes lie on either side.
    private let before = InlineArray<8, Int>(repeating: 0)
    private let count = Atomic<Int>(0)
    private let after = InlineArray<8, Int>(repeating: 0)

    package init() {}

    package var value: Int { count.load(ordering: .relaxed) }

    /// Adds one where the count is below `limit`; false, and unchanged, where it is not. Exact: `value <= limit`
    /// whatever the number of threads, as long as all name the same limit.
    package func tryIncrement(limit: Int) -> Bool {
        var seen = count.load(ordering: .relaxed)
        while seen < limit {
            let (exchanged, original) = count.weakCompareExchange(
                expected: seen, desired: seen + 1, ordering: .relaxed)
            if exchanged { return true }
            seen = original
        }
        return false
    }

    /// Takes one back that `tryIncrement` granted. Traps below zero.
    package func decrement() {
        let left = count.subtract(1, ordering: .relaxed).newValue
        precondition(left >= 0, "more left than entered")
    }
}
