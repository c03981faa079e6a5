import Benchmark
import WeirEngine
import WeirNet

func registerTimerBenchmarks() {
    measure("timer-set-advance-pop", of: Timers(ownerCount: 1000)) { $0.setAndPop($1) }
    measure(
        "timer-sweep-100000", scale: .mega, of: Timers(ownerCount: 100_000), prepare: { $0.setFar() },
        run: { $0.sweep($1) })
}

private struct Timers: ~Copyable {
    private static let tick: UInt64 = 1 << 22
    private static let hour: UInt64 = 3_600_000_000_000

    private var wheel: TimerWheel
    private var now = Instant(nanoseconds: Self.hour)
    private let ownerCount: Int

    init(ownerCount: Int) {
        wheel = TimerWheel(ownerCount: ownerCount, now: now)
        self.ownerCount = ownerCount
    }

    private mutating func advance() {
        now = now.advanced(byNanoseconds: Self.tick)
        wheel.advance(to: now)
    }

    /// Deadlines within ten seconds: each is set, moved once to a nearer bucket as a rule, and handed out.
    mutating func setAndPop(_ count: Int) {
        for owner in 0..<count { wheel.set(owner, at: now.advanced(byNanoseconds: 10_000_000 * UInt64(owner + 1))) }
        var poppedCount = 0
        while poppedCount < count {
            advance()
            while wheel.popExpired() != nil { poppedCount += 1 }
        }
    }

    /// Deadlines in two hours, within an hour of each other.
    mutating func setFar() {
        for owner in 0..<ownerCount {
            let spread = Self.hour / UInt64(ownerCount) * UInt64(owner)
            wheel.set(owner, at: now.advanced(byNanoseconds: 2 * Self.hour + spread))
        }
    }

    /// A turn after the other, each a tick later than the one before it, with nothing due. A million are 70 minutes.
    mutating func sweep(_ count: Int) {
        for _ in 0..<count {
            advance()
            precondition(wheel.popExpired() == nil)
        }
    }
}
