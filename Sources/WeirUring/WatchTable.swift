import Glibc
import WeirMemory

/// The watches in flight, by place.
///
/// A watch is a poll that goes on, because the kernel reports FIN in every poll, as EPOLLRDHUP, and a poll for once would
/// end with it. Only an error or the end of both directions is news; then the poll is cancelled, and the engine hears
/// when it is home.
package struct WatchTable {
    /// What to do about a completion of the poll.
    package enum Step: Equatable {
        /// Nothing: more will come.
        case wait
        /// Cancel the poll.
        case cancel
        /// Start the poll again, with the next operations.
        case pollAgain
        /// The watch is over, with this result.
        case report(Int32)
    }

    private struct Watch: BitwiseCopyable {
        var descriptor: Int32 = -1
        /// What the engine will hear; above zero until that is known.
        var result: Int32 = 1
    }

    private let watches: FlatArray<Watch>

    package init(count: Int) { watches = FlatArray(repeating: Watch(), count: count) }

    package func deallocate() { watches.deallocate() }

    package func start(_ place: Int, _ descriptor: Int32) {
        precondition(watches[place].descriptor < 0, "a watch started where one is in flight")
        watches[place] = Watch(descriptor: descriptor)
    }

    /// What the watch in flight at `place` watches.
    package func descriptor(_ place: Int) -> Int32 {
        precondition(watches[place].descriptor >= 0, "no watch is in flight")
        return watches[place].descriptor
    }

    /// The error that the watch in flight at `place`, which may be anything, has taken from its socket and not reported
    /// yet. The kernel tells an error once: a receive in between is told of an end.
    package func takenError(_ place: Int) -> Int32? {
        guard watches.indices.contains(place), watches[place].descriptor >= 0 else { return nil }
        let result = watches[place].result
        return result < 0 && result != -ECANCELED ? result : nil
    }

    /// The engine has lost interest. True where there is a poll to cancel.
    package func cancel(_ place: Int) -> Bool {
        guard watches[place].descriptor >= 0, watches[place].result > 0 else { return false }
        watches[place].result = -ECANCELED
        return true
    }

    /// `result`: the poll's events, or a negated errno. `pendingError` takes a descriptor's pending error (SO_ERROR).
    package func completed(_ place: Int, _ result: Int32, hasMore: Bool, pendingError: (Int32) -> Int32) -> Step {
        let descriptor = watches[place].descriptor
        precondition(descriptor >= 0, "a watch completed that was not in flight")
        var isNew = false
        if watches[place].result > 0, let news = Self.news(result, descriptor, pendingError) {
            watches[place].result = news
            isNew = true
        }
        if hasMore { return isNew ? .cancel : .wait }
        // The kernel ends the poll early when the completion queue has overflowed (U-06).
        if watches[place].result > 0 { return .pollAgain }
        let news = watches[place].result
        watches[place] = Watch()
        return .report(news)
    }

    private static func news(_ result: Int32, _ descriptor: Int32, _ pendingError: (Int32) -> Int32) -> Int32? {
        if result < 0 { return result }
        if result & Int32(POLLERR) != 0 {
            // Zero where another operation has taken the error, and reports it.
            let code = pendingError(descriptor)
            return code > 0 ? -code : -ECONNRESET
        }
        return result & Int32(POLLHUP) != 0 ? 0 : nil
    }
}
