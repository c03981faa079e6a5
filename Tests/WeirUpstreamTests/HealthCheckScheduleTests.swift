import Testing
import WeirModel
import WeirNet
import WeirUpstream

/// When checks are due and what their results mean, in simulated time (UP-06, P-03, S1-3).
@Suite struct HealthCheckScheduleTests {
    private typealias Identity = HealthCheckSchedule.Identity
    private static let second: UInt64 = 1_000_000_000
    private static let start = Instant(nanoseconds: 1000 * second)

    private func timing(_ change: (inout HealthCheck) -> Void = { _ in }) -> HealthCheckSchedule.Timing {
        var check = HealthCheck(.tcp)
        change(&check)
        return HealthCheckSchedule.Timing(check)
    }

    private func list(
        _ count: Int, cluster: String = "c", _ timing: HealthCheckSchedule.Timing
    ) -> [(identity: Identity, timing: HealthCheckSchedule.Timing)] {
        (0..<count).map { (Identity(cluster: cluster, endpoint: "e\($0)"), timing) }
    }

    /// Endpoints under a schedule whose checks take no time, or forever.
    private struct Run {
        var schedule: HealthCheckSchedule
        var now = HealthCheckScheduleTests.start
        /// When each check started, by endpoint.
        var starts: [Int: [Instant]] = [:]
        var changes: [(at: Instant, index: Int, verdict: HealthVerdict)] = []

        init(seed: UInt64 = 1) { schedule = HealthCheckSchedule(seed: seed) }

        /// `answers`: nil: the check stays silent.
        mutating func go(until limit: Instant, _ answers: (_ index: Int, _ now: Instant) -> HealthCheckResult?) {
            while true {
                let next = min(schedule.nextStart, schedule.nextDeadline)
                guard next < limit else { break }
                now = max(now, next)
                while let index = schedule.takeExpired(now) { end(index, .failure) }
                while let index = schedule.takeDue(now) {
                    starts[index, default: []].append(now)
                    if let result = answers(index, now) { end(index, result) }
                }
            }
            now = limit
        }

        mutating func end(_ index: Int, _ result: HealthCheckResult) {
            if let verdict = schedule.ended(index, result, now: now) { changes.append((now, index, verdict)) }
        }
    }

    private func after(_ nanoseconds: UInt64) -> Instant { Self.start.advanced(byNanoseconds: nanoseconds) }

    // MARK: When

    @Test func firstChecksAreSpreadEvenlyOverTheInterval() {
        var run = Run()
        _ = run.schedule.adopt(list(1000, timing()), now: Self.start)
        run.go(until: after(Self.second + 1)) { _, _ in .success }
        var perTick: [UInt64: Int] = [:]
        for moments in run.starts.values { perTick[moments[0].nanoseconds, default: 0] += 1 }
        #expect(run.starts.count == 1000)
        // 50 ms of a second.
        #expect(perTick.values.max() == 50)
    }

    @Test func checksStaySpreadForAnHour() {
        var run = Run()
        _ = run.schedule.adopt(list(100, timing { $0.jitter = 0 }), now: Self.start)
        run.go(until: after(3600 * Self.second)) { _, _ in .success }
        var perTick: [UInt64: Int] = [:]
        for moments in run.starts.values {
            #expect(moments.count >= 3599)
            perTick[moments[3598].nanoseconds, default: 0] += 1
        }
        // 50 ms of a second.
        #expect(perTick.values.max() == 5)
    }

    @Test func jitterMakesChecksLateByNoMoreThanItSays() {
        var run = Run()
        _ = run.schedule.adopt(list(1, timing { $0.jitter = 20 }), now: Self.start)
        run.go(until: after(1000 * Self.second)) { _, _ in .success }
        let late = run.starts[0, default: []].enumerated().map { turn, moment in
            moment.nanoseconds(since: after(UInt64(turn) * Self.second))
        }
        #expect(late.count == 1000)
        #expect(late.max()! <= Self.second / 5 + HealthCheckSchedule.grain(ofInterval: Self.second))
        #expect(late.max()! > Self.second / 10)
        // Of the five moments that there are.
        #expect(Set(late).count > 3)
    }

