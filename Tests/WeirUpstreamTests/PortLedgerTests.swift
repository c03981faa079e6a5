import Testing
import WeirMemory
import WeirNet
import WeirUpstream

/// S0-5, S0-6, P-13: ports are counted for each source and destination.
@Suite struct PortLedgerTests {
    static let source = IPAddress(192, 0, 2, 1)
    static let destination = SocketAddress(IPAddress(198, 51, 100, 1), port: 443)

    static func ledger(
        limit: Int = 3, reuse: PortLedger.TimeWaitReuse = .none, pairCount: Int = 100
    ) -> PortLedger {
        PortLedger(limit: limit, reuse: reuse, pairCount: pairCount, key: SipKey(low: 1, high: 2))
    }

    /// Seconds from some beginning.
    static func at(_ seconds: Double) -> Instant { Instant(nanoseconds: UInt64((1_000_000 + seconds) * 1e9)) }

    static func entry(
        _ ledger: PortLedger, _ now: Instant, worker: Int = 0, from source: IPAddress = source,
        to destination: SocketAddress = destination
    ) -> PortLedger.Entry? {
        guard case .granted(let entry) = ledger.reserve(worker: worker, from: source, to: destination, now: now) else {
            return nil
        }
        return entry
    }

    static func standing(_ ledger: PortLedger, _ now: Instant) -> PortLedger.Standing {
        ledger.standing(from: source, to: destination, now: now)
    }

    @Test func portsAreGrantedUpToTheLimitAndComeBack() throws {
        let ledger = Self.ledger(limit: 2)
        let now = Self.at(0)
        let first = try #require(Self.entry(ledger, now))
        _ = try #require(Self.entry(ledger, now, worker: 1))
        #expect(ledger.reserve(worker: 0, from: Self.source, to: Self.destination, now: now) == .exhausted)
        #expect(Self.standing(ledger, now).inUse == 2)
        ledger.release(first, leavesTimeWait: false, now: now)
        #expect(Self.standing(ledger, now).inUse == 1)
        #expect(Self.entry(ledger, now) != nil)
    }

    @Test func pairsAreCountedApart() throws {
        let ledger = Self.ledger(limit: 1)
        let now = Self.at(0)
        let sources = [Self.source, IPAddress(192, 0, 2, 2), IPAddress(v6High: 0, low: 0xc000_0201)]
        let destinations = [
            Self.destination, SocketAddress(Self.destination.ip, port: 444),
            SocketAddress(Self.destination.ip.mapped, port: 443),
        ]
        for source in sources {
            for destination in destinations {
                #expect(Self.entry(ledger, now, from: source, to: destination) != nil)
                #expect(Self.entry(ledger, now, from: source, to: destination) == nil)
            }
        }
    }

    /// TCP_TIMEWAIT_LEN is 60 s; a bucket is a second.
    @Test(arguments: [0, 0.25, 0.999]) func aPortInTimeWaitIsHeldForAMinuteAndAtMostASecondMore(offset: Double) throws {
        let ledger = Self.ledger(limit: 1)
        let entry = try #require(Self.entry(ledger, Self.at(offset)))
        ledger.release(entry, leavesTimeWait: true, now: Self.at(offset))
        #expect(Self.standing(ledger, Self.at(offset + 60)).timeWait == 1)
        #expect(Self.entry(ledger, Self.at(offset + 60)) == nil)
        #expect(Self.standing(ledger, Self.at(offset + 61)).timeWait == 0)
        #expect(Self.entry(ledger, Self.at(offset + 61)) != nil)
    }

