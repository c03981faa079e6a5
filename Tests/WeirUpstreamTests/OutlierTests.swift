import Testing
import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

private func ejecting(
    _ count: Int, _ change: (inout OutlierDetection) -> Void = { _ in }
) -> ClusterBench {
    var outliers = OutlierDetection()
    outliers.ejectionPercentMax = 100
    change(&outliers)
    return ClusterBench((1...count).map { endpoint($0) }) { $0.outlierDetection = outliers }
}

@Suite("UP-05, P-05, S0-3: outlier detection") struct OutlierTests {
    @Test("P-05: the fifth failure in a row ejects, not a sweep after it") func theFifthFailureInARowEjects() {
        let bench = ejecting(3)
        #expect((1...5).map { _ in bench.fail(1) } == [false, false, false, false, true])
        #expect(bench.isOut(1))
        #expect(bench.split(10) == [2: 5, 3: 5])
    }

    @Test func failuresThatSuccessesInterruptDoNotEject() {
        let bench = ejecting(2)
        for _ in 0..<20 {
            for _ in 0..<4 { bench.fail(1) }
            bench.succeed(1)
        }
        #expect(!bench.isOut(1))
    }

    @Test("P-05: 30, 60, ... 300 seconds, exact to 100 ms") func everyEjectionLastsOneBaseLongerUpToTheCap() {
        let bench = ejecting(2)
        for n in 1...12 {
            for _ in 0..<5 { bench.fail(1) }
            let lasts = Duration.seconds(min(30 * n, 300))
            bench.pass(lasts - .milliseconds(100))
            #expect(bench.isOut(1))
            bench.pass(.milliseconds(100))
            #expect(!bench.isOut(1))
        }
    }

    @Test func whoStaysGoodForAnIntervalIsForgivenAnEjection() {
        let bench = ejecting(2)
        for _ in 1...3 {
            for _ in 0..<5 { bench.fail(1) }
            bench.pass(.seconds(300))
        }
        // Three so far; two are forgiven in the time since the end of the third, of 90 seconds.
        bench.pass(.seconds(0))
        for _ in 0..<5 { bench.fail(1) }
        bench.pass(.milliseconds(29_999))
        #expect(bench.isOut(1))
        bench.pass(.milliseconds(1))
        #expect(!bench.isOut(1))
    }

    @Test func failuresWhileEjectedDoNotCount() {
        let bench = ejecting(2)
        for _ in 0..<50 { bench.fail(1) }
        bench.pass(.seconds(30))
        #expect(!bench.isOut(1))
        #expect(!bench.fail(1))
    }

    @Test("UP-05: at least one may be ejected, whatever the percentage") func oneMayAlwaysBeEjected() {
        let bench = ejecting(4) { $0.ejectionPercentMax = 10 }
        for one in 1...2 { for _ in 0..<5 { bench.fail(one) } }
        #expect(bench.isOut(1))
        #expect(!bench.isOut(2))
    }

    @Test func noMoreThanThePercentageAreEjectedAtOnce() {
        let bench = ejecting(10) { $0.ejectionPercentMax = 30 }
        for one in 1...10 { for _ in 0..<5 { bench.fail(one) } }
        #expect((1...10).filter { bench.isOut($0) } == [1, 2, 3])
    }

    @Test func anEjectionThatIsOverMakesRoomForAnother() {
        let bench = ejecting(4) { $0.ejectionPercentMax = 10 }
        for _ in 0..<5 { bench.fail(1) }
        bench.pass(.seconds(30))
        for _ in 0..<5 { bench.fail(2) }
        #expect(!bench.isOut(1))
        #expect(bench.isOut(2))
    }

    @Test func whatOneWorkerEjectsNoOtherChooses() {
        let bench = ejecting(2)
        _ = bench.take(worker: 1)
        for _ in 0..<5 { bench.fail(1, worker: 0) }
        #expect((0..<6).allSatisfy { _ in bench.take(worker: 1) == 2 })
    }

    @Test func workersCountTheFailuresOfAllTogether() {
        let bench = ejecting(2)
        for index in 0..<5 { bench.fail(1, worker: index % 2) }
        #expect(bench.isOut(1))
    }

    @Test("UP-05: a check that succeeds again un-ejects") func aCheckThatSucceedsAgainUnEjects() {
        let bench = ejecting(2)
        for _ in 0..<5 { bench.fail(1) }
        bench.report(1, .unhealthy)
        bench.report(1, .healthy)
        #expect(!bench.isOut(1))
        #expect(bench.board.ejectedCount(cluster: bench.clusterRecord.place) == 0)
    }

    @Test("P-04: max_fails 1 takes an endpoint out with the connection that failed")
    func oneFailureIsEnoughForMaxFails() {
        let bench = ClusterBench([endpoint(1), endpoint(2)])
        #expect(bench.session(dead: [1]) == 2)
        #expect((0..<5).allSatisfy { _ in bench.take(worker: 1) == 2 })
    }

    @Test func anEjectionSurvivesAReload() {
        let bench = ejecting(3)
        for _ in 0..<5 { bench.fail(2) }
        bench.adopt([endpoint(3), endpoint(2), endpoint(7)])
        #expect(bench.isOut(2))
        bench.pass(.seconds(30))
        #expect(!bench.isOut(2))
    }

    @Test func whoLeftAndCameBackIsNotEjectedAndTakesNobodysPlace() {
        let bench = ejecting(2) { $0.ejectionPercentMax = 50 }
        for _ in 0..<5 { bench.fail(1) }
        bench.adopt([endpoint(2), endpoint(3)])
        bench.adopt([endpoint(1), endpoint(2)])
        #expect(!bench.isOut(1))
        for _ in 0..<5 { bench.fail(2) }
        #expect(bench.isOut(2))
    }

