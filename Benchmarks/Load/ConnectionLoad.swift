import Glibc
import WeirMemory

/// Short connections: connect, hello, answer, end. The origin ends first, so that its side keeps the TIME-WAIT.
final class ConnectionLoad: Load {
    private let concurrency: Int
    private let rate: Double?
    private let ramp: Double
    private var schedule: Schedule?
    private var startedAt: UInt64 = 0
    private var inFlightCount = 0
    private(set) var tally = Tally()

    /// `rate` nil: `concurrency` connections at any time. Otherwise so many per second, at most `concurrency` at once.
    init(concurrency: Int, rate: Double?, ramp: Double) {
        self.concurrency = concurrency
        self.rate = rate
        self.ramp = ramp
    }

    func start(_ ring: LoadRing, now: UInt64) {
        startedAt = now
        if let rate { schedule = Schedule(rate: rate, start: now, ramp: ramp) }
    }

    func advance(_ ring: LoadRing, now: UInt64) -> UInt64? {
        guard schedule != nil else {
            let wanted = allowed(now)
            while inFlightCount < wanted { begin(ring, now) }
            return wanted < concurrency ? now + 1_000_000 : nil
        }
        while inFlightCount < concurrency, schedule!.nextAt <= now {
            begin(ring, schedule!.nextAt)
            schedule!.begin()
        }
        return inFlightCount < concurrency ? schedule!.nextAt : nil
    }

    private func allowed(_ now: UInt64) -> Int {
        let share = ramp > 0 ? Double(now - startedAt) / (ramp * 1_000_000_000) : 1
        return share >= 1 ? concurrency : Int((Double(concurrency) * share).rounded(.up))
    }

    private func begin(_ ring: LoadRing, _ startedAt: UInt64) {
        let end = ring.connect()
        ring.ends[end].startedAt = startedAt
        inFlightCount += 1
    }

    func handle(_ event: Event, _ ring: LoadRing, now: UInt64) {
        switch event.kind {
        case .connected:
            guard event.result >= 0 else {
                finish(event.end, ring, isWhole: false, now)
                return
            }
            ring.ends[event.end].expectedByteCount = Shape.replyByteCount
            ring.send(event.end, .hello)
            ring.receive(event.end, goesOn: true)
        case .received:
            if event.result > 0 {
                ring.ends[event.end].expectedByteCount -= Int(event.result)
                tally.byteCount += UInt64(event.result)
            }
            if event.goesOn { return }
            let isOver = event.result == 0 || event.result < 0 && event.result != -ENOBUFS
            if isOver {
                finish(event.end, ring, isWhole: event.result == 0 && ring.ends[event.end].expectedByteCount == 0, now)
            } else {
                ring.receive(event.end, goesOn: true)
            }
        case .accepted, .sent, .failedQuietly:
            break
        }
    }

    private func finish(_ end: Int, _ ring: LoadRing, isWhole: Bool, _ now: UInt64) {
        if isWhole {
            tally.operationCount += 1
            tally.latencies.record(now - ring.ends[end].startedAt)
        } else {
            tally.errorCount += 1
        }
        ring.close(end)
        inFlightCount -= 1
    }

    func beginWindow() { tally.reset() }
}
