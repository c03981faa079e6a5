import Synchronization
import WeirMemory

/// The life of the log's thread: drain the rings, write, sleep a tick.
struct LogLoop: ~Copyable {
    private static let tickMilliseconds: Int32 = 50
    /// Lines gathered before a write.
    private static let batchByteCount = 32768
    /// A target that stays broken is told of once a minute.
    private static let noticeInterval: UInt64 = 60_000_000_000

    private let rings: [SPSCRing<LogEntry>]
    private let exchange: LogExchange
    private let notice: @Sendable (String) -> Void
    private let ended: @Sendable (borrowing SessionRecord) -> Void
    private var output = LogOrder.none.output()
    private var format: AccessLogLine
    private var line = JSONLine(capacity: LogLoop.batchByteCount + 4096)
    private var noticeAllowedAt: UInt64 = 0

    init(
        rings: [SPSCRing<LogEntry>], registry: MetricRegistry, exchange: LogExchange,
        notice: @escaping @Sendable (String) -> Void, ended: @escaping @Sendable (borrowing SessionRecord) -> Void
    ) {
        self.rings = rings
        self.exchange = exchange
        self.notice = notice
        self.ended = ended
        format = AccessLogLine(registry: registry)
    }

    mutating func run() {
        while true {
            // Asked before draining, so that what was pushed before the stop is written.
            let mustStop = exchange.mustStop
            if exchange.mustRedirect { redirect() }
            let isBusy = drain()
            if mustStop { return }
            // A ring that was a quarter full may not have room for another tick's worth.
            if !isBusy { exchange.wait(milliseconds: Self.tickMilliseconds) }
        }
    }

    /// Writes every record there is. True where one ring held much.
    private mutating func drain() -> Bool {
        var isBusy = false
        for ring in rings {
            var count = 0
            // At most one ring full, so that a busy worker does not keep the others' records waiting.
            while count < ring.capacity {
                let isTaken = ring.pop { entry in
                    // Asked once there is a record: one that was pushed after `redirect(to:)` had returned goes to the new
                    // target.
                    if exchange.mustRedirect { redirect() }
                    if !output.isNone { format.write(entry, to: &line) }
                    exchange.note(entry.record)
                    ended(entry.record)
                }
                guard isTaken else { break }
                count += 1
                if line.bytes.count >= Self.batchByteCount { flush() }
            }
            isBusy = isBusy || count >= ring.capacity / 4
        }
        flush()
        return isBusy
    }

    private mutating func redirect() {
        flush()
        if let order = exchange.takeOrder() { output = order.output() }
    }

    private mutating func flush() {
        guard !line.bytes.isEmpty else { return }
        let exchange = exchange
        let (written, lost) = output.write(line.bytes, lineCount: line.count, while: { exchange.mayStall })
        line.removeAll()
        exchange.writtenLineCount.wrappingAdd(written, ordering: .relaxed)
        guard lost > 0 else { return }
        exchange.lostLineCount.wrappingAdd(lost, ordering: .relaxed)
        let now = LogExchange.now()
        guard now >= noticeAllowedAt else { return }
        noticeAllowedAt = now + Self.noticeInterval
        notice("access log: lines are being lost: \(ErrorCode.name(output.failure))")
    }
}
