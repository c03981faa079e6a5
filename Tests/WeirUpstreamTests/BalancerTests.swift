import Testing
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

@Suite("UP-01: exact splits") struct BalancerSplitTests {
    @Test func twoEqualEndpointsShareThirtySessionsEvenly() {
        #expect(ClusterBench([endpoint(1), endpoint(2)]).split(30) == [1: 15, 2: 15])
    }

    @Test func weightsOneAndTwoServeTenAndTwenty() {
        #expect(ClusterBench([endpoint(1), endpoint(2, weight: 2)]).split(30) == [1: 10, 2: 20])
    }

    @Test func aHeavyEndpointIsNotServedInOneRun() {
        let bench = ClusterBench([endpoint(1, weight: 5), endpoint(2), endpoint(3)])
        #expect((0..<7).map { _ in bench.session() } == [1, 1, 1, 2, 1, 3, 1])
    }

    @Test func aThousandEndpointsOfManyWeightsGetTheirExactShares() {
        let bench = ClusterBench((1...1000).map { endpoint($0, weight: 1 + $0 % 3) })
        let total = (1...1000).reduce(0) { $0 + 1 + $1 % 3 }
        let served = bench.split(2 * total)
        #expect((1...1000).allSatisfy { served[$0] == 2 * (1 + $0 % 3) })
    }

    @Test func turnsGoOnWhenSomebodyComesOrGoes() {
        let bench = ClusterBench((1...4).map { endpoint($0, maxFails: 0) })
        for round in 0..<50 {
            bench.report(1 + round % 4, .unhealthy)
            _ = bench.split(3)
            bench.report(1 + round % 4, .healthy)
        }
        let served = bench.split(400)
        #expect(served == [1: 100, 2: 100, 3: 100, 4: 100])
    }

    @Test func workersInTurnBeginWithDifferentEndpoints() {
        let endpoints = [endpoint(1), endpoint(2), endpoint(3)]
        #expect((0..<4).map { ClusterBench(endpoints, rotation: $0).session() } == [1, 2, 3, 1])
        #expect(ClusterBench(endpoints, rotation: 2).split(30) == [1: 10, 2: 10, 3: 10])
    }

    @Test func clustersTakeTheirTurnsApart() {
        var configuration = Configuration()
        configuration.clusters = [
            Cluster(name: "a", endpoints: [endpoint(1), endpoint(2)]),
            Cluster(name: "b", endpoints: [endpoint(1), endpoint(2)]),
        ]
        let table = RouteTable(compiling: configuration, slots: [:], generation: 1) { _ in 0 }
        withExtendedLifetime(table) {
            var balancer = Balancer(view: table.view, board: EndpointBoard())
            let now = Instant(nanoseconds: 1)
            let chosen = [0, 1, 0, 1].map { balancer.choose(cluster: $0, client: 0, tried: TriedEndpoints(), now: now) }
            #expect(chosen == [0, 2, 1, 3])
        }
    }
}

@Suite("UP-01 and UP-02: whom a session tries") struct BalancerAttemptTests {
    @Test func aSessionTriesEachEndpointOnce() {
        let bench = ClusterBench((1...10).map { endpoint($0) })
        for _ in 0..<20 {
            let plan = bench.plan(attempts: 8)
            #expect(plan.count == 8)
            #expect(Set(plan).count == 8)
        }
    }

    @Test func aSessionTriesNoMoreThanThereAre() {
        let bench = ClusterBench([endpoint(1), endpoint(2), endpoint(3)])
        #expect(bench.plan(attempts: 8).count == 3)
    }

    @Test func oneDeadPeerIsNoClientsError() {
        #expect(ClusterBench([endpoint(1), endpoint(2)]).split(30, dead: [2]) == [1: 30])
        #expect(ClusterBench([endpoint(1, maxFails: 0), endpoint(2, maxFails: 0)]).split(30, dead: [1]) == [2: 30])
    }

