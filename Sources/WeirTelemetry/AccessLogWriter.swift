import WeirMemory
import WeirNet

/// Writes one JSON line per session record, on its own thread `weir-log`.
package final class AccessLogWriter: Sendable {
    package enum Target: Sendable, Equatable {
        case standardOutput
        /// Appended to; made with mode 0640 where it does not exist.
        case file(String)
        /// Records are drained and forgotten.
        case none
    }

    package struct Failure: Error, Sendable {
        /// What could not be done: `open /var/log/weir.json`.
        package let what: String
        /// An errno.
        package let code: Int32
    }

    /// Starts the thread. `rings`: one per worker, whose only consumer this writer is.
    package init(
        target: Target, rings: [SPSCRing<SessionRecord>], registry: MetricRegistry,
        notice: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(Failure) {
        fatalError("built next")
    }

    /// Opens the target again, after a rotation. Lines drained before go to the old file. Not for signal handlers.
    package func reopen() throws(Failure) {}
    /// The same with another target.
    package func redirect(to target: Target) throws(Failure) {}

    /// Writes what the rings hold, for a second at most, and ends the thread. Workers must have ended. A second call does nothing.
    package func stop() {}

    /// Lines that an error of the target swallowed.
    package var lostLineCount: UInt64 { 0 }
    /// Lines written whole.
    package var writtenLineCount: UInt64 { 0 }
}
