import Testing
import WeirMemory

private let second: UInt64 = 1_000_000_000

/// T-14: how often, decided from injected time alone.
@Suite struct RateBoundTests {
    /// 10 per second, 3 at once.
    private let bound = RateBound(interval: second / 10, burst: 3)

    /// How many of `count` are admitted at `now`, and when the bucket is full afterwards.
    private func admit(_ count: Int, fullAt: UInt64, now: UInt64) -> (count: Int, fullAt: UInt64) {
        var fullAt = fullAt
        var admitted = 0
        for _ in 0..<count {
            guard case .admitted(let next) = bound.verdict(fullAt: fullAt, now: now) else { continue }
            fullAt = next
            admitted += 1
        }
        return (admitted, fullAt)
    }

    @Test func aFullBucketAdmitsItsBurstAtOnce() {
        #expect(admit(10, fullAt: 0, now: 5 * second) == (3, 5 * second + 3 * second / 10))
    }

    @Test func anEmptyBucketAdmitsOneAfterEveryInterval() {
        var (_, fullAt) = admit(3, fullAt: 0, now: second)
        for step in 1...20 as ClosedRange<UInt64> {
            let now = second + step * second / 10
            #expect(admit(1, fullAt: fullAt, now: now - 1).count == 0)
            let (count, next) = admit(5, fullAt: fullAt, now: now)
            #expect(count == 1)
            fullAt = next
        }
    }

    @Test func whatIsNotUsedAddsUpToTheBurstAndNoFurther() {
        let (_, fullAt) = admit(3, fullAt: 0, now: second)
        #expect(admit(10, fullAt: fullAt, now: second + second / 5).count == 2)
        #expect(admit(10, fullAt: fullAt, now: 100 * second).count == 3)
    }

    @Test func aClockThatIsBehindAdmitsNoMore() {
        let (_, fullAt) = admit(3, fullAt: 0, now: second)
        #expect(admit(10, fullAt: fullAt, now: second - 1000).count == 0)
    }

    /// A reload from one an hour to ten a second must not leave the client out for an hour.
    @Test func aMomentOfASlowerBoundIsCut() {
        let now = 10 * second
        let hourly = now + 3600 * second
        guard case .refusedAndCut(let fullAt) = bound.verdict(fullAt: hourly, now: now) else {
            Issue.record("the old moment still holds")
            return
        }
        #expect(fullAt == now + 3 * second / 10)
    }
}

@Suite struct SharedRateTests {
    @Test func noBoundAdmitsEverything() {
        let rate = SharedRate()
        #expect((0..<1000).allSatisfy { _ in rate.take(.none, now: 1) })
    }

    @Test func manyThreadsTogetherTakeExactlyWhatTheBoundAdmits() async {
        let rate = SharedRate()
        let bound = RateBound(interval: 1000, burst: 500)
        for round in 0..<20 as Range<UInt64> {
            // Every 100 µs the bucket gains 100.
            let now = second + round * 100_000
            let admitted = Tally()
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask { for _ in 0..<1000 where rate.take(bound, now: now) { admitted.add() } }
                }
            }
            #expect(admitted.value == (round == 0 ? 500 : 100))
        }
    }
}

@Suite struct ClientRatesTests {
    private typealias Client = ClientRates.Client

    private static func client(_ number: UInt64) -> Client { Client(high: number, low: 4) }

    private static func take(
        _ rates: ClientRates, worker: Int = 0, listener: Int = 0, _ client: Client, _ bound: RateBound, now: UInt64
    ) -> Bool {
        if case .refused = rates.take(worker: worker, listener: listener, client: client, bound, now: now) {
            return false
        }
        return true
    }

    /// Takes until refused.
    private func drain(
        _ rates: ClientRates, _ client: Client, _ bound: RateBound, listener: Int = 0, now: UInt64
    ) -> Int {
        var count = 0
        while Self.take(rates, listener: listener, client, bound, now: now) { count += 1 }
        return count
    }