    @Test("UP-02: an endpoint that is down is never tried nor counted") func downEndpointsAreNotTriedNorCounted() {
        let bench = ClusterBench([endpoint(1, isDown: true), endpoint(2), endpoint(3, isDown: true), endpoint(4)])
        for _ in 0..<4 { #expect(Set(bench.plan(attempts: 2)) == [2, 4]) }
    }

    @Test("UP-02: with all down there is nothing to try") func withAllDownThereIsNobody() {
        #expect(ClusterBench([endpoint(1, isDown: true), endpoint(2, priority: 1, isDown: true)]).plan().isEmpty)
    }
}

@Suite("UP-01: backup groups") struct BalancerPriorityTests {
    private func bench() -> ClusterBench {
        ClusterBench([endpoint(1), endpoint(2), endpoint(3, priority: 1), endpoint(4, priority: 2)])
    }

    @Test func backupsServeOnlyWhenTheFirstGroupHasFailed() {
        #expect(bench().split(20) == [1: 10, 2: 10])
        #expect(bench().split(20, dead: [1]) == [2: 20])
        #expect(bench().split(20, dead: [1, 2]) == [3: 20])
    }

    @Test func aSessionGoesThroughTheGroupsInTheirOrder() {
        let bench = bench()
        #expect(bench.plan(attempts: 8) == [1, 2, 3, 4])
    }

    @Test func thePrimaryServesAgainOnceItHasRecovered() {
        let bench = bench()
        #expect(bench.split(10, dead: [1, 2]) == [3: 10])
        bench.pass(.seconds(11))
        // One session each tries whether they have recovered.
        _ = bench.split(2)
        #expect(bench.split(10) == [1: 5, 2: 5])
    }

    @Test func aGroupThatIsDownIsPassedOver() {
        #expect(ClusterBench([endpoint(1, isDown: true), endpoint(2, priority: 1)]).split(5) == [2: 5])
    }
}

@Suite("UP-01: failures and recovery") struct BalancerFailureTests {
    @Test func anEndpointRestsAfterItsFailuresAndNotBefore() {
        let bench = ClusterBench([endpoint(1, maxFails: 3), endpoint(2)])
        bench.fail(1)
        bench.fail(1)
        #expect(!bench.isOut(1))
        bench.fail(1)
        #expect(bench.isOut(1))
        #expect(bench.plan() == [2])
    }

    @Test func aRestEndsAfterItsTimeout() {
        let bench = ClusterBench([endpoint(1), endpoint(2)])
        bench.fail(1)
        bench.pass(.seconds(10))
        #expect(bench.isOut(1))
        bench.pass(.nanoseconds(1))
        #expect(!bench.isOut(1))
    }

    @Test func afterARestOneSessionTriesAndTheOthersWaitForIt() {
        let bench = ClusterBench([endpoint(1), endpoint(2)])
        bench.fail(1)
        bench.pass(.seconds(11))
        let first = (0..<4).map { _ in bench.plan(attempts: 1) }
        #expect(first.count { $0 == [1] } == 1)
        #expect(bench.plan() == [2])
    }

    @Test func anEndpointThatFailsItsTryRestsAgainAtOnce() {
        let bench = ClusterBench([endpoint(1, maxFails: 3), endpoint(2)])
        for _ in 0..<3 { bench.fail(1) }
        bench.pass(.seconds(11))
        #expect(!bench.isOut(1))
        bench.fail(1)
        #expect(bench.isOut(1))
    }

    @Test func anEndpointThatPassesItsTryIsAsGoodAsNew() {
        let bench = ClusterBench([endpoint(1, maxFails: 2), endpoint(2)])
        bench.fail(1)
        bench.fail(1)
        bench.pass(.seconds(11))
        bench.succeed(1)
        bench.fail(1)
        #expect(!bench.isOut(1))
    }

