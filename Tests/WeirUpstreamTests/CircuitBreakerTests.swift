import Testing
import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

private func limited(_ number: Int, _ connections: Int, weight: Int = 1, priority: Int = 0) -> Endpoint {
    var endpoint = endpoint(number, weight: weight, priority: priority)
    endpoint.connectionsMax = connections
    return endpoint
}

private let balances: [Cluster.Balance] = [.roundRobin, .leastConnections, .random, .sourceHash]

@Suite("UP-03: as many sessions as an endpoint may have") struct ConnectionsMaxTests {
    @Test(arguments: balances) func anEndpointGetsNoMoreThanItMayHave(balance: Cluster.Balance) {
        let bench = ClusterBench([limited(1, 2), limited(2, 3)], balance: balance)
        let taken = (0..<8).map { bench.take(client: $0) }
        #expect(taken.count { $0 == 1 } == 2)
        #expect(taken.count { $0 == 2 } == 3)
        #expect(taken.suffix(3) == [nil, nil, nil])
    }

    @Test(arguments: balances) func aSessionThatEndsMakesRoom(balance: Cluster.Balance) {
        let bench = ClusterBench([limited(1, 1)], balance: balance)
        #expect(bench.take() == 1)
        #expect(bench.take() == nil)
        bench.leave(1)
        #expect(bench.take() == 1)
    }

    @Test func aSingleEndpointHasItsLimitToo() {
        let bench = ClusterBench([limited(1, 1)])
        #expect([bench.take(), bench.take()] == [1, nil])
    }

    @Test func aFullGroupGivesWayToItsBackup() {
        let bench = ClusterBench([limited(1, 1), limited(2, 1), limited(3, 1, priority: 1)])
        #expect((0..<4).map { _ in bench.take() } == [1, 2, 3, nil])
    }

    @Test func onlyThoseWithALimitAreHeldToIt() {
        let bench = ClusterBench([limited(1, 1), endpoint(2)])
        let taken = (0..<9).map { _ in bench.take() }
        #expect(taken.count { $0 == 1 } == 1)
        #expect(taken.count { $0 == 2 } == 8)
    }

    @Test func weightsHoldBelowTheLimits() {
        let bench = ClusterBench([limited(1, 100), limited(2, 100, weight: 2)])
        let taken = (0..<30).map { _ in bench.take() }
        #expect(taken.count { $0 == 1 } == 10)
    }

    @Test func theLimitHoldsOverAllWorkers() {
        let bench = ClusterBench([limited(1, 3)])
        let taken = (0..<6).map { bench.take(worker: $0 % 2) }
        #expect(taken == [1, 1, 1, nil, nil, nil])
    }

    @Test("UP-04: where all are saturated the choice ends") func whereAllAreSaturatedTheChoiceEnds() {
        for balance in balances {
            let bench = ClusterBench((1...100).map { limited($0, 1) }, balance: balance)
            let taken = (0..<200).map { bench.take(client: $0) }
            #expect(Set(taken.compactMap { $0 }).count == 100)
            #expect(taken.suffix(100).allSatisfy { $0 == nil })
        }
    }

    @Test func whoIsLeftOutByAReloadKeepsItsCountForWhenItComesBack() {
        let bench = ClusterBench([limited(1, 1), limited(2, 1)])
        #expect(bench.take() == 1)
        bench.adopt([limited(2, 1)])
        bench.adopt([limited(1, 1), limited(2, 1)])
        #expect(Set([bench.take(), bench.take()]) == [2, 1])
    }
}

@Suite("Fewest sessions") struct LeastConnectionsTests {
    @Test(arguments: [2, 5, 32]) func everySessionGoesWhereThereAreFewest(count: Int) {
        let bench = ClusterBench((1...count).map { endpoint($0) }, balance: .leastConnections)
        let taken = (0..<count).compactMap { bench.take(worker: $0 % 2) }
        #expect(Set(taken).count == count)
    }

    @Test func weightsSayHowManyAreFew() {
        let bench = ClusterBench([endpoint(1), endpoint(2, weight: 3)], balance: .leastConnections)
        let taken = (0..<40).compactMap { _ in bench.take() }
        #expect(taken.count { $0 == 1 } == 10)
    }

    @Test func whoHasLostItsSessionsIsNext() {
        let bench = ClusterBench((1...3).map { endpoint($0) }, balance: .leastConnections)
        for _ in 0..<30 { _ = bench.take() }
        for _ in 0..<5 { bench.leave(2) }
        #expect((0..<5).allSatisfy { _ in bench.take() == 2 })
    }

    @Test func ofManyTheBusiestGetNone() {
        let bench = ClusterBench((1...200).map { endpoint($0) }, balance: .leastConnections)
        for one in 1...20 { for _ in 0..<50 { _ = bench.board.enter(endpoint: bench.place(one), limit: .max) } }
        let taken = (0..<300).compactMap { _ in bench.take() }
        #expect(taken.allSatisfy { $0 > 20 })
    }

    @Test func theBetterOfTwoAvoidsWhoIsBusy() {
        let bench = ClusterBench((1...2).map { endpoint($0) }, balance: .random)
        for _ in 0..<100 { _ = bench.board.enter(endpoint: bench.place(1), limit: .max) }
        #expect((0..<50).allSatisfy { _ in bench.take() == 2 })
    }

    @Test func whatIsDrawnSpreadsOverAll() {
        let bench = ClusterBench((1...10).map { endpoint($0) }, balance: .random)
        let taken = (0..<1000).compactMap { _ in bench.take() }
        #expect((1...10).allSatisfy { one in (80...120).contains(taken.count { $0 == one }) })
    }
}

@Suite("Circuit breakers") struct ClusterLimitTests {
    private func bench(_ change: (inout ClusterLimits) -> Void) -> ClusterBench {
        ClusterBench([endpoint(1)]) { change(&$0.limits) }
    }

    private func enter(_ bench: ClusterBench) -> EndpointBoard.Admission {
        bench.board.enter(cluster: bench.clusterRecord, now: bench.now)
    }

    @Test func aClusterTakesNoMoreSessionsThanItMay() {
        let bench = bench { $0.connections = 2 }
        #expect((0..<3).map { _ in enter(bench) } == [.admitted, .admitted, .connections])
        bench.board.connected(cluster: bench.clusterRecord.place)
        bench.board.leave(cluster: bench.clusterRecord.place)
        #expect(enter(bench) == .admitted)
    }

    @Test func aClusterLetsNoMoreConnectAtOnceThanItMay() {
        let bench = bench { $0.pending = 1 }
        #expect([enter(bench), enter(bench)] == [.admitted, .pending])
        bench.board.connected(cluster: bench.clusterRecord.place)
        #expect(enter(bench) == .admitted)
    }

    @Test func whoIsRefusedIsNotCounted() {
        let bench = bench { $0.pending = 1 }
        for _ in 0..<10 { _ = enter(bench) }
        #expect(bench.board.connectionCount(cluster: bench.clusterRecord.place) == 1)
    }

    @Test func newSessionsAreHeldToTheirRate() {
        let bench = bench { $0.rate = RateLimit(10, burst: 2) }
        #expect((0..<3).map { _ in enter(bench) } == [.admitted, .admitted, .rate])
        bench.pass(.milliseconds(100))
        #expect((0..<2).map { _ in enter(bench) } == [.admitted, .rate])
    }
}
