import Glibc
import WeirMemory

/// Persistent connections that exchange messages with the origin, once all of them stand: one at a time each, as fast as
/// answers come, or at a fixed rate over all of them. A rate of nothing holds the connections and lets them be (an idle
/// herd).
final class MessageLoad: Load {
    private let connectionCount: Int
    private let byteCount: Int
    private let rate: Double?
    private let openRate: Double
    private let ramp: Double
    private var opening: Schedule?
    private var schedule: Schedule?
    private var ends: [Int] = []
    /// Scheduled messages that wait for the answer before them, by connection: when each was due.
    private var waiting: [[UInt64]] = []
    private var beganCount = 0
    private var hasBegun = false
    private var nextConnection = 0
    private(set) var tally = Tally()

    /// `byteCount`: of a message and of its answer. `openRate`: connections per second, until all stand.
    init(connectionCount: Int, byteCount: Int, rate: Double?, openRate: Double, ramp: Double) {
        self.connectionCount = connectionCount
        self.byteCount = byteCount
        self.rate = rate
        self.openRate = openRate
        self.ramp = ramp
        ends.reserveCapacity(connectionCount)
        waiting = Array(repeating: [], count: rate == nil ? 0 : connectionCount)
    }

    /// All connections stand, as far as they ever will.
    var isOpen: Bool { tally.openCount + tally.errorCount >= connectionCount }

    func start(_ ring: LoadRing, now: UInt64) {
        opening = Schedule(rate: openRate, start: now, ramp: 0)
        ends = Array(repeating: -1, count: connectionCount)
    }

    func advance(_ ring: LoadRing, now: UInt64) -> UInt64? {
        while beganCount < connectionCount, opening!.nextAt <= now {
            let end = ring.connect()
            ring.ends[end].number = Int32(beganCount)
            ring.ends[end].startedAt = now
            ends[beganCount] = end
            beganCount += 1
            opening!.begin()
        }
        if beganCount < connectionCount { return opening!.nextAt }
        guard isOpen else { return nil }
        guard let rate else {
            if !hasBegun { for end in ends where end >= 0 { send(end, ring, now) } }
            hasBegun = true
            return nil
        }
        if schedule == nil {
            guard rate > 0 else { return nil }
            schedule = Schedule(rate: rate, start: now, ramp: ramp)
        }
        while schedule!.nextAt <= now {
            ask(ring, dueAt: schedule!.nextAt)
            schedule!.begin()
        }
        return schedule!.nextAt
    }

    /// The next connection in turn, or the message waits there.
    private func ask(_ ring: LoadRing, dueAt: UInt64) {
        let number = nextConnection
        nextConnection = (nextConnection + 1) % connectionCount
        let end = ends[number]
        guard end >= 0 else { return }
        if ring.ends[end].expectedByteCount > 0 {
            waiting[number].append(dueAt)
        } else {
            send(end, ring, dueAt)
        }
    }

    private func send(_ end: Int, _ ring: LoadRing, _ startedAt: UInt64) {
        ring.ends[end].startedAt = startedAt
        ring.ends[end].expectedByteCount = byteCount
        ring.send(end, .zeroes(byteCount))
    }

    func handle(_ event: Event, _ ring: LoadRing, now: UInt64) {
        let end = event.end
        switch event.kind {
        case .connected:
            guard event.result >= 0 else {
                fail(end, ring)
                return
            }
            ring.ends[end].expectedByteCount = Shape.replyByteCount
            ring.send(end, .hello)
            ring.receive(end, goesOn: true)
        case .received:
            guard event.result > 0 else {
                if event.result == -ENOBUFS {
                    if !event.goesOn { ring.receive(end, goesOn: true) }
                } else if !event.goesOn {
                    fail(end, ring)
                }
                return
            }
            ring.ends[end].expectedByteCount -= Int(event.result)
            tally.byteCount += UInt64(event.result)
            if ring.ends[end].expectedByteCount == 0 { answered(end, ring, now) }
            if !event.goesOn { ring.receive(end, goesOn: true) }
        case .accepted, .sent, .failedQuietly:
            break
        }
    }

    private func answered(_ end: Int, _ ring: LoadRing, _ now: UInt64) {
        if ring.ends[end].isOpen {
            tally.operationCount += 1
            tally.latencies.record(now - ring.ends[end].startedAt)
        } else {
            ring.ends[end].isOpen = true
            tally.openCount += 1
        }
        if rate == nil {
            // Before all stand, those that do would slow the others down.
            if hasBegun { send(end, ring, now) }
        } else {
            let number = Int(ring.ends[end].number)
            if !waiting[number].isEmpty { send(end, ring, waiting[number].removeFirst()) }
        }
    }

    private func fail(_ end: Int, _ ring: LoadRing) {
        if ring.ends[end].isOpen { tally.openCount -= 1 }
        tally.errorCount += 1
        ends[Int(ring.ends[end].number)] = -1
        ring.close(end)
    }

    func beginWindow() { tally.reset() }
}
