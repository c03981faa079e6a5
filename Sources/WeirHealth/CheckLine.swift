import Synchronization
import WeirNet
import WeirUpstream

/// What is known of one target.
package struct CheckRecord: Sendable {
    package let place: CheckTarget.Place
    package let cluster: String
    package let endpoint: String
    package let facts: CheckFacts
}

/// The part of a record that checks change.
package struct CheckFacts: Sendable, BitwiseCopyable {
    package var verdict = HealthVerdict.healthy
    /// nil: no check has ended.
    package var lastResult: HealthCheckResult?
    /// Of the last check that did not succeed.
    package var lastFailure: CheckFailure?
    /// From the connect to the answer, of the last check that succeeded, in nanoseconds.
    package var lastLatency: UInt64?
    package var checkCount: UInt64 = 0
    /// Without the inconclusive ones.
    package var failureCount: UInt64 = 0
    /// When `verdict` last became another one; nil: it never has.
    package var changedAt: Instant?

    package init() {}
}

/// What others tell a checker, and what they may look at. Any thread uses it; the checker takes its lock once in a turn and
/// once in a check.
package final class CheckLine: Sendable {
    private struct State {
        /// Handed in and not taken over yet.
        var targets: [CheckTarget]?
        var postedCount = 0
        var adoptedCount = 0
        var isStopping = false
        var hasLeft = false
        /// Of the list that was taken over last, in its order.
        var adopted: [CheckTarget] = []
        var facts: [CheckFacts] = []
    }

    private let state = Mutex(State())

    package init() {}

    // MARK: For others

    /// Hands in another list, in place of the one before. The caller wakes the checker. Returns what to ask `hasAdopted` by.
    package func post(_ targets: [CheckTarget]) -> Int {
        state.withLock { state in
            state.targets = targets
            state.postedCount += 1
            return state.postedCount
        }
    }

    /// Whether that list, or a later one, has been taken over: from then on only its places are reported.
    package func hasAdopted(_ number: Int) -> Bool {
        state.withLock { $0.adoptedCount >= number || $0.hasLeft }
    }

    /// Lets the checker end once its sockets are closed. The caller wakes it.
    package func stop() { state.withLock { $0.isStopping = true } }

    /// All targets of the list that was taken over last.
    package var records: [CheckRecord] {
        state.withLock { state in
            zip(state.adopted, state.facts).map { target, facts in
                CheckRecord(place: target.place, cluster: target.cluster, endpoint: target.endpoint, facts: facts)
            }
        }
    }

    // MARK: For the checker

    /// A list that is to be taken over, with its number.
    func takeTargets() -> (list: [CheckTarget], number: Int)? {
        state.withLock { state in
            guard let targets = state.targets else { return nil }
            state.targets = nil
            return (targets, state.postedCount)
        }
    }

    var isStopping: Bool { state.withLock { $0.isStopping } }

    func adopted(_ targets: [CheckTarget], _ facts: [CheckFacts], number: Int) {
        state.withLock { state in
            state.adopted = targets
            state.facts = facts
            state.adoptedCount = number
        }
    }

    func changed(_ position: Int, _ facts: CheckFacts) { state.withLock { $0.facts[position] = facts } }

    func left() { state.withLock { $0.hasLeft = true } }
}
