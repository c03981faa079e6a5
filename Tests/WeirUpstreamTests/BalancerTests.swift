import Testing
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

/// One cluster under one balancer, with endpoints known by their number, 1...: the last octet of their address.
private final class Bench {
    private let balance: Cluster.Balance
    private var table: RouteTable
    private var balancer: Balancer
    private var now = Instant(nanoseconds: 1_000_000_000_000)

    init(_ endpoints: [Endpoint], balance: Cluster.Balance = .roundRobin, rotation: Int = 0) {
        self.balance = balance
        table = Self.table(endpoints, "c", balance, 1)
        balancer = Balancer(view: table.view, rotation: rotation)
    }

    private static func table(
        _ endpoints: [Endpoint], _ cluster: String, _ balance: Cluster.Balance, _ generation: UInt64
    ) -> RouteTable {
        var configuration = Configuration()
        configuration.clusters = [Cluster(name: cluster, endpoints: endpoints)]
        configuration.clusters[0].balance = balance
        return RouteTable(compiling: configuration, slots: [:], generation: generation) { subject in
            // The same part has the same number in every configuration.
            switch subject {
            case .endpoint(_, let description):
                Int32(truncatingIfNeeded: description.utf8.reduce(7) { $0 &* 31 &+ Int($1) })
            case .cluster(let name): Int32(truncatingIfNeeded: name.utf8.reduce(7) { $0 &* 31 &+ Int($1) })
            default: -1
            }
        }
    }

    func adopt(_ endpoints: [Endpoint], cluster: String = "c") {
        let next = Self.table(endpoints, cluster, balance, table.view.generation + 1)
        balancer.adopt(next.view)
        table = next
    }

    func pass(_ duration: Duration) { now = now.advanced(byNanoseconds: duration.clampedNanoseconds) }

    private func number(_ index: Int) -> Int {
        guard case .address(let address) = table.view.endpoints[index].host else { return -1 }
        return Int(address.byte(3))
    }

    private func index(_ number: Int) -> Int {
        table.view.endpoints.indices.first { self.number($0) == number } ?? -1
    }

    /// `client`: its number.
    func plan(attempts: Int = 3, client: Int = 0) -> [Int] {
        let address = IPAddress(v4: 0xc000_0200 + UInt32(client))
        let plan = balancer.plan(cluster: 0, client: StableHash.of(address), now: now, attempts: attempts)
        return (0..<plan.count).map { number(plan[$0]) }
    }

    /// A session: endpoints are tried in the plan's order, and the dead ones fail. Who served, or nil.
    func session(dead: Set<Int> = [], attempts: Int = 3) -> Int? {
        for one in plan(attempts: attempts) {
            if dead.contains(one) {
                fail(one)
            } else {
                succeed(one)
                return one
            }
        }
        return nil
    }

    /// How many of `count` sessions each endpoint served; 0 stands for none.
    func split(_ count: Int, dead: Set<Int> = []) -> [Int: Int] {
        var served: [Int: Int] = [:]
        for _ in 0..<count { served[session(dead: dead) ?? 0, default: 0] += 1 }
        return served
    }

    func fail(_ one: Int) { balancer.failed(endpoint: index(one), now: now) }
    func succeed(_ one: Int) { balancer.succeeded(endpoint: index(one), now: now) }
    func isResting(_ one: Int) -> Bool { balancer.isResting(endpoint: index(one), now: now) }
}

private func endpoint(
    _ number: UInt8, weight: Int = 1, priority: Int = 0, isDown: Bool = false, maxFails: Int = 1
) -> Endpoint {
    var endpoint = Endpoint(host: .address(IPAddress(192, 0, 2, number)), port: 443)
    endpoint.weight = weight
    endpoint.priority = priority
    endpoint.isDown = isDown
    endpoint.maxFails = maxFails
    endpoint.failTimeout = .seconds(10)
    return endpoint
}

