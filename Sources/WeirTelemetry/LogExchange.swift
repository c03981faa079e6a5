import Glibc
import Synchronization

/// Where the log is to be written from now on.
enum LogOrder: Sendable {
    case standardOutput
    case none
    /// Passes to whoever takes the order.
    case descriptor(Int32)

    func output() -> LogOutput {
        switch self {
        case .standardOutput: LogOutput(descriptor: STDOUT_FILENO, isOwned: false)
        case .none: LogOutput(descriptor: -1, isOwned: false)
        case .descriptor(let descriptor): LogOutput(descriptor: descriptor, isOwned: true)
        }
    }

    /// Ends an order that nobody will carry out.
    func abandon() {
        if case .descriptor(let descriptor) = self { close(descriptor) }
    }
}

/// What the writer's callers and its thread tell each other.
final class LogExchange: Sendable {
    /// How long a stop waits for a reader that has stalled.
    private static let patience: UInt64 = 1_000_000_000

    let lostLineCount = Atomic<UInt64>(0)
    let writtenLineCount = Atomic<UInt64>(0)
    /// Monotonic nanoseconds at which lines that are left count as lost; 0: no stop was asked for.
    private let stopDeadline = Atomic<UInt64>(0)
    private let hasOrder = Atomic<Bool>(false)
    private let order = Mutex<LogOrder?>(nil)
    private let names = Mutex(SeenNames())
    private let wakeup: WakePipe

    init() throws(SystemFile.Failure) { wakeup = try WakePipe() }

    deinit { takeOrder()?.abandon() }

    // Any thread.

    /// What was asked for in the last `nanoseconds`, by sessions that have ended, with the wall clock of now; and whether
    /// that is all.
    func names(within nanoseconds: UInt64) -> (names: [SeenName], isComplete: Bool, now: UInt64) {
        let now = Self.now(CLOCK_REALTIME)
        let (names, isComplete) = names.withLock { $0.since(now &- min(nanoseconds, now)) }
        return (names, isComplete, now)
    }

    func request(_ next: LogOrder) {
        let replaced = order.withLock { order in
            defer { order = next }
            return order
        }
        replaced?.abandon()
        hasOrder.store(true, ordering: .releasing)
        wakeup.signal()
    }

    func requestStop() {
        stopDeadline.store(Self.now() + Self.patience, ordering: .releasing)
        wakeup.signal()
    }

    // The log's thread.

    /// Whoever asks for the names holds it up, and no worker.
    func note(_ record: borrowing SessionRecord) {
        let record = copy record
        names.withLock { $0.note(record) }
    }

    func takeOrder() -> LogOrder? {
        // Down before the look: an order that comes in between raises the flag again and is found now or next time.
        hasOrder.store(false, ordering: .relaxed)
        return order.withLock { order in
            defer { order = nil }
            return order
        }
    }

    /// Returns after `milliseconds`, or at once after a request.
    func wait(milliseconds: Int32) { wakeup.wait(milliseconds: milliseconds) }

    var mustRedirect: Bool { hasOrder.load(ordering: .acquiring) }
    var mustStop: Bool { stopDeadline.load(ordering: .acquiring) != 0 }

    /// Whether a stalled reader is still worth waiting for.
    var mayStall: Bool {
        if mustRedirect { return false }
        let deadline = stopDeadline.load(ordering: .acquiring)
        return deadline == 0 || Self.now() < deadline
    }

    static func now(_ clock: clockid_t = CLOCK_MONOTONIC) -> UInt64 {
        var time = timespec()
        unsafe clock_gettime(clock, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
