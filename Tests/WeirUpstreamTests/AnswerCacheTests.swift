import Testing
import WeirNet
import WeirUpstream

@Suite
struct AnswerCacheTests {
    let start = Instant(nanoseconds: 1_000_000_000)

    func name(_ number: Int) throws -> ServerName { try ServerName("host-\(number).test") }

    func answer(_ number: Int, expires: Instant) -> Answer {
        let address = IPAddress(v4: UInt32(0xc000_0200 + number))
        return Answer(status: .found, addresses: [address], expires: expires)
    }

    @Test
    func givesBackWhatWasKept() throws {
        var cache = AnswerCache(entryCount: 16, seed: 1)
        let kept = answer(1, expires: start.advanced(byNanoseconds: 10))
        cache.insert(kept, for: try name(1), now: start)
        let found = cache.lookup(try name(1), now: start)
        #expect(found == kept)
        let other = cache.lookup(try name(2), now: start)
        #expect(other == nil)
        #expect(cache.hitCount == 1)
        #expect(cache.missCount == 1)
    }

    @Test
    func servesUntilTheMomentOfExpiryAndNotAtIt() throws {
        var cache = AnswerCache(entryCount: 16, seed: 1)
        let expires = start.advanced(byNanoseconds: 10)
        cache.insert(answer(1, expires: expires), for: try name(1), now: start)
        let before = cache.lookup(try name(1), now: Instant(nanoseconds: expires.nanoseconds - 1))
        #expect(before != nil)
        let at = cache.lookup(try name(1), now: expires)
        #expect(at == nil)
    }

    @Test
    func aLaterAnswerTakesThePlaceOfAnEarlierOne() throws {
        var cache = AnswerCache(entryCount: 4, seed: 1)
        let expires = start.advanced(byNanoseconds: 10)
        cache.insert(answer(1, expires: expires), for: try name(1), now: start)
        cache.insert(Answer(.noSuchName, expires: expires), for: try name(1), now: start)
        let found = cache.lookup(try name(1), now: start)
        #expect(found?.status == .noSuchName)
        #expect(cache.evictionCount == 0)
    }

    @Test
    func anAnswerThatDoesNotHoldLeavesNothingBehind() throws {
        var cache = AnswerCache(entryCount: 4, seed: 1)
        cache.insert(answer(1, expires: start.advanced(byNanoseconds: 10)), for: try name(1), now: start)
        cache.insert(Answer(.timedOut), for: try name(1), now: start)
        let found = cache.lookup(try name(1), now: start)
        #expect(found == nil)
    }

    /// Four places make one set: all five names compete for it. (T-17)
    @Test
    func theNameUnusedForLongestGivesWay() throws {
        var cache = AnswerCache(entryCount: 4, seed: 7)
        let expires = start.advanced(byNanoseconds: 1000)
        for number in 0..<4 { cache.insert(answer(number, expires: expires), for: try name(number), now: start) }
        _ = cache.lookup(try name(0), now: start)
        cache.insert(answer(4, expires: expires), for: try name(4), now: start)
        #expect(cache.evictionCount == 1)
        var living: [Int] = []
        for number in 0..<5 where cache.lookup(try name(number), now: start) != nil { living.append(number) }
        #expect(living == [0, 2, 3, 4])
    }

    @Test
    func anExpiredAnswerGivesWayBeforeALivingOne() throws {
        var cache = AnswerCache(entryCount: 4, seed: 7)
        for number in 0..<4 {
            let expires = start.advanced(byNanoseconds: number == 3 ? 5 : 1000)
            cache.insert(answer(number, expires: expires), for: try name(number), now: start)
        }
        let later = start.advanced(byNanoseconds: 5)
        cache.insert(answer(4, expires: start.advanced(byNanoseconds: 1000)), for: try name(4), now: later)
        #expect(cache.evictionCount == 0)
        for number in [0, 1, 2, 4] {
            let found = cache.lookup(try name(number), now: later)
            #expect(found != nil)
        }
    }

    /// Never another name's answer, whatever is kept and pushed out. (T-17)
    @Test
    func manyNamesNeverMixUp() throws {
        var cache = AnswerCache(entryCount: 64, seed: 42)
        let expires = start.advanced(byNanoseconds: 1000)
        var mixedUp = 0
        var found = 0
        for round in 0..<2000 {
            cache.insert(answer(round, expires: expires), for: try name(round), now: start)
            for back in 0...min(round, 40) {
                guard let kept = cache.lookup(try name(round - back), now: start) else { continue }
                found += 1
                if kept.addresses[0] != IPAddress(v4: UInt32(0xc000_0200 + round - back)) { mixedUp += 1 }
            }
        }
        #expect(mixedUp == 0)
        #expect(found > 2000)
    }

    @Test
    func forgetsEverythingWhenTold() throws {
        var cache = AnswerCache(entryCount: 4, seed: 1)
        cache.insert(answer(1, expires: .distantFuture), for: try name(1), now: start)
        cache.removeAll()
        let found = cache.lookup(try name(1), now: start)
        #expect(found == nil)
    }
}

@Suite
struct AnswerAddressesTests {
    @Test
    func keepsTheOrderAndDropsDuplicates() {
        let addresses: ResolvedAddresses = [
            IPAddress(192, 0, 2, 2), IPAddress(192, 0, 2, 1), IPAddress(192, 0, 2, 2), .v6Loopback,
        ]
        #expect(addresses.count == 3)
        #expect(addresses[0] == IPAddress(192, 0, 2, 2))
        #expect(addresses[1] == IPAddress(192, 0, 2, 1))
        #expect(addresses[2] == .v6Loopback)
    }

    @Test
    func refusesTheSeventeenth() {
        var addresses = ResolvedAddresses()
        for number in 0..<16 {
            let taken = addresses.append(IPAddress(v4: UInt32(number)))
            #expect(taken)
        }
        let taken = addresses.append(IPAddress(v4: 16))
        #expect(!taken)
        let known = addresses.append(IPAddress(v4: 3))
        #expect(known)
        #expect(addresses.count == 16)
    }

    @Test
    func equalityLooksAtTheAddressesOnly() {
        var longer: ResolvedAddresses = [.v4Loopback]
        longer.append(.v6Loopback)
        #expect(longer != [.v4Loopback])
        #expect(longer == [.v4Loopback, .v6Loopback])
        #expect(longer != [.v6Loopback, .v4Loopback])
    }

    @Test
    func labelsAreDistinctAndInSnakeCase() {
        let labels = AnswerStatus.allCases.map { "\($0.label)" }
        #expect(Set(labels).count == AnswerStatus.allCases.count)
        #expect(labels.allSatisfy { $0.allSatisfy { $0.isLowercase || $0 == "_" } })
    }
}