@Suite("UP-01: exact splits") struct BalancerSplitTests {
    @Test func twoEqualEndpointsShareThirtySessionsEvenly() {
        #expect(Bench([endpoint(1), endpoint(2)]).split(30) == [1: 15, 2: 15])
    }

    @Test func weightsOneAndTwoServeTenAndTwenty() {
        #expect(Bench([endpoint(1), endpoint(2, weight: 2)]).split(30) == [1: 10, 2: 20])
    }

    @Test func aHeavyEndpointIsNotServedInOneRun() {
        let bench = Bench([endpoint(1, weight: 5), endpoint(2), endpoint(3)])
        #expect((0..<7).map { _ in bench.session() } == [1, 1, 2, 1, 3, 1, 1])
    }

    @Test func howManyMayBeTriedDoesNotChangeTheSplit() {
        for attempts in 1...8 {
            let bench = Bench([endpoint(1), endpoint(2, weight: 2)])
            var first: [Int: Int] = [:]
            for _ in 0..<30 { first[bench.plan(attempts: attempts)[0], default: 0] += 1 }
            #expect(first == [1: 10, 2: 20])
        }
    }

    @Test func workersInTurnBeginWithDifferentEndpoints() {
        let endpoints = [endpoint(1), endpoint(2), endpoint(3)]
        #expect((0..<4).map { Bench(endpoints, rotation: $0).session() } == [1, 2, 3, 1])
        #expect(Bench(endpoints, rotation: 2).split(30) == [1: 10, 2: 10, 3: 10])
    }

    @Test func clustersTakeTheirTurnsApart() {
        var configuration = Configuration()
        configuration.clusters = [
            Cluster(name: "a", endpoints: [endpoint(1), endpoint(2)]),
            Cluster(name: "b", endpoints: [endpoint(1), endpoint(2)]),
        ]
        let table = RouteTable(compiling: configuration, slots: [:], generation: 1) { _ in 0 }
        withExtendedLifetime(table) {
            var balancer = Balancer(view: table.view)
            let now = Instant(nanoseconds: 1)
            let chosen = [0, 1, 0, 1].map { balancer.plan(cluster: $0, client: 0, now: now, attempts: 1)[0] }
            #expect(chosen == [0, 2, 1, 3])
        }
    }
}

@Suite("UP-01 and UP-02: what a plan holds") struct BalancerPlanTests {
    @Test func aPlanNamesEachEndpointOnce() {
        let bench = Bench((1...10).map { endpoint($0) })
        for _ in 0..<20 {
            let plan = bench.plan(attempts: 8)
            #expect(plan.count == 8)
            #expect(Set(plan).count == 8)
        }
    }

    @Test func aPlanIsNoLongerThanItsAttempts() {
        let bench = Bench([endpoint(1), endpoint(2), endpoint(3)])
        #expect(bench.plan(attempts: 1) == [1])
        #expect(bench.plan(attempts: 2).count == 2)
        #expect(bench.plan(attempts: 8).count == 3)
    }

    @Test func withOneDeadPeerTheSecondCandidateIsTheOther() {
        let bench = Bench([endpoint(1), endpoint(2)])
        #expect(bench.plan(attempts: 2) == [1, 2])
        #expect(bench.plan(attempts: 2) == [2, 1])
    }

    @Test func oneDeadPeerIsNoClientsError() {
        #expect(Bench([endpoint(1), endpoint(2)]).split(30, dead: [2]) == [1: 30])
        #expect(Bench([endpoint(1, maxFails: 0), endpoint(2, maxFails: 0)]).split(30, dead: [1]) == [2: 30])
    }

    @Test func theHeavierOfTheOthersStandsByFirst() {
        let bench = Bench([endpoint(1), endpoint(2, weight: 3), endpoint(3, weight: 2)])
        #expect(bench.plan() == [2, 3, 1])
    }

