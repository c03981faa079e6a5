import Testing
import WeirModel
import WeirNet
import WeirUpstream

/// A table with its time, and with what it decided sorted into lookups to start and answers given.
private final class Bench {
    var table: AnswerTable
    var now = Instant(nanoseconds: 1_000_000_000_000)
    var started: [(id: AnswerTable.LookupID, name: ServerName)] = []
    var answers: [(port: Int, answer: ResolverAnswer)] = []
    private var ticket: UInt64 = 0

    init(_ settings: ResolverSettings = ResolverSettings(), limits: AnswerTable.Limits = AnswerTable.Limits()) {
        table = AnswerTable(settings: settings, limits: limits)
    }

    /// Asks, and says which ticket that was.
    @discardableResult
    func ask(_ name: String, port: Int = 0) throws -> UInt64 {
        ticket += 1
        table.requested(ResolverRequest(ticket: ticket, name: try ServerName(name)), port: port, now: now)
        collect()
        return ticket
    }

    /// Ends the oldest lookup that has been started: both families with one result each.
    func finish(v4: LookupResult, v6: LookupResult = LookupResult(.noAddress)) {
        let id = started.removeFirst().id
        table.lookupAnswered(id, .v4, v4, now: now)
        table.lookupAnswered(id, .v6, v6, now: now)
        collect()
    }

    /// Ends the oldest lookup as if nobody had answered.
    func fail(_ status: AnswerStatus = .serverFailure) {
        finish(v4: LookupResult(status), v6: LookupResult(status))
    }

    /// Gives the oldest lookup one family's result, and leaves it in flight.
    func part(_ part: AnswerParts.Part, _ result: LookupResult) {
        table.lookupAnswered(started[0].id, part, result, now: now)
        collect()
    }

    /// Lets time pass, stopping at each deadline on the way.
    func pass(milliseconds: UInt64) {
        let end = now.advanced(byNanoseconds: milliseconds * 1_000_000)
        while let deadline = table.nextDeadline, deadline <= end {
            now = max(now, deadline)
            table.advance(to: now)
            collect()
        }
        now = end
        table.advance(to: now)
        collect()
    }

    func pass(seconds: UInt64) { pass(milliseconds: seconds * 1000) }

    func reconfigure(_ settings: ResolverSettings) {
        table.reconfigure(settings)
        collect()
    }

    func collect() {
        table.checkInvariants()
        for action in table.takeActions() {
            switch action {
            case .lookUp(let id, let name, _, _): started.append((id, name))
            case .answer(let port, let answer): answers.append((port, answer))
            }
        }
    }

    /// The one answer given since the last call.
    func takeAnswer() -> Answer? {
        defer { answers = [] }
        return answers.count == 1 ? answers[0].answer.answer : nil
    }

    func seconds(until moment: Instant) -> Double { Double(moment.nanoseconds(since: now)) / 1e9 }
}

private let first = IPAddress(192, 0, 2, 1)
private let second = IPAddress(192, 0, 2, 2)

private func found(_ addresses: ResolvedAddresses = [first], ttl: UInt32 = 60) -> LookupResult {
    LookupResult(.found, addresses: addresses, ttl: ttl)
}

@Suite
struct AnswerTableTests {
    // MARK: Lookups and lifetimes

    @Test
    func anUnknownNameIsLookedUpOnceAndThenKnown() throws {
        let bench = Bench()
        try bench.ask("a.test")
        #expect(bench.started.map(\.name) == [try ServerName("a.test")])
        #expect(bench.answers.isEmpty)
        bench.finish(v4: found())
        #expect(bench.takeAnswer()?.addresses == [first])
        try bench.ask("a.test")
        #expect(bench.started.isEmpty)
        #expect(bench.takeAnswer()?.addresses == [first])
        #expect(bench.table.counts.hits == 1)
        #expect(bench.table.counts.misses == 1)
    }