    /// Failures within the timeout add up although some connects succeed between them (nginx's `max_fails`).
    @Test func aSuccessWithinTheTimeoutForgivesNothing() {
        let bench = ClusterBench([endpoint(1, maxFails: 2), endpoint(2)])
        bench.fail(1)
        bench.pass(.seconds(1))
        bench.succeed(1)
        bench.fail(1)
        #expect(bench.isOut(1))
    }

    @Test func withoutMaxFailsAnEndpointNeverRests() {
        let bench = ClusterBench([endpoint(1, maxFails: 0), endpoint(2)])
        for _ in 0..<100 { bench.fail(1) }
        #expect(!bench.isOut(1))
        #expect(bench.split(10) == [1: 5, 2: 5])
    }

    @Test func whereAllRestAllOfTheBestGroupAreTried() {
        let bench = ClusterBench([endpoint(1), endpoint(2), endpoint(3, priority: 1)])
        for one in 1...3 { bench.fail(one) }
        #expect((0..<10).allSatisfy { _ in bench.plan(attempts: 1) != [3] })
    }

    @Test func aSingleEndpointIsAlwaysTried() {
        let bench = ClusterBench([endpoint(1)])
        for _ in 0..<5 {
            bench.fail(1)
            #expect(bench.plan() == [1])
        }
    }

    @Test func manyFailuresDoNotOverflowTheirCount() {
        let bench = ClusterBench([endpoint(1, maxFails: Int(Int32.max)), endpoint(2)])
        for _ in 0..<1000 { bench.fail(1) }
        #expect(!bench.isOut(1))
    }
}

@Suite("UP-13: a new configuration") struct BalancerAdoptionTests {
    @Test func anEndpointThatStaysGoesOnResting() {
        let bench = ClusterBench([endpoint(1), endpoint(2), endpoint(3)])
        bench.fail(2)
        bench.adopt([endpoint(4), endpoint(3), endpoint(2)])
        #expect(bench.isOut(2))
        #expect(!bench.isOut(3))
        #expect(bench.split(10) == [3: 5, 4: 5])
    }

    @Test func aRestEndsAtItsOwnTimeAcrossAReload() {
        let bench = ClusterBench([endpoint(1), endpoint(2)])
        bench.fail(2)
        bench.pass(.seconds(6))
        bench.adopt([endpoint(1), endpoint(2)])
        bench.pass(.seconds(5))
        #expect(!bench.isOut(2))
    }

    @Test func theSameAddressInAnotherClusterIsAnotherEndpoint() {
        let bench = ClusterBench([endpoint(1), endpoint(2)])
        bench.fail(2)
        bench.adopt([endpoint(1), endpoint(2)], cluster: "d")
        #expect(!bench.isOut(2))
    }

    @Test func anEndpointThatWentAndCameBackStartsAfresh() {
        let bench = ClusterBench([endpoint(1), endpoint(2)])
        bench.fail(2)
        bench.adopt([endpoint(1)])
        bench.adopt([endpoint(1), endpoint(2)])
        #expect(!bench.isOut(2))
    }

    @Test func turnsGoOnWhereTheyWere() {
        let endpoints = [endpoint(1), endpoint(2), endpoint(3)]
        let bench = ClusterBench(endpoints)
        let served = (0..<6).map { _ in
            bench.adopt(endpoints)
            return bench.session()
        }
        #expect(served == [1, 2, 3, 1, 2, 3])
    }

    @Test func turnsOfAnEndpointWithLessWeightComeToo() {
        let endpoints = [endpoint(1, weight: 3), endpoint(2)]
        let bench = ClusterBench(endpoints)
        let served = (0..<8).map { _ in
            bench.adopt(endpoints)
            return bench.session()
        }
        #expect(served.filter { $0 == 2 }.count == 2)
    }

    @Test func newWeightsHoldAtOnce() {
        let bench = ClusterBench([endpoint(1), endpoint(2)])
        _ = bench.split(3)
        bench.adopt([endpoint(1), endpoint(2, weight: 2)])
        #expect(bench.split(30) == [1: 10, 2: 20])
    }
}
