import Synchronization
import WeirMemory

/// Writes one JSON line per session record, on its own thread `weir-log`.
///
/// Workers push records and never wake the thread: it looks at the rings every 50 ms, so that a record costs a worker
/// no system call and many lines share a write. A ring that fills in between is the worker's to count
/// (`WorkerCell.logDropped`).
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

    private struct State {
        var target: Target
        /// nil once stopped.
        var thread: SystemThread?
    }

    private let exchange: LogExchange
    private let state: Mutex<State>

    /// Starts the thread. `rings`: one per worker, whose only consumer this writer is. `notice` hears when lines begin
    /// to be lost, `ended` of every record, on the log's thread.
    package init(
        target: Target, rings: [SPSCRing<LogEntry>], registry: MetricRegistry,
        notice: @escaping @Sendable (String) -> Void = { _ in },
        ended: @escaping @Sendable (borrowing SessionRecord) -> Void = { _ in }
    ) throws(Failure) {
        let order = try Self.open(target)
        let exchange: LogExchange
        do { exchange = try LogExchange() } catch {
            order.abandon()
            throw Failure(what: "make the log's wake pipe", code: error.code)
        }
        exchange.request(order)
        do {
            let thread = try SystemThread(name: "weir-log") {
                var loop = LogLoop(
                    rings: rings, registry: registry, exchange: exchange, notice: notice, ended: ended)
                loop.run()
            }
            self.exchange = exchange
            state = Mutex(State(target: target, thread: thread))
        } catch {
            order.abandon()
            throw Failure(what: "start the log thread", code: error.code)
        }
    }

    deinit { stop() }

    /// Opens the target again, after a rotation. Records that are pushed after the return go to the new file. Not for
    /// signal handlers.
    package func reopen() throws(Failure) {
        try redirect(to: state.withLock { $0.target })
    }

    /// The same with another target. On a failure the log goes on where it was.
    package func redirect(to target: Target) throws(Failure) {
        let order = try Self.open(target)
        state.withLock { $0.target = target }
        exchange.request(order)
    }

    /// Writes what the rings hold, for a second at most where nobody reads, and ends the thread. Workers must have
    /// ended. A second call does nothing.
    package func stop() {
        let thread = state.withLock { state in
            defer { state.thread = nil }
            return state.thread
        }
        guard let thread else { return }
        exchange.requestStop()
        thread.join()
    }

    /// Lines that could not be written.
    package var lostLineCount: UInt64 { exchange.lostLineCount.load(ordering: .relaxed) }
    /// Lines written whole.
    package var writtenLineCount: UInt64 { exchange.writtenLineCount.load(ordering: .relaxed) }

    /// Server names that sessions asked for which ended in the last `nanoseconds`, the latest first, with the wall clock of
    /// now; and whether these are all.
    package func seenNames(within nanoseconds: UInt64) -> (names: [SeenName], isComplete: Bool, now: UInt64) {
        exchange.names(within: nanoseconds)
    }

    private static func open(_ target: Target) throws(Failure) -> LogOrder {
        switch target {
        case .standardOutput: return .standardOutput
        case .none: return .none
        case .file(let path):
            do throws(SystemFile.Failure) {
                return .descriptor(try SystemFile.openForAppending(path))
            } catch {
                throw Failure(what: "open \(path)", code: error.code)
            }
        }
    }
}