    @Test func checksOfAnotherSeedAreLateByOtherTimes() {
        let starts = [UInt64(1), 2].map { seed in
            var run = Run(seed: seed)
            _ = run.schedule.adopt(list(1, timing()), now: Self.start)
            run.go(until: after(100 * Self.second)) { _, _ in .success }
            return run.starts
        }
        #expect(starts[0] != starts[1])
    }

    @Test func missedTurnsAreNotMadeUpFor() {
        var schedule = HealthCheckSchedule(seed: 1)
        _ = schedule.adopt(list(1, timing { $0.jitter = 0 }), now: Self.start)
        let late = after(10 * Self.second + 1)
        #expect(schedule.takeDue(late) == 0)
        _ = schedule.ended(0, .success, now: late)
        #expect(schedule.takeDue(late) == nil)
        #expect(schedule.nextStart == after(11 * Self.second))
    }

    /// One check of an endpoint at a time, however long it takes.
    @Test func nextCheckWaitsForTheEndOfTheLast() {
        var schedule = HealthCheckSchedule(seed: 1)
        _ = schedule.adopt(list(1, timing()), now: Self.start)
        #expect(schedule.takeDue(Self.start) == 0)
        #expect(schedule.nextStart == .distantFuture)
        #expect(schedule.takeDue(after(5 * Self.second)) == nil)
    }

    // MARK: What results mean

    @Test func endpointIsHealthyBeforeItsFirstResult() {
        var schedule = HealthCheckSchedule(seed: 1)
        _ = schedule.adopt(list(1, timing()), now: Self.start)
        #expect(schedule.state(of: 0).verdict == .healthy)
        #expect(!schedule.state(of: 0).isKnown)
    }

    @Test func firstResultDecidesAtOnce() {
        var state = HealthCheckState()
        #expect(state.take(.failure, fall: 5, rise: 5) == .unhealthy)
    }

    @Test func fallFailuresInARowMakeItUnhealthy() {
        var state = HealthCheckState()
        let results: [HealthCheckResult] = [.success, .failure, .failure, .success, .failure, .failure, .failure]
        let verdicts = results.map { state.take($0, fall: 3, rise: 2) }
        #expect(verdicts == [nil, nil, nil, nil, nil, nil, .unhealthy])
    }

    @Test func riseSuccessesInARowMakeItHealthy() {
        var state = HealthCheckState()
        let results: [HealthCheckResult] = [.failure, .success, .failure, .success, .success]
        let verdicts = results.map { state.take($0, fall: 3, rise: 2) }
        #expect(verdicts == [.unhealthy, nil, nil, nil, .healthy])
    }

    @Test func inconclusiveChecksChangeNothing() {
        var state = HealthCheckState()
        #expect(state.take(.inconclusive, fall: 1, rise: 1) == nil)
        #expect(!state.isKnown)
        _ = state.take(.success, fall: 2, rise: 2)
        _ = state.take(.failure, fall: 2, rise: 2)
        _ = state.take(.inconclusive, fall: 2, rise: 2)
        #expect(state.take(.failure, fall: 2, rise: 2) == .unhealthy)
    }

    // MARK: P-03

