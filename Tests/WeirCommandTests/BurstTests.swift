import Testing
import WeirCommand
import WeirNet

/// UP-13: how long the reloader waits for more changes.
@Suite struct BurstTests {
    private func moment(_ milliseconds: UInt64) -> Instant { Instant(nanoseconds: 1_000_000 * milliseconds) }

    @Test func beforeTheFirstChangeTheWaitHasNoEnd() {
        #expect(Burst().patience(at: moment(5)) == nil)
    }

    @Test func aChangeIsReadOnceNothingHasHappenedForTenMilliseconds() {
        var burst = Burst()
        burst.note(at: moment(5))
        #expect(burst.patience(at: moment(5)) == 10_000_000)
    }

    @Test func aBurstIsOverAHundredMillisecondsAfterItsFirstChange() {
        var burst = Burst()
        for time in stride(from: UInt64(0), through: 99, by: 3) { burst.note(at: moment(time)) }
        #expect(burst.patience(at: moment(99)) == 1_000_000)
        #expect(burst.patience(at: moment(100)) == 0)
    }
}
