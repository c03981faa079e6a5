import WeirMemory

/// Streams without an end, down, up or both ways.
final class BulkLoad: Load {
    private let streamCount: Int
    private let up: Bool
    private let ramp: Double
    private var opening: Schedule?
    private var beganCount = 0
    private(set) var tally = Tally()

    /// Over `ramp` seconds one stream after the other begins.
    init(streamCount: Int, up: Bool, ramp: Double) {
        self.streamCount = streamCount
        self.up = up
        self.ramp = ramp
    }

    func start(_ ring: LoadRing, now: UInt64) {
        opening = Schedule(rate: Double(streamCount) / max(ramp, 0.001), start: now, ramp: 0)
    }

    func advance(_ ring: LoadRing, now: UInt64) -> UInt64? {
        while beganCount < streamCount, opening!.nextAt <= now {
            _ = ring.connect()
            beganCount += 1
            opening!.begin()
        }
        return beganCount < streamCount ? opening!.nextAt : nil
    }

    func handle(_ event: Event, _ ring: LoadRing, now: UInt64) {
        switch event.kind {
        case .connected:
            guard event.result >= 0 else {
                fail(event.end, ring)
                return
            }
            tally.openCount += 1
            ring.send(event.end, .hello)
            if up { ring.send(event.end, .zeroes(LoadRing.chunkByteCountMax), reports: true) }
            ring.drain(event.end)
        case .received:
            guard event.result > 0 else {
                fail(event.end, ring)
                return
            }
            tally.byteCount += UInt64(event.result)
            ring.drain(event.end)
        case .sent:
            if event.result > 0 { ring.send(event.end, .zeroes(LoadRing.chunkByteCountMax), reports: true) }
        case .accepted, .failedQuietly:
            break
        }
    }

    private func fail(_ end: Int, _ ring: LoadRing) {
        tally.errorCount += 1
        ring.close(end)
    }

    func beginWindow() { tally.reset() }
}