    @Test func portsLeaveTimeWaitBucketByBucket() throws {
        let ledger = Self.ledger(limit: 1000)
        for second in 0..<200 {
            let now = Self.at(Double(second))
            for _ in 0..<3 { ledger.release(try #require(Self.entry(ledger, now)), leavesTimeWait: true, now: now) }
            #expect(Self.standing(ledger, now).timeWait == 3 * min(second + 1, 61))
        }
        #expect(Self.standing(ledger, Self.at(230)).timeWait == 3 * 30)
        #expect(Self.standing(ledger, Self.at(10_000)).timeWait == 0)
        #expect(Self.standing(ledger, Self.at(10_000)).inUse == 0)
    }

    @Test func aWorkerWhoseClockIsBehindTakesNothingBack() throws {
        let ledger = Self.ledger()
        let entry = try #require(Self.entry(ledger, Self.at(10)))
        ledger.release(entry, leavesTimeWait: true, now: Self.at(9))
        #expect(Self.standing(ledger, Self.at(8)).timeWait == 1)
        #expect(Self.standing(ledger, Self.at(70.5)).timeWait == 1)
        #expect(Self.standing(ledger, Self.at(71)).timeWait == 0)
    }

    /// net.ipv4.tcp_tw_reuse.
    @Test(arguments: [
        (PortLedger.TimeWaitReuse.none, "127.0.0.1:1", false), (.loopback, "127.0.0.1:1", true),
        (.loopback, "[::1]:1", true), (.loopback, "192.0.2.1:1", false), (.all, "192.0.2.1:1", true),
    ])
    func aReusablePortIsHeldForASecond(reuse: PortLedger.TimeWaitReuse, destination: String, isFree: Bool) throws {
        let ledger = Self.ledger(limit: 1, reuse: reuse)
        let destination = try #require(SocketAddress(destination))
        let entry = try #require(Self.entry(ledger, Self.at(0), to: destination))
        ledger.release(entry, leavesTimeWait: true, now: Self.at(0))
        #expect(Self.entry(ledger, Self.at(1), to: destination) == nil)
        #expect((Self.entry(ledger, Self.at(2), to: destination) != nil) == isFree)
    }

    @Test func releasingTwiceTraps() async {
        await #expect(processExitsWith: .failure) {
            let ledger = PortLedger(limit: 1, pairCount: 1)
            let now = Instant(nanoseconds: 0)
            let destination = SocketAddress(.v4Loopback, port: 1)
            let answer = ledger.reserve(worker: 0, from: .v4Loopback, to: destination, now: now)
            guard case .granted(let entry) = answer else { return }
            ledger.release(entry, leavesTimeWait: false, now: now)
            ledger.release(entry, leavesTimeWait: false, now: now)
        }
    }

    // MARK: Room

    /// The smallest table has one group of sixteen slots.
    private static func fill(_ ledger: PortLedger, _ now: Instant) throws -> [PortLedger.Entry] {
        try (0..<16 as Range<UInt16>).map {
            try #require(entry(ledger, now, to: SocketAddress(destination.ip, port: 1000 + $0)))
        }
    }

    @Test func aFullTableLetsConnectUncounted() throws {
        let ledger = Self.ledger(pairCount: 1)
        _ = try Self.fill(ledger, Self.at(0))
        #expect(ledger.reserve(worker: 0, from: Self.source, to: Self.destination, now: Self.at(0)) == .untracked)
        #expect(ledger.untrackedCount == 1)
        // Nothing happens with what was not counted.
        ledger.succeeded(.none, now: Self.at(0))
        ledger.failed(.none, 1, now: Self.at(0))
        ledger.release(.none, leavesTimeWait: true, now: Self.at(0))
    }

    @Test func anIdlePairGivesWayAndItsCountsAreKept() throws {
        let ledger = Self.ledger(pairCount: 1)
        let entries = try Self.fill(ledger, Self.at(0))
        ledger.succeeded(entries[5], now: Self.at(0))
        ledger.failed(entries[5], 111, now: Self.at(0))
        ledger.release(entries[5], leavesTimeWait: false, now: Self.at(0))
        #expect(Self.entry(ledger, Self.at(0)) != nil)
        #expect(ledger.evictedCount == 1)
        #expect(ledger.evicted == (1, 1))
        var fresh = PortLedger.Standing()
        fresh.inUse = 1
        #expect(Self.standing(ledger, Self.at(0)) == fresh)
    }

    @Test func aPairInTimeWaitGivesWayOnceThatIsOver() throws {
        let ledger = Self.ledger(pairCount: 1)
        let entries = try Self.fill(ledger, Self.at(0))
        ledger.release(entries[5], leavesTimeWait: true, now: Self.at(0))
        #expect(Self.entry(ledger, Self.at(60)) == nil)
        #expect(Self.entry(ledger, Self.at(61)) != nil)
    }

    @Test func anExcludedPairGivesWayOnceThatIsOver() throws {
        let ledger = Self.ledger(pairCount: 1)
        let entries = try Self.fill(ledger, Self.at(0))
        ledger.exclude(entries[5], now: Self.at(0))
        ledger.release(entries[5], leavesTimeWait: false, now: Self.at(0))
        #expect(Self.entry(ledger, Self.at(29)) == nil)
        #expect(Self.entry(ledger, Self.at(30)) != nil)
    }

    /// What is left in the slot of the pair before must not be taken for its own.
    @Test func aPairInAUsedSlotBeginsAnew() throws {
        let ledger = Self.ledger(limit: 10, pairCount: 1)
        let entries = try Self.fill(ledger, Self.at(0))
        ledger.release(entries[5], leavesTimeWait: true, now: Self.at(0))
        let entry = try #require(Self.entry(ledger, Self.at(61)))
        ledger.release(entry, leavesTimeWait: true, now: Self.at(61.5))
        #expect(Self.standing(ledger, Self.at(61.5)).timeWait == 1)
        #expect(Self.standing(ledger, Self.at(121.5)).timeWait == 1)
        #expect(Self.standing(ledger, Self.at(122)).timeWait == 0)
    }

    @Test func sixteenThousandPairsFindRoom() {
        let ledger = Self.ledger(limit: 1, pairCount: 16384)
        for number in 0..<16384 as Range<UInt32> {
            _ = ledger.reserve(
                worker: 0, from: Self.source, to: SocketAddress(IPAddress(v4: number), port: 1), now: Self.at(0))
        }
        #expect(ledger.untrackedCount < 100)
    }

    // MARK: Outcomes

    /// S1-4.
    @Test func outcomesAreReadBack() throws {
        let ledger = Self.ledger()
        let v6 = SocketAddress(IPAddress(v6High: 0x2001_0db8 << 32, low: 7), port: 8443)
        let source = IPAddress(v6High: 0x2001_0db8 << 32, low: 1)
        let entry = try #require(Self.entry(ledger, Self.at(0), from: source, to: v6))
        ledger.succeeded(entry, now: Self.at(1))
        ledger.succeeded(entry, now: Self.at(2))
        ledger.failed(entry, 113, now: Self.at(3))
        var readings: [PortLedger.Reading] = []
        ledger.forEachPair(now: Self.at(4)) { readings.append($0) }
        var expected = PortLedger.Reading(source: source, destination: v6)
        expected.standing.inUse = 1
        expected.standing.succeededAt = Self.at(2)
        expected.succeeded = 2
        expected.failed = 1
        expected.lastError = 113
        expected.failedAt = Self.at(3)
        #expect(readings == [expected])
    }

    /// S0-6.
    @Test func anExclusionDoublesWithEachTrialThatFails() throws {
        let ledger = Self.ledger()
        let entry = try #require(Self.entry(ledger, Self.at(0)))
        ledger.exclude(entry, now: Self.at(0))
        var begin = 0.0
        for length in [30.0, 60, 120, 240, 300, 300] {
            let end = begin + length
            #expect(Self.standing(ledger, Self.at(end - 0.01)).exclusion == .until(Self.at(end)))
            #expect(!ledger.takeTrial(entry, now: Self.at(end - 0.01)))
            #expect(Self.standing(ledger, Self.at(end)).exclusion == .trialDue)
            #expect(ledger.takeTrial(entry, now: Self.at(end)))
            ledger.exclude(entry, now: Self.at(end))
            begin = end
        }
        ledger.succeeded(entry, now: Self.at(begin))
        #expect(Self.standing(ledger, Self.at(begin)).exclusion == .none)
    }

    @Test func oneAloneTakesATrial() throws {
        let ledger = Self.ledger()
        let entry = try #require(Self.entry(ledger, Self.at(0)))
        ledger.exclude(entry, now: Self.at(0))
        #expect(ledger.takeTrial(entry, now: Self.at(30)))
        #expect(!ledger.takeTrial(entry, now: Self.at(30)))
        #expect(Self.standing(ledger, Self.at(30)).exclusion == .until(Self.at(60)))
    }

    @Test func failuresFromBeforeAnExclusionDoNotProlongIt() throws {
        let ledger = Self.ledger()
        let entry = try #require(Self.entry(ledger, Self.at(0)))
        for second in 0..<10 { ledger.exclude(entry, now: Self.at(Double(second))) }
        #expect(Self.standing(ledger, Self.at(10)).exclusion == .until(Self.at(30)))
    }

    // MARK: Several threads

    /// Few slots for more pairs than fit, so that slots are taken, freed and fought for all the time. What each pair really
    /// has is counted beside the table: were a pair ever in two slots, it would get past its limit.
    @Test func noPairPassesItsLimitWhileSlotsComeAndGo() async {
        let ledger = Self.ledger(limit: 2, pairCount: 1)
        let live = (0..<20).map { _ in SharedCounter() }
        let over = Tally()
        let granted = Tally()
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<4 {
                group.addTask {
                    var random = UInt64(worker + 1) &* 0x9e37_79b9_7f4a_7c15
                    for _ in 0..<6000 {
                        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                        let which = Int(random >> 33) % live.count
                        let destination = SocketAddress(Self.destination.ip, port: UInt16(which + 1))
                        guard let entry = Self.entry(ledger, Self.at(0), worker: worker, to: destination) else {
                            continue
                        }
                        granted.add()
                        if live[which].tryIncrement(limit: 2) {
                            live[which].decrement()
                        } else {
                            over.add()
                        }
                        ledger.release(entry, leavesTimeWait: false, now: Self.at(0))
                    }
                }
            }
        }
        #expect(over.value == 0)
        #expect(granted.value > 0)
        var left = 0
        ledger.forEachPair(now: Self.at(0)) { left += $0.standing.used }
        #expect(left == 0)
    }

