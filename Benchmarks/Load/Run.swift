import Foundation
import WeirMemory
import WeirNet
import WeirSockets

/// One measurement: ramp, warm-up, window.
struct Run {
    let options: CommonOptions
    let shape: Shape
    let name: String
    let concurrency: Int
    let rate: Double?

    /// Runs `load` to the end of its window and prints the report.
    func measure(_ load: some Load, isReady: () -> Bool = { true }) throws {
        let ring = try LoadRing(
            hello: benchmarkHello(), destinations: options.destinations(), endCount: 4 * concurrency + 1024)
        var origin = Origin(shape)
        for address in try options.origins() { try ring.listen(on: address) }
        let watched = options.watch.map { Watched(pid: $0) }
        let residentBefore = try watched.map { try reading(of: $0).residentByteCount }

        func drive(until end: (UInt64) -> Bool) {
            var now = ring.now
            while !end(now) {
                let next = options.role == .origin ? nil : load.advance(ring, now: now)
                let wait = min(next.map { $0 > now ? $0 - now : 0 } ?? .max, 10_000_000)
                ring.turn(waiting: wait) { event in
                    if event.kind == .accepted || ring.ends[event.end].role == .origin {
                        origin.handle(event, ring)
                    } else {
                        load.handle(event, ring, now: ring.now)
                    }
                }
                now = ring.now
            }
        }

        let start = ring.now
        load.start(ring, now: start)
        let deadline = start + Self.openSecondsMax
        drive { now in isReady() || now >= deadline }
        let warm = ring.now + UInt64((options.ramp + options.warmUp) * 1_000_000_000)
        drive { now in now >= warm }

        let warmUpCount = load.tally.operationCount
        load.beginWindow()
        let own = Watched(pid: getpid())
        let ownBefore = try reading(of: own)
        let before = try watched.map(reading(of:))
        let upBefore = origin.receivedByteCount
        let windowStart = ring.now
        let windowEnd = windowStart + UInt64(options.seconds * 1_000_000_000)
        drive { now in now >= windowEnd }
        let seconds = Double(ring.now - windowStart) / 1_000_000_000
        let after = try watched.map(reading(of:))
        let ownAfter = try reading(of: own)

        let tally = load.tally
        let up = origin.receivedByteCount - upBefore
        let costs = watched.indices.map { index in
            Report.Cost(
                pid: watched[index].pid, cpuSeconds: after[index].cpuSeconds - before[index].cpuSeconds,
                userSeconds: after[index].userSeconds - before[index].userSeconds,
                systemSeconds: after[index].systemSeconds - before[index].systemSeconds,
                residentBytesBefore: residentBefore[index], residentBytesAfter: after[index].residentByteCount)
        }
        print(
            Report(
                load: name, concurrency: concurrency, rate: rate, seconds: seconds, operations: tally.operationCount,
                operationsInAll: warmUpCount + tally.operationCount,
                operationsPerSecond: Double(tally.operationCount) / seconds, bytesDown: tally.byteCount, bytesUp: up,
                gigabitsPerSecond: Double(tally.byteCount + up) * 8 / seconds / 1e9, open: tally.openCount,
                errors: tally.errorCount + origin.errorCount, latencyMicroseconds: tally.latencies.summary,
                watched: costs, generatorCPUShare: (ownAfter.cpuSeconds - ownBefore.cpuSeconds) / seconds
            ).line)
    }

    /// For all connections to stand.
    private static let openSecondsMax: UInt64 = 60_000_000_000

    private func reading(of watched: Watched) throws -> Watched.Reading {
        guard let reading = watched.read() else { throw RunFailure.isGone(watched.pid) }
        return reading
    }
}

enum RunFailure: Error, CustomStringConvertible {
    case isGone(Int32)
    case badAddress(String)

    var description: String {
        switch self {
        case .isGone(let pid): "process \(pid) is not there to be watched"
        case .badAddress(let text): "\(text) is no ADDRESS:PORT"
        }
    }
}