    @Test("panic: where too few are good all serve") func whereTooFewAreGoodAllServe() {
        let bench = ejecting(4) { $0.minHealthPercent = 50 }
        for one in 1...2 { bench.report(one, .unhealthy) }
        #expect(bench.split(8) == [3: 4, 4: 4])
        bench.report(3, .unhealthy)
        #expect(bench.split(8) == [1: 2, 2: 2, 3: 2, 4: 2])
        bench.report(3, .healthy)
        #expect(Set(bench.split(8).keys) == [3, 4])
    }

    @Test func whereNobodyIsGoodAllServe() {
        let bench = ejecting(2)
        for one in 1...2 { bench.report(one, .unhealthy) }
        #expect(bench.split(4) == [1: 2, 2: 2])
    }
}

@Suite("UP-06: what checks say") struct CheckedEndpointTests {
    @Test func anEndpointThatWasNeverCheckedServes() {
        #expect(ClusterBench([endpoint(1)]).take() == 1)
    }

    @Test func anUnhealthyOneDoesNotServe() {
        let bench = ClusterBench([endpoint(1), endpoint(2)])
        bench.report(1, .unhealthy)
        #expect(bench.split(4) == [2: 4])
        bench.report(1, .healthy)
        #expect(bench.split(4) == [1: 2, 2: 2])
    }

    @Test func healthSurvivesAReload() {
        let bench = ClusterBench([endpoint(1), endpoint(2)])
        bench.report(1, .unhealthy)
        bench.adopt([endpoint(1), endpoint(2), endpoint(3)])
        #expect(bench.split(4) == [2: 2, 3: 2])
    }
}

@Suite("S1-2: priorities that overflow") struct OverflowTests {
    private func bench() -> ClusterBench {
        let endpoints = (1...10).map { endpoint($0) } + (11...12).map { endpoint($0, priority: 1) }
        return ClusterBench(endpoints) { $0.overprovisioningFactor = 140 }
    }

    /// Of 1,000 sessions, those that the second group serves.
    private func overflow(_ bench: ClusterBench) -> Int {
        bench.split(1000).filter { $0.key > 10 }.reduce(0) { $0 + $1.value }
    }

    @Test func aGroupThatIsGoodEnoughServesAll() {
        let bench = bench()
        for one in 1...2 { bench.report(one, .unhealthy) }
        #expect(overflow(bench) == 0)
    }

    @Test func whatAGroupCannotTakeGoesToTheNext() {
        let bench = bench()
        for one in 1...5 { bench.report(one, .unhealthy) }
        // Half of it is good: 70 percent stay.
        #expect((250...350).contains(overflow(bench)))
    }

    @Test func withoutAFactorAGroupServesAllAsLongAsOneOfItIsGood() {
        let bench = ClusterBench((1...10).map { endpoint($0) } + [endpoint(11, priority: 1)])
        for one in 1...9 { bench.report(one, .unhealthy) }
        #expect(bench.split(10) == [10: 10])
        bench.report(10, .unhealthy)
        #expect(bench.split(10) == [11: 10])
    }

    @Test func whatNoGroupCanTakeIsSharedByWhatTheyCan() {
        let bench = bench()
        for one in 1...9 { bench.report(one, .unhealthy) }
        bench.report(11, .unhealthy)
        // 14 percent and 70 percent.
        #expect((780...880).contains(overflow(bench)))
    }
}

@Suite("S1-2: a cap on how many serve") struct ActiveEndpointTests {
    private func bench(_ balance: Cluster.Balance = .roundRobin) -> ClusterBench {
        ClusterBench((1...4).map { endpoint($0) }, balance: balance) { $0.activeCountMax = 2 }
    }

    @Test(arguments: [Cluster.Balance.roundRobin, .leastConnections, .random, .sourceHash])
    func onlySoManyServe(balance: Cluster.Balance) {
        let bench = bench(balance)
        #expect(Set((0..<40).compactMap { bench.take(client: $0) }) == [1, 2])
    }

    @Test("S1-3: the next takes the place of one that is lost, and gives it back") func standbysTakeOver() {
        let bench = bench()
        bench.report(1, .unhealthy)
        #expect(bench.split(10) == [2: 5, 3: 5])
        bench.report(2, .unhealthy)
        #expect(bench.split(10) == [3: 5, 4: 5])
        bench.report(1, .healthy)
        bench.report(2, .healthy)
        #expect(bench.split(10) == [1: 5, 2: 5])
    }

    @Test func whoIsTriedAgainKeepsNobodyOut() {
        let bench = bench()
        bench.fail(1)
        bench.pass(.seconds(11))
        let taken = Set((0..<20).compactMap { _ in bench.take() })
        #expect(taken.isSuperset(of: [2, 3]))
    }
}

@Suite("Slow start") struct SlowStartTests {
    @Test func anEndpointThatIsGoodAgainGetsItsShareOverTime() {
        let bench = ClusterBench([endpoint(1), endpoint(2)]) { $0.slowStart = .seconds(100) }
        bench.pass(.seconds(1000))
        bench.report(1, .unhealthy)
        _ = bench.split(10)
        bench.report(1, .healthy)
        #expect((5...15).contains(bench.split(110)[1] ?? 0))
        bench.pass(.seconds(50))
        #expect((25...45).contains(bench.split(105)[1] ?? 0))
        bench.pass(.seconds(51))
        _ = bench.split(10)
        #expect(bench.split(100)[1] == 50)
    }
}
