import Testing
import WeirNet
import WeirUpstream

@Suite
struct AnswerPartsTests {
    let v4 = LookupResult(.found, addresses: [IPAddress(192, 0, 2, 1), IPAddress(192, 0, 2, 2)], ttl: 30)
    let v6 = LookupResult(.found, addresses: [.v6Loopback], ttl: 7)

    func merged(_ first: LookupResult?, _ second: LookupResult?) -> AnswerParts.Merged {
        var parts = AnswerParts(awaitsV4: true, awaitsV6: true)
        if let first { parts.add(first, for: .v4) }
        if let second { parts.add(second, for: .v6) }
        return parts.merged
    }

    @Test
    func familiesTakeTurnsAndTheShortestTTLHolds() {
        let addresses: ResolvedAddresses = [IPAddress(192, 0, 2, 1), .v6Loopback, IPAddress(192, 0, 2, 2)]
        #expect(merged(v4, v6) == .whole(LookupResult(.found, addresses: addresses, ttl: 7)))
    }

    @Test
    func oneFamilyIsPartOfTheAnswerWhileTheOtherIsAwaited() {
        #expect(merged(v4, nil) == .partial(v4))
        #expect(merged(nil, v6) == .partial(v6))
        #expect(merged(nil, nil) == .waiting)
        #expect(merged(LookupResult(.serverFailure), nil) == .waiting)
    }

    @Test(arguments: [AnswerStatus.noAddress, .noSuchName])
    func oneFamilyIsTheWholeAnswerWhereTheOtherHasNone(negative: AnswerStatus) {
        #expect(merged(v4, LookupResult(negative)) == .whole(v4))
        #expect(merged(LookupResult(negative), v6) == .whole(v6))
    }

    @Test(arguments: [AnswerStatus.serverFailure, .timedOut])
    func oneFamilyIsPartOfTheAnswerWhereTheOtherFailed(failure: AnswerStatus) {
        #expect(merged(v4, LookupResult(failure)) == .partial(v4))
        #expect(merged(LookupResult(failure), v6) == .partial(v6))
    }

    /// UP-08: else a lost IPv4 reply would empty a set whose name has no IPv6 address.
    @Test(arguments: [AnswerStatus.noAddress, .noSuchName], [AnswerStatus.serverFailure, .timedOut])
    func aFailureOutweighsANegativeAnswer(negative: AnswerStatus, failure: AnswerStatus) {
        #expect(merged(LookupResult(failure), LookupResult(negative)) == .whole(LookupResult(failure)))
        #expect(merged(LookupResult(negative), LookupResult(failure)) == .whole(LookupResult(failure)))
    }

    @Test
    func twoNegativeAnswersAreNegative() {
        #expect(merged(LookupResult(.noAddress), LookupResult(.noAddress)) == .whole(LookupResult(.noAddress)))
        #expect(merged(LookupResult(.noSuchName), LookupResult(.noSuchName)) == .whole(LookupResult(.noSuchName)))
    }

    @Test
    func theHostsFileAnswersForBothFamilies() {
        var parts = AnswerParts(awaitsV4: true, awaitsV6: true)
        parts.add(v6, for: .whole)
        #expect(parts.isComplete)
        #expect(parts.merged == .whole(v6))
    }

    @Test
    func aFamilyThatIsNotWantedIsNotAwaited() {
        var parts = AnswerParts(awaitsV4: false, awaitsV6: true)
        parts.add(v6, for: .v6)
        #expect(parts.isComplete)
        #expect(parts.merged == .whole(v6))
    }

    /// T-16: the cap never leaves a family out.
    @Test
    func bothFamiliesKeepHalfOfTheCap() {
        var many4 = ResolvedAddresses()
        var many6 = ResolvedAddresses()
        for number in 0..<16 {
            many4.append(IPAddress(v4: UInt32(number)))
            many6.append(IPAddress(v6High: 1, low: UInt64(number)))
        }
        let both = merged(
            LookupResult(.found, addresses: many4, ttl: 1), LookupResult(.found, addresses: many6, ttl: 1))
        guard case .whole(let result) = both else {
            Issue.record("both families are there: \(both)")
            return
        }
        #expect(result.addresses.count == 16)
        let v6Count = (0..<16).count { result.addresses[$0].family == .v6 }
        #expect(v6Count == 8)
    }
}
