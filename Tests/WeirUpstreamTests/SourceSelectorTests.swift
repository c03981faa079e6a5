import Glibc
import Testing
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

/// S0-5, S0-6, UP-12: which source address is next. Time is simulated.
@Suite struct SourceSelectorTests {
    /// A pool with its ledger and one worker's selector.
    private final class Scene {
        let table: RouteTable
        let ledger: PortLedger
        let pool: CompiledSources
        private var selector: SourceSelector
        let destination: SocketAddress

        init(
            _ addresses: [String], select: SourcePool.Select = .leastPorts, limit: Int = 1000,
            destination: String = "198.51.100.1:443"
        ) throws {
            var configuration = Configuration()
            var named = SourcePool(name: "p", addresses: try addresses.map { try #require(IPAddress($0)) })
            named.select = select
            configuration.sources = [named]
            var cluster = Cluster(name: "c", endpoints: [Endpoint(host: .address(.v4Loopback), port: 1)])
            cluster.upstream.source = "p"
            configuration.clusters = [cluster]
            table = RouteTable(compiling: configuration, slots: [:], generation: 1) { _ in 0 }
            pool = table.view.upstreams[0].sources
            ledger = PortLedger(limit: limit, reuse: .none, pairCount: 1000, key: SipKey(low: 1, high: 2))
            selector = SourceSelector()
            self.destination = try #require(SocketAddress(destination))
        }

        func outcome(_ now: Instant, client: UInt64 = 0, tried: UInt64 = 0, to destination: SocketAddress? = nil)
            -> SourceSelector.Outcome
        {
            selector.next(
                of: pool, in: table.view, ledger, worker: 0, to: destination ?? self.destination, client: client,
                tried: tried, now: now)
        }

        func choice(_ now: Instant, client: UInt64 = 0, tried: UInt64 = 0, to destination: SocketAddress? = nil)
            -> SourceSelector.Choice?
        {
            guard case .connect(let choice) = outcome(now, client: client, tried: tried, to: destination) else {
                return nil
            }
            return choice
        }

        /// The last byte of each address that was chosen; the ports are kept.
        func addresses(_ count: Int, _ now: Instant, client: UInt64 = 0) -> [UInt8?] {
            (0..<count).map { _ in choice(now, client: client).map { $0.address.byte(3) } }
        }

        func fail(_ choice: SourceSelector.Choice, _ code: Int32, _ now: Instant, to destination: SocketAddress? = nil)
        {
            selector.failed(
                choice, of: pool, in: table.view, ledger, to: destination ?? self.destination, code: code,
                startedAt: Instant(nanoseconds: 0), now: now)
            ledger.release(choice.entry, leavesTimeWait: false, now: now)
        }

        func succeed(_ choice: SourceSelector.Choice, _ now: Instant) {
            ledger.succeeded(choice.entry, now: now)
            ledger.release(choice.entry, leavesTimeWait: false, now: now)
        }

        /// Member `member` succeeds at `now`, chosen because all others were tried.
        func succeed(member: Int, _ now: Instant) throws {
            succeed(try #require(choice(now, tried: ~(1 << UInt64(member)))), now)
        }

        func isExcluded(_ member: Int, _ now: Instant, to destination: SocketAddress? = nil) -> Bool {
            let address = table.view.sourceAddresses[Int(pool.v4.first) + member]
            let standing = ledger.standing(from: address, to: destination ?? self.destination, now: now)
            return standing.exclusion != .none
        }
    }

    private static let three = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]

    private static func at(_ seconds: Double) -> Instant { Instant(nanoseconds: UInt64((1_000_000 + seconds) * 1e9)) }

    // MARK: Selects

    @Test func leastPortsTakesTurnsAmongEquals() throws {
        #expect(try Scene(Self.three).addresses(7, Self.at(0)) == [1, 2, 3, 1, 2, 3, 1])
    }

    @Test func leastPortsTakesTheOneWithTheFewest() throws {
        let scene = try Scene(Self.three)
        let choices = (0..<9).compactMap { _ in scene.choice(Self.at(0)) }
        // 10.0.0.2 gives two ports back, one of which stays in TIME_WAIT.
        scene.ledger.release(choices[1].entry, leavesTimeWait: false, now: Self.at(0))
        scene.ledger.release(choices[4].entry, leavesTimeWait: true, now: Self.at(0))
        #expect(scene.addresses(2, Self.at(0)) == [2, 3])
    }

    @Test func leastPortsCountsTowardsTheDestinationOnly() throws {
        let scene = try Scene(["10.0.0.1", "10.0.0.2"])
        let other = SocketAddress(scene.destination.ip, port: 444)
        for _ in 0..<10 { _ = scene.choice(Self.at(0), tried: 2, to: other) }
        #expect(scene.addresses(4, Self.at(0)).filter { $0 == 1 }.count == 2)
    }

    @Test func roundRobinTakesEachInTurnWhateverTheyHave() throws {
        let scene = try Scene(Self.three, select: .roundRobin)
        for _ in 0..<20 { _ = scene.choice(Self.at(0), tried: 0b110) }
        let addresses = scene.addresses(6, Self.at(0))
        #expect(addresses == [2, 3, 1, 2, 3, 1])
    }

    @Test func aClientKeepsItsAddress() throws {
        let scene = try Scene(Self.three, select: .clientHash)
        for client in 0..<50 as Range<UInt64> {
            #expect(Set(scene.addresses(5, Self.at(0), client: client)).count == 1)
        }
        #expect(Set((0..<50 as Range<UInt64>).map { scene.choice(Self.at(0), client: $0)?.address }).count == 3)
    }

    @Test func whenAMemberLeavesOnlyItsOwnClientsMove() throws {
        let (all, fewer) = try (
            Scene(Self.three, select: .clientHash), Scene(["10.0.0.3", "10.0.0.1"], select: .clientHash)
        )
        var moved = 0
        for client in 0..<300 as Range<UInt64> {
            let before = try #require(all.choice(Self.at(0), client: client)).address
            let after = try #require(fewer.choice(Self.at(0), client: client)).address
            if before == IPAddress(10, 0, 0, 2) { moved += 1 } else { #expect(after == before) }
        }
        #expect((60...140).contains(moved))
    }

    @Test func aDestinationKeepsItsAddress() throws {
        let scene = try Scene(Self.three, select: .destinationHash)
        let destinations = (1...50 as ClosedRange<UInt16>).map { SocketAddress(scene.destination.ip, port: $0) }
        func chosen(_ client: UInt64) -> [IPAddress?] {
            destinations.map { scene.choice(Self.at(0), client: client, to: $0)?.address }
        }
        let first = chosen(1)
        #expect(first == chosen(2))
        #expect(Set(first).count == 3)
    }

    /// UP-12.
    @Test func onlyTheDestinationsFamilyIsUsed() throws {
        let mixed = ["2001:db8::1", "10.0.0.1", "2001:db8::2"]
        let v6 = try Scene(mixed, destination: "[2001:db8:1::1]:443")
        #expect((0..<3).compactMap { _ in v6.choice(Self.at(0))?.address.low } == [1, 2, 1])
        #expect(try Scene(mixed).addresses(2, Self.at(0)) == [1, 1])
        #expect(try Scene(["2001:db8::1"]).outcome(Self.at(0)) == .noneLeft)
    }

    @Test func whatWasTriedIsNotTriedAgain() throws {
        let scene = try Scene(Self.three)
        #expect(scene.choice(Self.at(0), tried: 0b011)?.member == 2)
        #expect(scene.outcome(Self.at(0), tried: 0b111) == .noneLeft)
    }

    // MARK: Exhaustion

    /// S0-5, P-13.
    @Test(arguments: SourcePool.Select.allCases) func threeAddressesRunToExhaustionAndBack(select: SourcePool.Select)
        throws
    {
        let scene = try Scene(Self.three, select: select, limit: 4)
        var choices: [SourceSelector.Choice] = []
        for _ in 0..<12 { choices.append(try #require(scene.choice(Self.at(0), client: 7))) }
        #expect(Set(choices.map(\.address)).count == 3)
        #expect(scene.outcome(Self.at(0), client: 7) == .exhausted)
        // Another destination has ports of its own.
        #expect(scene.choice(Self.at(0), client: 7, to: SocketAddress(scene.destination.ip, port: 1)) != nil)
        // Closed by the other side: the port is free at once. Closed by us: a minute later.
        scene.ledger.release(choices[5].entry, leavesTimeWait: false, now: Self.at(1))
        #expect(scene.choice(Self.at(1), client: 7)?.address == choices[5].address)
        scene.ledger.release(choices[6].entry, leavesTimeWait: true, now: Self.at(1))
        #expect(scene.outcome(Self.at(60), client: 7) == .exhausted)
        #expect(scene.choice(Self.at(62), client: 7)?.address == choices[6].address)
        #expect(scene.outcome(Self.at(62), client: 7) == .exhausted)
    }

    @Test func aFullOneIsPassedOver() throws {
        let scene = try Scene(Self.three, select: .roundRobin, limit: 2)
        for _ in 0..<2 { _ = scene.choice(Self.at(0), tried: 0b101) }
        #expect(scene.addresses(4, Self.at(0)) == [3, 1, 3, 1])
    }

    // MARK: Exclusion

    /// S0-6: an address that was removed from the machine.
    @Test(arguments: [EADDRNOTAVAIL, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT])
    func aSourceThatFailsWhereAnotherGetsThroughIsLeftOut(code: Int32) throws {
        let scene = try Scene(Self.three)
        try scene.succeed(member: 0, Self.at(0))
        try scene.succeed(member: 1, Self.at(1))
        scene.fail(try #require(scene.choice(Self.at(2), tried: 0b110)), code, Self.at(2))
        #expect(scene.addresses(4, Self.at(3)).allSatisfy { $0 != 1 })
    }

    @Test(arguments: [ECONNREFUSED, ECONNRESET, ENOBUFS])
    func whatTheDestinationSaysIsNotHeldAgainstTheSource(code: Int32) throws {
        let scene = try Scene(Self.three)
        try scene.succeed(member: 1, Self.at(1))
        scene.fail(try #require(scene.choice(Self.at(2), tried: 0b110)), code, Self.at(2))
        #expect(!scene.isExcluded(0, Self.at(2)))
    }

    @Test func aSourceThatGotThroughLastStays() throws {
        let scene = try Scene(Self.three)
        try scene.succeed(member: 1, Self.at(0))
        try scene.succeed(member: 0, Self.at(1))
        scene.fail(try #require(scene.choice(Self.at(2), tried: 0b110)), ETIMEDOUT, Self.at(2))
        #expect(!scene.isExcluded(0, Self.at(2)))
    }

    @Test func aDestinationThatNobodyReachesExcludesNone() throws {
        let scene = try Scene(Self.three)
        for second in 0..<9 {
            let now = Self.at(Double(second))
            scene.fail(try #require(scene.choice(now)), EHOSTUNREACH, now)
        }
        #expect((0..<3).allSatisfy { !scene.isExcluded($0, Self.at(9)) })
    }

    @Test func theOtherDestinationsOfASourceAreNotTouched() throws {
        let scene = try Scene(Self.three)
        try scene.succeed(member: 1, Self.at(0))
        scene.fail(try #require(scene.choice(Self.at(1), tried: 0b110)), ETIMEDOUT, Self.at(1))
        #expect(scene.isExcluded(0, Self.at(1)))
        #expect(!scene.isExcluded(0, Self.at(1), to: SocketAddress(scene.destination.ip, port: 444)))
    }

    /// EADDRNOTAVAIL with many ports counted says that the kernel has none, not that the address is gone.
    @Test(arguments: [(69, true), (70, false), (80, false)])
    func noPortFreeIsToldFromAnAddressThatIsGone(used: Int, isGone: Bool) throws {
        let scene = try Scene(Self.three, limit: 80)
        try scene.succeed(member: 1, Self.at(0))
        for _ in 1..<used { _ = scene.choice(Self.at(1), tried: 0b110) }
        scene.fail(try #require(scene.choice(Self.at(1), tried: 0b110)), EADDRNOTAVAIL, Self.at(1))
        #expect(scene.isExcluded(0, Self.at(1)) == isGone)
    }

    @Test func afterAnExclusionOneConnectTriesAndTheOthersWait() throws {
        let scene = try Scene(["10.0.0.1", "10.0.0.2"])
        try scene.succeed(member: 1, Self.at(0))
        scene.fail(try #require(scene.choice(Self.at(0), tried: 0b10)), ETIMEDOUT, Self.at(0))
        #expect(scene.addresses(2, Self.at(29.9)) == [2, 2])
        let trial = try #require(scene.choice(Self.at(30)))
        #expect(trial.address == IPAddress(10, 0, 0, 1))
        #expect(scene.addresses(3, Self.at(30)) == [2, 2, 2])
        scene.succeed(trial, Self.at(31))
        #expect(scene.addresses(1, Self.at(31)) == [1])
    }

    @Test func aTrialThatFailsExcludesForTwiceAsLong() throws {
        let scene = try Scene(["10.0.0.1", "10.0.0.2"])
        try scene.succeed(member: 1, Self.at(0))
        scene.fail(try #require(scene.choice(Self.at(0), tried: 0b10)), ETIMEDOUT, Self.at(0))
        let trial = try #require(scene.choice(Self.at(30), tried: 0b10))
        scene.fail(trial, ETIMEDOUT, Self.at(32))
        #expect(scene.choice(Self.at(91.9))?.address == IPAddress(10, 0, 0, 2))
        #expect(scene.choice(Self.at(92))?.address == IPAddress(10, 0, 0, 1))
    }

    @Test func whereAllAreExcludedTheOneWhoseTimeEndsFirstIsTried() throws {
        let scene = try Scene(Self.three)
        for (member, second) in [(1, 10.0), (2, 5), (0, 15)] {
            let choice = try #require(scene.choice(Self.at(0), tried: ~(1 << UInt64(member))))
            scene.ledger.exclude(choice.entry, now: Self.at(second))
            scene.ledger.release(choice.entry, leavesTimeWait: false, now: Self.at(second))
        }
        #expect(scene.choice(Self.at(20))?.member == 2)
        #expect(scene.choice(Self.at(20), tried: 0b100)?.member == 1)
    }

    @Test func anExcludedOneServesWhereAllOthersAreFull() throws {
        let scene = try Scene(["10.0.0.1", "10.0.0.2"], limit: 2)
        try scene.succeed(member: 1, Self.at(0))
        scene.fail(try #require(scene.choice(Self.at(0), tried: 0b10)), ETIMEDOUT, Self.at(0))
        #expect(scene.addresses(5, Self.at(1)) == [2, 2, 1, 1, nil])
    }
}