    /// P-03: an endpoint that goes silent right after a check has begun is found out after fall x interval + timeout, +-10 %.
    @Test(arguments: [(1, 1000, 1000), (2, 1000, 1000), (3, 2000, 500), (5, 500, 250), (10, 100, 100)])
    func silenceIsFoundOutInTime(fall: Int, interval: Int, timeout: Int) throws {
        let timing = timing {
            $0.fall = fall
            $0.interval = .milliseconds(interval)
            $0.timeout = .milliseconds(timeout)
        }
        let expected = Double(fall * interval + timeout) * 1_000_000
        for seed in 0..<50 as Range<UInt64> {
            var run = Run(seed: seed)
            _ = run.schedule.adopt(list(40, timing), now: Self.start)
            let healthyUntil = after(20 * timing.interval)
            run.go(until: healthyUntil) { _, _ in .success }
            let lastStarts = run.starts.mapValues { $0[$0.count - 1] }
            run.go(until: after(40 * timing.interval + timing.timeout)) { _, _ in nil }
            try #require(run.changes.count == 40)
            for change in run.changes {
                let taken = Double(change.at.nanoseconds(since: try #require(lastStarts[change.index])))
                #expect(abs(taken - expected) <= expected / 10, "seed \(seed), endpoint \(change.index): \(taken)")
            }
        }
    }

    /// S1-3: one of many that dies is found out, and no other is.
    @Test func onlyTheDeadOneChanges() {
        var run = Run()
        _ = run.schedule.adopt(list(40, timing()), now: Self.start)
        run.go(until: after(60 * Self.second)) { index, now in
            index == 7 && now > after(20 * Self.second) && now < after(40 * Self.second) ? .failure : .success
        }
        #expect(run.changes.map(\.index) == [7, 7])
        #expect(run.changes.map(\.verdict) == [.unhealthy, .healthy])
    }

    // MARK: Reload

    @Test func reloadKeepsWhatIsKnown() {
        var run = Run()
        let timing = timing { $0.fall = 3 }
        _ = run.schedule.adopt(list(10, timing), now: Self.start)
        run.go(until: after(10 * Self.second)) { index, now in
            index == 3 && now > after(8 * Self.second) ? .failure : .success
        }
        let before = (0..<10).map { run.schedule.state(of: $0) }
        #expect(before[3].contradictionCount == 2)
        let next = run.schedule.nextStart
        let adoption = run.schedule.adopt(Array(list(10, timing).reversed()), now: run.now)
        #expect(adoption.indices == Array((0..<10).reversed()))
        #expect(adoption.removed == [])
        #expect((0..<10).map { run.schedule.state(of: $0) } == before)
        #expect(run.schedule.nextStart == next)
    }

    @Test func reloadKeepsTheCheckAtHand() {
        var schedule = HealthCheckSchedule(seed: 1)
        _ = schedule.adopt(list(1, timing()), now: Self.start)
        _ = schedule.takeDue(Self.start)
        _ = schedule.adopt(list(2, timing()), now: after(1))
        #expect(schedule.nextDeadline == after(Self.second))
        #expect(schedule.takeExpired(after(Self.second)) == 0)
        #expect(schedule.ended(0, .failure, now: after(Self.second)) == .unhealthy)
    }

    @Test func endpointOfAnotherClusterIsAnother() {
        var schedule = HealthCheckSchedule(seed: 1)
        _ = schedule.adopt(list(1, cluster: "c", timing()), now: Self.start)
        _ = schedule.takeDue(Self.start)
        _ = schedule.ended(0, .failure, now: Self.start)
        let adoption = schedule.adopt(list(1, cluster: "d", timing()), now: Self.start)
        #expect(adoption.removed == [0])
        #expect(schedule.state(of: adoption.indices[0]) == HealthCheckState())
    }

    @Test func endpointThatIsGoneIsNeverDueAgain() {
        var schedule = HealthCheckSchedule(seed: 1)
        _ = schedule.adopt(list(2, timing()), now: Self.start)
        _ = schedule.takeDue(Self.start)
        _ = schedule.adopt([], now: Self.start)
        #expect(schedule.nextStart == .distantFuture)
        #expect(schedule.nextDeadline == .distantFuture)
    }

    @Test func shorterIntervalHoldsAtOnce() {
        var schedule = HealthCheckSchedule(seed: 1)
        _ = schedule.adopt(list(1, timing { $0.interval = .seconds(3600) }), now: Self.start)
        _ = schedule.takeDue(Self.start)
        _ = schedule.ended(0, .success, now: Self.start)
        _ = schedule.adopt(list(1, timing()), now: after(Self.second))
        #expect(schedule.nextStart <= after(2 * Self.second))
        #expect(schedule.state(of: 0).isKnown)
    }
}