    /// Clocks that run apart, and buckets that come due while others are filled: not one port is lost or counted twice.
    @Test func portsInTimeWaitAreExactWhileManyThreadsMoveTheClock() async {
        let ledger = Self.ledger(limit: 65535)
        let second = Tally()
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<4 {
                group.addTask {
                    for round in 0..<4000 {
                        let lag = worker % 2
                        let now = Self.at(Double(max(0, second.value - lag)))
                        guard let entry = Self.entry(ledger, now, worker: worker) else { continue }
                        ledger.release(entry, leavesTimeWait: true, now: now)
                        if round % 20 == 0 { second.add(round % 1000 == 0 ? 70 : 1) }
                    }
                }
            }
        }
        let end = Double(second.value)
        #expect(Self.standing(ledger, Self.at(end)).inUse == 0)
        #expect(Self.standing(ledger, Self.at(end + 61)).timeWait == 0)
        // The sum is that of the buckets: nothing was taken off twice, so a minute's worth is whole again.
        let now = Self.at(end + 100)
        for _ in 0..<500 {
            guard let entry = Self.entry(ledger, now) else { continue }
            ledger.release(entry, leavesTimeWait: true, now: now)
        }
        #expect(Self.standing(ledger, now).timeWait == 500)
        #expect(Self.standing(ledger, Self.at(end + 161)).timeWait == 0)
    }

    /// Reads while pairs come and go: a reading never mixes two pairs.
    @Test func aReadingIsOfOnePair() async {
        let ledger = Self.ledger(limit: 2, pairCount: 1)
        let mixed = Tally()
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<2 {
                group.addTask {
                    for round in 0..<6000 {
                        // The source says the port.
                        let number = UInt16(round * 7 % 40 + 1)
                        let entry = Self.entry(
                            ledger, Self.at(0), worker: worker, from: IPAddress(10, 0, 0, UInt8(number)),
                            to: SocketAddress(Self.destination.ip, port: number))
                        if let entry { ledger.release(entry, leavesTimeWait: false, now: Self.at(0)) }
                    }
                }
            }
            group.addTask {
                for _ in 0..<2000 {
                    ledger.forEachPair(now: Self.at(0)) {
                        if UInt16($0.source.byte(3)) != $0.destination.port { mixed.add() }
                    }
                }
            }
        }
        #expect(mixed.value == 0)
    }
}
