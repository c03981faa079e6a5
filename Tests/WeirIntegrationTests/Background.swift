import Synchronization
import WeirMemory

/// A thread of a test and what it threw.
final class Background: Sendable {
    private final class Outcome: Sendable {
        let failure = Mutex<(any Error)?>(nil)
    }

    private let outcome = Outcome()
    private let thread: Mutex<SystemThread?>

    init(_ name: String, _ body: @escaping @Sendable () throws -> Void) throws {
        let outcome = outcome
        thread = Mutex(
            try SystemThread(name: name) {
                do { try body() } catch { outcome.failure.withLock { $0 = error } }
            })
    }

    /// Waits for the end of the thread.
    func join() {
        let thread = thread.withLock { thread in
            defer { thread = nil }
            return thread
        }
        thread?.join()
    }

    /// What it threw, once it has ended.
    var failure: (any Error)? {
        join()
        return outcome.failure.withLock { $0 }
    }

    deinit { join() }
}