    @Test("UP-02: an endpoint that is down is never tried nor counted") func downEndpointsAreNotTriedNorCounted() {
        let bench = Bench([endpoint(1, isDown: true), endpoint(2), endpoint(3, isDown: true), endpoint(4)])
        for _ in 0..<4 { #expect(Set(bench.plan(attempts: 2)) == [2, 4]) }
    }

    @Test("UP-02: with all down there is nothing to try") func withAllDownThePlanIsEmpty() {
        #expect(Bench([endpoint(1, isDown: true), endpoint(2, priority: 1, isDown: true)]).plan().isEmpty)
    }
}

@Suite("UP-01: backup groups") struct BalancerPriorityTests {
    private func bench() -> Bench {
        Bench([endpoint(1), endpoint(2), endpoint(3, priority: 1), endpoint(4, priority: 2)])
    }

    @Test func backupsServeOnlyWhenTheFirstGroupHasFailed() {
        #expect(bench().split(20) == [1: 10, 2: 10])
        #expect(bench().split(20, dead: [1]) == [2: 20])
        #expect(bench().split(20, dead: [1, 2]) == [3: 20])
    }

    @Test func aPlanGoesThroughTheGroupsInTheirOrder() {
        let bench = bench()
        #expect(bench.plan(attempts: 8) == [1, 2, 3, 4])
        #expect(bench.plan(attempts: 8) == [2, 1, 3, 4])
        #expect(bench.plan(attempts: 2) == [1, 2])
    }

    @Test func thePrimaryServesAgainOnceItHasRecovered() {
        let bench = bench()
        #expect(bench.split(10, dead: [1, 2]) == [3: 10])
        bench.pass(.seconds(11))
        // The weight that failures took comes back by one with each choice.
        _ = bench.split(2)
        #expect(bench.split(10) == [1: 5, 2: 5])
    }

    @Test func aGroupThatIsDownIsPassedOver() {
        #expect(Bench([endpoint(1, isDown: true), endpoint(2, priority: 1)]).split(5) == [2: 5])
    }
}

@Suite("UP-01: failures and recovery") struct BalancerFailureTests {
    @Test func anEndpointRestsAfterItsFailuresAndNotBefore() {
        let bench = Bench([endpoint(1, maxFails: 3), endpoint(2)])
        bench.fail(1)
        bench.fail(1)
        #expect(!bench.isResting(1))
        bench.fail(1)
        #expect(bench.isResting(1))
        #expect(bench.plan() == [2])
    }

    @Test func aRestEndsAfterItsTimeout() {
        let bench = Bench([endpoint(1), endpoint(2)])
        bench.fail(1)
        bench.pass(.seconds(10))
        #expect(bench.isResting(1))
        bench.pass(.nanoseconds(1))
        #expect(!bench.isResting(1))
    }

    @Test func afterARestOneSessionTriesAndTheOthersWaitForIt() {
        let bench = Bench([endpoint(1), endpoint(2)])
        bench.fail(1)
        bench.pass(.seconds(11))
        let plans = (0..<4).map { _ in bench.plan() }
        #expect(plans.count { $0.first == 1 } == 1)
        #expect(plans.last == [2])
    }

    @Test func anEndpointThatFailsItsTryRestsAgainAtOnce() {
        let bench = Bench([endpoint(1, maxFails: 3), endpoint(2)])
        for _ in 0..<3 { bench.fail(1) }
        bench.pass(.seconds(11))
        #expect(!bench.isResting(1))
        bench.fail(1)
        #expect(bench.isResting(1))
    }

    @Test func anEndpointThatPassesItsTryIsAsGoodAsNew() {
        let bench = Bench([endpoint(1, maxFails: 2), endpoint(2)])
        bench.fail(1)
        bench.fail(1)
        bench.pass(.seconds(11))
        bench.succeed(1)
        bench.fail(1)
        #expect(!bench.isResting(1))
    }

    /// Failures within the timeout add up although some connects succeed between them (nginx's `max_fails`).
    @Test func aSuccessWithinTheTimeoutForgivesNothing() {
        let bench = Bench([endpoint(1, maxFails: 2), endpoint(2)])
        bench.fail(1)
        bench.pass(.seconds(1))
        bench.succeed(1)
        bench.fail(1)
        #expect(bench.isResting(1))
    }