    @Test func clientsAndListenersHaveBucketsOfTheirOwn() {
        let rates = ClientRates(clientCount: 100)
        let bound = RateBound(interval: second, burst: 4)
        #expect(drain(rates, Self.client(1), bound, now: second) == 4)
        #expect(drain(rates, Self.client(2), bound, now: second) == 4)
        #expect(drain(rates, Self.client(1), bound, listener: 1, now: second) == 4)
        #expect(drain(rates, Self.client(1), bound, now: 3 * second) == 2)
    }

    @Test func noBoundTakesNoSlot() {
        let rates = ClientRates(clientCount: 1)
        for number in 0..<100 as Range<UInt64> {
            #expect(Self.take(rates, Self.client(number), .none, now: 1))
        }
        #expect(rates.evictedCount == 0)
    }

    /// The smallest table has one group of eight slots.
    @Test func theSlotOfAFullBucketIsFreeForOthers() {
        let rates = ClientRates(clientCount: 1)
        let bound = RateBound(interval: second, burst: 1)
        for round in 0..<10 as Range<UInt64> {
            for number in 0..<8 as Range<UInt64> {
                #expect(drain(rates, Self.client(round * 8 + number), bound, now: (round + 1) * second) == 1)
            }
        }
        #expect(rates.evictedCount == 0)
    }

    @Test func inAFullGroupTheClientThatIsFullSoonestGivesWay() {
        let rates = ClientRates(clientCount: 1)
        let bound = RateBound(interval: second, burst: 4)
        // Client 5 has used one, all others three.
        for number in 0..<8 as Range<UInt64> {
            for _ in 0..<(number == 5 ? 1 : 3) {
                #expect(Self.take(rates, Self.client(number), bound, now: second))
            }
        }
        guard
            case .admittedOverAnother = rates.take(
                worker: 0, listener: 0, client: Self.client(100), bound, now: second)
        else {
            Issue.record("nobody gave way")
            return
        }
        #expect(rates.evictedCount == 1)
        for number in [0, 1, 2, 3, 4, 6, 7] as [UInt64] {
            #expect(drain(rates, Self.client(number), bound, now: second) == 1)
        }
        #expect(drain(rates, Self.client(100), bound, now: second) == 3)
    }

    /// Exact across workers, first uses included: all threads meet in one group, where slots are fought for.
    @Test func manyThreadsTogetherTakeExactlyWhatEachClientMay() async {
        let bound = RateBound(interval: 1000, burst: 7)
        for round in 0..<200 as Range<UInt64> {
            let rates = ClientRates(clientCount: 1)
            let tallies = (0..<8).map { _ in Tally() }
            await withTaskGroup(of: Void.self) { group in
                for worker in 0..<4 {
                    group.addTask {
                        for step in 0..<80 {
                            // Each thread in another order.
                            let number = (step * (worker * 2 + 1) + worker) % 8
                            let client = Self.client(round * 8 + UInt64(number))
                            if Self.take(rates, worker: worker, client, bound, now: second) {
                                tallies[number].add()
                            }
                        }
                    }
                }
            }
            #expect(tallies.map(\.value) == Array(repeating: 7, count: 8))
            #expect(rates.evictedCount == 0)
        }
    }

    /// The same while slots age and change hands: what is refused is refused for a reason, what is admitted is within.
    @Test func slotsThatChangeHandsAdmitNoMoreThanEachClientMay() async {
        let rates = ClientRates(clientCount: 1)
        let bound = RateBound(interval: second, burst: 3)
        for round in 0..<100 as Range<UInt64> {
            // Every bucket of the round before is full by now, and its slot anybody's.
            let now = (round * 3 + 1) * second
            let tallies = (0..<8).map { _ in Tally() }
            await withTaskGroup(of: Void.self) { group in
                for worker in 0..<4 {
                    group.addTask {
                        for step in 0..<80 {
                            let number = (step * (worker * 2 + 1) + worker) % 8
                            let client = Self.client((round % 3) * 8 + UInt64(number))
                            if Self.take(rates, worker: worker, client, bound, now: now) {
                                tallies[number].add()
                            }
                        }
                    }
                }
            }
            #expect(tallies.map(\.value) == Array(repeating: 3, count: 8))
        }
        #expect(rates.evictedCount == 0)
    }
}