    @Test(arguments: [(UInt32(0), 1.0), (1, 1.0), (60, 60.0), (300, 300.0), (86400, 300.0), (.max, 300.0)])
    func theTTLStaysWithinItsBounds(ttl: UInt32, lifetime: Double) throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: ttl))
        let answer = try #require(bench.takeAnswer())
        #expect(bench.seconds(until: answer.expires) == lifetime)
    }

    @Test
    func anExpiredNameIsLookedUpAgain() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 10))
        bench.pass(seconds: 10)
        bench.answers = []
        try bench.ask("a.test")
        #expect(bench.answers.isEmpty)
        bench.finish(v4: found([second]))
        #expect(bench.takeAnswer()?.addresses == [second])
    }

    @Test(arguments: [AnswerStatus.noSuchName, .noAddress])
    func aNegativeAnswerIsKnownForItsOwnTime(status: AnswerStatus) throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: LookupResult(status), v6: LookupResult(status))
        let answer = try #require(bench.takeAnswer())
        #expect(answer.status == status)
        #expect(bench.seconds(until: answer.expires) == 5)
        bench.pass(milliseconds: 4_999)
        try bench.ask("a.test")
        #expect(bench.takeAnswer()?.status == status)
        bench.pass(milliseconds: 1)
        try bench.ask("a.test")
        #expect(bench.started.count == 1)
    }

    @Test
    func requestsForOneNameShareALookup() throws {
        let bench = Bench()
        var tickets: [UInt64] = []
        for port in 0..<50 { tickets.append(try bench.ask("a.test", port: port)) }
        #expect(bench.started.count == 1)
        #expect(bench.table.counts.coalesced == 49)
        bench.finish(v4: found())
        #expect(bench.answers.map(\.port) == Array(0..<50))
        #expect(bench.answers.map(\.answer.ticket) == tickets)
        #expect(bench.table.waiterCount == 0)
    }

    @Test
    func onlyTheWantedFamiliesAreAskedFor() throws {
        for (families, wants4, wants6) in [
            (ResolverSettings.AddressFamilies.both, true, true), (.v4Only, true, false), (.v6Only, false, true),
        ] {
            var settings = ResolverSettings()
            settings.families = families
            var table = AnswerTable(settings: settings)
            table.requested(
                ResolverRequest(ticket: 1, name: try ServerName("a.test")), port: 0, now: Instant(nanoseconds: 1))
            guard case .lookUp(_, _, let v4, let v6) = table.takeActions().first else {
                Issue.record("no lookup for \(families)")
                continue
            }
            #expect(v4 == wants4)
            #expect(v6 == wants6)
        }
    }

    // MARK: Families

    /// RFC 8305 §3: addresses of one family wait 50 ms for the other's.
    @Test
    func aFamilyThatNeverAnswersHoldsNobodyUp() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.part(.v4, found())
        #expect(bench.answers.isEmpty)
        bench.pass(milliseconds: 50)
        let answer = try #require(bench.takeAnswer())
        #expect(answer.addresses == [first])
        #expect(bench.seconds(until: answer.expires) == 1)
        try bench.ask("a.test")
        #expect(bench.takeAnswer()?.addresses == [first])
        bench.part(.v6, LookupResult(.timedOut))
        #expect(bench.table.lookupCount == 0)
    }

    @Test
    func aSetWithAFailedFamilyIsTriedAgainSoon() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 300), v6: LookupResult(.serverFailure))
        let answer = try #require(bench.takeAnswer())
        #expect(answer.status == .found)
        #expect(bench.seconds(until: answer.expires) == 5)
    }

    // MARK: Changed sets (UP-08)

    /// UP-08: what the newest answer says, whatever was known.
    @Test(arguments: [
        (LookupResult(.found, addresses: [second], ttl: 60), LookupResult(.noAddress)),
        (LookupResult(.found, addresses: [first, second], ttl: 60), LookupResult(.noAddress)),
        (LookupResult(.noAddress), LookupResult(.found, addresses: [.v6Loopback, .v6Any], ttl: 60)),
    ])
    func aNewAnswerReplacesTheSet(v4: LookupResult, v6: LookupResult) throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 10))
        bench.pass(seconds: 10)
        bench.answers = []
        try bench.ask("a.test")
        bench.finish(v4: v4, v6: v6)
        #expect(bench.takeAnswer()?.addresses == (v4.status == .found ? v4.addresses : v6.addresses))
    }

    /// UP-08 "all removed" and "added after empty".
    @Test
    func anEmptyAnswerEmptiesTheSetAndALaterOneFillsIt() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 10))
        bench.pass(seconds: 10)
        bench.answers = []
        try bench.ask("a.test")
        bench.finish(v4: LookupResult(.noAddress))
        #expect(bench.takeAnswer()?.status == .noAddress)
        bench.pass(seconds: 5)
        try bench.ask("a.test")
        bench.finish(v4: found([second]))
        #expect(bench.takeAnswer()?.addresses == [second])
    }

    /// UP-08 "bad reply keeps the old set".
    @Test(arguments: [AnswerStatus.serverFailure, .timedOut])
    func aFailedLookupKeepsTheSet(status: AnswerStatus) throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 10))
        bench.pass(seconds: 10)
        bench.answers = []
        try bench.ask("a.test")
        bench.fail(status)
        let answer = try #require(bench.takeAnswer())
        #expect(answer.addresses == [first])
        #expect(answer.isStale)
        #expect(bench.table.counts.staleServed == 1)
    }

    /// UP-08: the name has no IPv6 address; a lost IPv4 reply must not read as "no address at all".
    @Test
    func aFailedFamilyDoesNotEmptyTheSet() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 10))
        bench.pass(seconds: 10)
        bench.answers = []
        try bench.ask("a.test")
        bench.finish(v4: LookupResult(.timedOut), v6: LookupResult(.noAddress))
        #expect(bench.takeAnswer()?.addresses == [first])
    }

    // MARK: Outage (P-19)

    /// RFC 8767 §5: a stale answer after 1.8 s is better than a fresh one never.
    @Test
    func whoeverWaitsForASilentServerGetsTheStaleSet() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 10))
        bench.pass(seconds: 10)
        bench.answers = []
        try bench.ask("a.test")
        bench.pass(milliseconds: 1799)
        #expect(bench.answers.isEmpty)
        bench.pass(milliseconds: 1)
        #expect(bench.takeAnswer()?.isStale == true)
    }

    @Test
    func afterAFailureTheStaleSetServesAtOnceAndOneLookupPerHoldTriesAgain() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 10))
        bench.pass(seconds: 10)
        try bench.ask("a.test")
        bench.fail()
        bench.answers = []
        try bench.ask("a.test")
        let answer = try #require(bench.takeAnswer())
        #expect(answer.isStale)
        #expect(bench.seconds(until: answer.expires) == 2)
        #expect(bench.started.isEmpty)
        bench.pass(seconds: 2)
        try bench.ask("a.test")
        try bench.ask("a.test")
        #expect(bench.started.count == 1)
        #expect(bench.answers.count == 2)
        bench.finish(v4: found([second]))
        bench.answers = []
        try bench.ask("a.test")
        let fresh = try #require(bench.takeAnswer())
        #expect(fresh.addresses == [second])
        #expect(!fresh.isStale)
    }

    @Test
    func staleServingEndsWithItsTime() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 10))
        bench.pass(milliseconds: 10_000 + 59_000)
        try bench.ask("a.test")
        bench.fail()
        let last = try #require(bench.answers.last?.answer.answer)
        #expect(last.isStale)
        #expect(bench.seconds(until: last.expires) == 1)
        bench.pass(seconds: 1)
        bench.answers = []
        try bench.ask("a.test")
        bench.fail()
        #expect(bench.takeAnswer()?.status == .serverFailure)
    }

    @Test
    func aFailureIsBelievedForTwoSeconds() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.fail()
        #expect(bench.takeAnswer()?.status == .serverFailure)
        bench.pass(milliseconds: 1999)
        try bench.ask("a.test")
        #expect(bench.takeAnswer()?.status == .serverFailure)
        bench.pass(milliseconds: 1)
        try bench.ask("a.test")
        #expect(bench.started.count == 1)
    }

    @Test
    func aRequestTimesOutAndALateAnswerIsKept() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.pass(milliseconds: 4999)
        #expect(bench.answers.isEmpty)
        bench.pass(milliseconds: 1)
        #expect(bench.takeAnswer()?.status == .timedOut)
        bench.finish(v4: found())
        try bench.ask("a.test")
        #expect(bench.takeAnswer()?.addresses == [first])
    }

    /// P-19: once nothing has been heard for three lookups, new names fail in two seconds.
    @Test
    func inAnOutageNewNamesFailFast() throws {
        let bench = Bench()
        for number in 0..<3 {
            try bench.ask("host-\(number).test")
            bench.fail(.timedOut)
        }
        bench.answers = []
        try bench.ask("new.test")
        bench.pass(milliseconds: 1999)
        #expect(bench.answers.isEmpty)
        bench.pass(milliseconds: 1)
        #expect(bench.takeAnswer()?.status == .timedOut)
        // One reply of any kind ends it.
        bench.finish(v4: LookupResult(.noSuchName), v6: LookupResult(.noSuchName))
        try bench.ask("newer.test")
        bench.pass(milliseconds: 4999)
        #expect(bench.answers.isEmpty)
    }

    // MARK: Refresh ahead

    /// One worker with its own cache asks once per lifetime; from the second time on, nobody waits.
    @Test
    func aNameInUseIsRefreshedBeforeItExpires() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 100))
        bench.pass(seconds: 100)
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 100))
        bench.pass(seconds: 89)
        #expect(bench.started.isEmpty)
        bench.pass(seconds: 1)
        #expect(bench.started.count == 1)
        #expect(bench.table.counts.refreshes == 1)
        bench.finish(v4: found([second], ttl: 100))
        bench.pass(seconds: 10)
        bench.answers = []
        try bench.ask("a.test")
        #expect(bench.takeAnswer()?.addresses == [second])
    }

    @Test
    func aNameAskedOnceIsNotRefreshed() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 100))
        bench.pass(seconds: 1000)
        #expect(bench.started.isEmpty)
    }

    @Test
    func aNameOutOfUseIsLetGo() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 100))
        try bench.ask("a.test")
        var refreshes = 0
        for _ in 0..<1000 {
            bench.pass(seconds: 1)
            while !bench.started.isEmpty {
                bench.finish(v4: found(ttl: 100))
                refreshes += 1
            }
        }
        #expect(refreshes == 2)
        #expect(bench.table.nextDeadline == nil)
    }

    @Test
    func aFailedRefreshChangesNothingBeforeExpiry() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found(ttl: 100))
        try bench.ask("a.test")
        bench.pass(seconds: 90)
        bench.fail()
        bench.answers = []
        try bench.ask("a.test")
        let answer = try #require(bench.takeAnswer())
        #expect(!answer.isStale)
        #expect(bench.seconds(until: answer.expires) == 10)
    }

    // MARK: Bounds (T-17)

    @Test
    func theNameAskedLeastRecentlyGivesWay() throws {
        var settings = ResolverSettings()
        settings.cacheEntryCountMax = 3
        let bench = Bench(settings)
        for name in ["a.test", "b.test", "c.test", "a.test", "d.test"] {
            try bench.ask(name)
            if !bench.started.isEmpty { bench.finish(v4: found()) }
        }
        #expect(bench.table.entryCount == 3)
        #expect(bench.table.counts.evictions == 1)
        for name in ["a.test", "c.test", "d.test"] { try bench.ask(name) }
        #expect(bench.started.isEmpty)
        try bench.ask("b.test")
        #expect(bench.started.count == 1)
    }

    @Test
    func moreLookupsThanAllowedAreRefused() throws {
        var limits = AnswerTable.Limits()
        limits.lookupCountMax = 4
        let bench = Bench(limits: limits)
        for number in 0..<4 { try bench.ask("host-\(number).test") }
        #expect(bench.answers.isEmpty)
        try bench.ask("host-4.test")
        #expect(bench.takeAnswer()?.status == .refusedTooMany)
        #expect(bench.table.counts.overflows == 1)
        // One that is in flight already can still be joined.
        try bench.ask("host-0.test")
        #expect(bench.answers.isEmpty)
    }

    @Test
    func moreWaitersThanAllowedAreRefused() throws {
        var limits = AnswerTable.Limits()
        limits.waiterCountMax = 10
        let bench = Bench(limits: limits)
        for _ in 0..<10 { try bench.ask("a.test") }
        try bench.ask("a.test")
        #expect(bench.takeAnswer()?.status == .refusedTooMany)
        bench.finish(v4: found())
        #expect(bench.answers.count == 10)
    }

    @Test
    func aRefusalDoesNotCountAsKnowledge() throws {
        var limits = AnswerTable.Limits()
        limits.lookupCountMax = 1
        let bench = Bench(limits: limits)
        try bench.ask("a.test")
        try bench.ask("b.test")
        let refusal = try #require(bench.takeAnswer())
        #expect(refusal.expires <= bench.now)
        bench.finish(v4: found())
        try bench.ask("b.test")
        #expect(bench.started.count == 1)
    }

    // MARK: Reload (UP-09)

    @Test
    func aReloadKeepsWhatIsKnown() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found())
        var settings = ResolverSettings()
        settings.servers = [SocketAddress(.v4Loopback, port: 5353)]
        settings.ttlMax = .seconds(30)
        bench.reconfigure(settings)
        bench.answers = []
        try bench.ask("a.test")
        #expect(bench.takeAnswer()?.addresses == [first])
        #expect(bench.started.isEmpty)
    }

    @Test
    func aReloadWithFewerPlacesDropsTheOldestNames() throws {
        let bench = Bench()
        for number in 0..<10 {
            try bench.ask("host-\(number).test")
            bench.finish(v4: found())
        }
        var settings = ResolverSettings()
        settings.cacheEntryCountMax = 2
        bench.reconfigure(settings)
        #expect(bench.table.entryCount == 2)
        try bench.ask("host-9.test")
        #expect(bench.started.isEmpty)
    }

    @Test
    func aReloadForOtherFamiliesForgetsAndDoesNotKeepWhatIsInFlight() throws {
        let bench = Bench()
        try bench.ask("a.test")
        bench.finish(v4: found())
        try bench.ask("b.test")
        var settings = ResolverSettings()
        settings.families = .v6Only
        bench.reconfigure(settings)
        #expect(bench.table.entryCount == 0)
        bench.answers = []
        bench.finish(v4: found())
        #expect(bench.takeAnswer()?.status == .found)
        #expect(bench.table.entryCount == 0)
    }

    // MARK: The end

    @Test
    func stoppingAnswersEveryoneAndLateResultsAreTaken() throws {
        let bench = Bench()
        for number in 0..<3 { for _ in 0..<2 { try bench.ask("host-\(number).test") } }
        bench.table.cancelWaiters()
        bench.collect()
        #expect(bench.answers.count == 6)
        #expect(bench.answers.allSatisfy { $0.answer.answer.status == .cancelled })
        #expect(bench.table.waiterCount == 0)
        #expect(bench.table.nextDeadline == nil)
        for _ in 0..<3 { bench.fail(.cancelled) }
        #expect(bench.table.lookupCount == 0)
        #expect(bench.table.entryCount == 0)
    }

    /// Every request is answered exactly once, whatever happens in between. A seed decides what happens.
    @Test(arguments: 0..<20)
    func everyRequestIsAnsweredOnce(seed: UInt64) throws {
        var random = SplitMix(state: seed)
        var settings = ResolverSettings()
        settings.cacheEntryCountMax = Int(random.next() % 20)
        var limits = AnswerTable.Limits()
        limits.lookupCountMax = 1 + Int(random.next() % 8)
        limits.waiterCountMax = 1 + Int(random.next() % 30)
        let bench = Bench(settings, limits: limits)
        var asked: Set<UInt64> = []
        let failures: [AnswerStatus] = [.serverFailure, .timedOut]
        for _ in 0..<2000 {
            switch random.next() % 6 {
            case 0, 1, 2:
                asked.insert(try bench.ask("host-\(random.next() % 30).test", port: Int(random.next() % 4)))
            case 3 where !bench.started.isEmpty:
                bench.started.swapAt(0, Int(random.next() % UInt64(bench.started.count)))
                switch random.next() % 3 {
                case 0: bench.finish(v4: found(ttl: UInt32(random.next() % 20)))
                case 1: bench.finish(v4: LookupResult(.noSuchName), v6: LookupResult(.noSuchName))
                default: bench.fail(failures[Int(random.next() % 2)])
                }
            case 4:
                bench.pass(milliseconds: random.next() % 3000)
            default:
                settings.cacheEntryCountMax = Int(random.next() % 20)
                bench.reconfigure(settings)
            }
        }
        while !bench.started.isEmpty { bench.fail() }
        bench.pass(seconds: 10)
        let tickets = bench.answers.map(\.answer.ticket)
        #expect(Set(tickets) == asked)
        #expect(tickets.count == asked.count)
        #expect(bench.table.waiterCount == 0)
    }
}

private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}