    @Test func withoutMaxFailsAnEndpointNeverRests() {
        let bench = Bench([endpoint(1, maxFails: 0), endpoint(2)])
        for _ in 0..<100 { bench.fail(1) }
        #expect(!bench.isResting(1))
        #expect(bench.split(10) == [1: 5, 2: 5])
    }

    @Test func aFailingEndpointLosesWeightAndRegainsIt() {
        let bench = Bench([endpoint(1, weight: 100, maxFails: 4), endpoint(2, weight: 100, maxFails: 0)])
        bench.fail(1)
        bench.fail(1)
        // Half is left, and one more with each choice.
        #expect(bench.split(12) == [1: 4, 2: 8])
        _ = bench.split(100)
        #expect(bench.split(40) == [1: 20, 2: 20])
    }

    @Test func whereAllRestAllOfTheBestGroupAreTried() {
        let bench = Bench([endpoint(1), endpoint(2), endpoint(3, priority: 1)])
        for one in 1...3 { bench.fail(one) }
        #expect(Set(bench.plan()) == [1, 2])
        #expect(bench.split(10) == [1: 5, 2: 5])
    }

    @Test func aSingleEndpointIsAlwaysTried() {
        let bench = Bench([endpoint(1)])
        for _ in 0..<5 {
            bench.fail(1)
            #expect(bench.plan() == [1])
        }
    }

    @Test func manyFailuresDoNotOverflowTheirCount() {
        let bench = Bench([endpoint(1, maxFails: Int(Int32.max)), endpoint(2)])
        for _ in 0..<1000 { bench.fail(1) }
        #expect(!bench.isResting(1))
    }
}

@Suite("UP-13: a new configuration") struct BalancerAdoptionTests {
    @Test func anEndpointThatStaysGoesOnResting() {
        let bench = Bench([endpoint(1), endpoint(2), endpoint(3)])
        bench.fail(2)
        bench.adopt([endpoint(4), endpoint(3), endpoint(2)])
        #expect(bench.isResting(2))
        #expect(!bench.isResting(3))
        #expect(bench.split(10) == [3: 5, 4: 5])
    }

    @Test func aRestEndsAtItsOwnTimeAcrossAReload() {
        let bench = Bench([endpoint(1), endpoint(2)])
        bench.fail(2)
        bench.pass(.seconds(6))
        bench.adopt([endpoint(1), endpoint(2)])
        bench.pass(.seconds(5))
        #expect(!bench.isResting(2))
    }

    @Test func theSameAddressInAnotherClusterIsAnotherEndpoint() {
        let bench = Bench([endpoint(1), endpoint(2)])
        bench.fail(2)
        bench.adopt([endpoint(1), endpoint(2)], cluster: "d")
        #expect(!bench.isResting(2))
    }

    @Test func anEndpointThatWentAndCameBackStartsAfresh() {
        let bench = Bench([endpoint(1), endpoint(2)])
        bench.fail(2)
        bench.adopt([endpoint(1)])
        bench.adopt([endpoint(1), endpoint(2)])
        #expect(!bench.isResting(2))
    }

    @Test func outcomesOfPlansFromBeforeAreOfNoAccount() {
        var configuration = Configuration()
        configuration.clusters = [Cluster(name: "c", endpoints: [endpoint(1), endpoint(2)])]
        let before = RouteTable(compiling: configuration, slots: [:], generation: 1) { _ in 0 }
        configuration.clusters[0].endpoints = [endpoint(3)]
        let after = RouteTable(compiling: configuration, slots: [:], generation: 2) { _ in 0 }
        let now = Instant(nanoseconds: 1)
        var balancer = Balancer(view: before.view)
        let plan = balancer.plan(cluster: 0, client: 0, now: now, attempts: 2)
        balancer.adopt(after.view)
        withExtendedLifetime((before, after)) {
            for position in 0..<plan.count {
                balancer.failed(endpoint: plan[position], generation: plan.generation, now: now)
            }
            let isResting = balancer.isResting(endpoint: 0, now: now)
            #expect(!isResting)
        }
    }

