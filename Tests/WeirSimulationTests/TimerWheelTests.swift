import Testing
import WeirEngine
import WeirNet
import WeirTesting

/// The wheel against a list of deadlines that is searched from end to end.
@Suite struct TimerWheelTests {
    /// Twice a tick: the wheel may be a tick late, and counts ticks from zero.
    private static let lateness: UInt64 = 2 * (1 << 22)
    /// Deadlines beyond it fire there, and are set again by their owner.
    private static let horizon: UInt64 = 60_000_000_000_000

    private struct Naive {
        var deadlines: [UInt64?]

        func overdue(_ now: UInt64, by lateness: UInt64) -> [Int] {
            deadlines.indices.filter { owner in deadlines[owner].map { $0 + lateness <= now } ?? false }
        }
    }

    @Test(arguments: [UInt64(1), 2, 3, 4, 5, 6, 7, 8])
    func everyDeadlineFiresOnceAndInTime(seed: UInt64) {
        var random = SimulatedRandom(seed: seed)
        let ownerCount = 50
        var now = random.next() % 1_000_000_000_000
        var wheel = TimerWheel(ownerCount: ownerCount, now: Instant(nanoseconds: now))
        var naive = Naive(deadlines: Array(repeating: nil, count: ownerCount))
        for _ in 0..<5000 {
            switch random.below(10) {
            case 0..<5:
                let owner = random.below(ownerCount)
                let deadline = now + UInt64(random.scaled(0, 1 << random.between(20, 44)))
                wheel.set(owner, at: Instant(nanoseconds: deadline))
                naive.deadlines[owner] = deadline
            case 5:
                let owner = random.below(ownerCount)
                if random.chance(500) {
                    wheel.remove(owner)
                } else {
                    wheel.set(owner, at: .distantFuture)
                }
                naive.deadlines[owner] = nil
            case 6:
                // As the loop does: no further than to the moment that the wheel asks for.
                let next = wheel.nextDeadline
                if next != .distantFuture { now = max(now, min(next.nanoseconds, now + 3_600_000_000_000)) }
            default: now += UInt64(random.scaled(0, 1 << random.between(10, 36)))
            }
            let first = naive.deadlines.compactMap { $0 }.min()
            let next = wheel.nextDeadline
            if let first {
                #expect(next.nanoseconds <= max(first, now) + Self.lateness, "seed \(seed)")
            } else {
                #expect(next == .distantFuture)
            }
            wheel.advance(to: Instant(nanoseconds: now))
            while let owner = wheel.popExpired() {
                guard let deadline = naive.deadlines[owner] else {
                    Issue.record("owner \(owner) fired without a deadline, seed \(seed)")
                    return
                }
                #expect(deadline <= now, "owner \(owner) fired too early, seed \(seed)")
                naive.deadlines[owner] = nil
            }
            #expect(naive.overdue(now, by: Self.lateness) == [], "seed \(seed)")
            let count = wheel.count
            #expect(count == naive.deadlines.count { $0 != nil })
            let owners = (0..<ownerCount).filter { wheel.isSet($0, atOrBefore: .distantFuture) }
            #expect(owners == (0..<ownerCount).filter { naive.deadlines[$0] != nil })
        }
    }

    @Test func nothingIsDueBeforeTheMomentAskedFor() {
        for delay in stride(from: UInt64(1_000_000), to: 400_000_000_000, by: 777_777_777) {
            var now: UInt64 = 123_456_789
            var wheel = TimerWheel(ownerCount: 1, now: Instant(nanoseconds: now))
            let deadline = now + delay
            wheel.set(0, at: Instant(nanoseconds: deadline))
            var stepCount = 0
            while wheel.count > 0 {
                let next = wheel.nextDeadline.nanoseconds
                #expect(next > now || stepCount == 0)
                now = max(now, next)
                wheel.advance(to: Instant(nanoseconds: now))
                stepCount += 1
                if wheel.popExpired() != nil { break }
            }
            #expect(now >= deadline && now <= deadline + Self.lateness)
            // Once per level at most.
            #expect(stepCount <= 4)
        }
    }

    @Test func deadlineBeyondTheHorizonFiresAtTheHorizon() {
        let start = Instant(nanoseconds: 5)
        var wheel = TimerWheel(ownerCount: 2, now: start)
        wheel.set(0, at: start.advanced(byNanoseconds: 30 * 24 * 3_600_000_000_000))
        let next = wheel.nextDeadline
        #expect(next.nanoseconds < 30 * 24 * 3_600_000_000_000)
        #expect(next.nanoseconds > 3_600_000_000_000)
        let (isSet, isSetForThen) = (wheel.isSet(0, atOrBefore: .distantFuture), wheel.isSet(0, atOrBefore: next))
        #expect(isSet && !isSetForThen)
    }

    @Test func ownerThatIsDueCanBeRemovedBeforeItIsTaken() {
        var wheel = TimerWheel(ownerCount: 3, now: Instant(nanoseconds: 0))
        for owner in 0..<3 { wheel.set(owner, at: Instant(nanoseconds: 10_000_000)) }
        wheel.advance(to: Instant(nanoseconds: 50_000_000))
        wheel.remove(1)
        var fired: [Int] = []
        while let owner = wheel.popExpired() { fired.append(owner) }
        let next = wheel.nextDeadline
        #expect(fired.sorted() == [0, 2])
        #expect(next == .distantFuture)
    }
}