    @Test func newWeightsHoldAtOnce() {
        let bench = Bench([endpoint(1), endpoint(2)])
        _ = bench.split(3)
        bench.adopt([endpoint(1), endpoint(2, weight: 2)])
        #expect(bench.split(30) == [1: 10, 2: 20])
    }
}

@Suite("S2-6: the client's address decides") struct HashTests {
    private static let clients = 0..<20_000

    /// Whom each client is served by.
    private func servers(_ bench: Bench) -> [Int] { Self.clients.map { bench.plan(attempts: 1, client: $0)[0] } }

    @Test func aClientKeepsItsEndpoint() {
        let bench = Bench((1...10).map { endpoint($0) }, balance: .sourceHash)
        #expect(servers(bench) == servers(bench))
    }

    @Test(arguments: [2, 3, 5, 10, 50, 200])
    func whenOneOfManyLeavesNoMoreThanItsClientsAndAHundredthMove(count: Int) {
        let endpoints = (1...count).map { endpoint(UInt8($0)) }
        let bench = Bench(endpoints, balance: .sourceHash)
        let before = servers(bench)
        let leaver = count / 2 + 1
        bench.adopt(endpoints.filter { $0 != endpoint(UInt8(leaver)) })
        let after = servers(bench)
        let movedCount = zip(before, after).count { $0 != $1 }
        let ownCount = before.count { $0 == leaver }
        #expect(movedCount - ownCount <= Self.clients.count / 100)
        #expect(Double(ownCount) / Double(Self.clients.count) <= 1 / Double(count) + 0.01)
    }

    @Test func whenOneRestsItsClientsMoveAndComeBack() {
        let bench = Bench((1...5).map { endpoint($0) }, balance: .sourceHash)
        let before = servers(bench)
        bench.fail(3)
        let meanwhile = servers(bench)
        #expect(zip(before, meanwhile).allSatisfy { $0 == $1 || $0 == 3 && $1 != 3 })
        // To all the others, not to one.
        #expect(Set(zip(before, meanwhile).filter { $0.0 == 3 }.map(\.1)) == [1, 2, 4, 5])
        bench.pass(.seconds(11))
        bench.succeed(3)
        #expect(servers(bench) == before)
    }

    @Test func aPlanHasEachEndpointOnceWhateverTheClient() {
        let bench = Bench((1...4).map { endpoint($0) }, balance: .sourceHash)
        for client in 0..<200 { #expect(bench.plan(attempts: 8, client: client).sorted() == [1, 2, 3, 4]) }
    }

    @Test func aBackupServesOnlyWhileTheOthersRest() {
        var backup = endpoint(2)
        backup.priority = 1
        let bench = Bench([endpoint(1), backup], balance: .sourceHash)
        #expect(Set(servers(bench)) == [1])
        bench.fail(1)
        #expect(Set(servers(bench)) == [2])
    }

    @Test func addressesOfIPv4MappedIntoIPv6AreTheSameClient() throws {
        let mapped = try #require(IPAddress("::ffff:192.0.2.7"))
        #expect(StableHash.of(mapped) == StableHash.of(IPAddress(192, 0, 2, 7)))
    }

    @Test func equalWeightsHaveEqualSlots() {
        let slots = MaglevTable.slots((1...7).map { ("10.0.0.\($0):443", 1) })
        let counts = (0..<7).map { index in slots.count { $0 == index } }
        #expect(counts.max()! - counts.min()! <= 1)
    }

    @Test func slotsFollowWeights() {
        let weights = [1, 2, 7]
        let slots = MaglevTable.slots(weights.enumerated().map { ("10.0.0.\($0.offset):443", $0.element) })
        for (index, weight) in weights.enumerated() {
            let share = Double(slots.count { $0 == index }) / Double(slots.count)
            #expect(abs(share - Double(weight) / 10) < 0.01)
        }
    }
}
