import WeirIO
import WeirMemory
import WeirModel
import WeirNet
import WeirUpstream

/// Checks endpoints on one thread, through a driver of its own.
///
/// A turn takes over a newer list of targets, takes the resolver's answers, ends checks that have taken too long, starts
/// those that are due and runs the completions of the last batch. All that a check needs is taken when the list is taken
/// over; a check itself allocates nothing once arrays have grown.
///
/// This file is the loop and the list. What happens in a check is in CheckerConnect and CheckerAnswer.
package final class Checker {
    /// What is kept of a target for its checks.
    struct Target {
        var target: CheckTarget
        /// In the list.
        var position: Int
        /// What its checks send.
        var opening: [UInt8]
        var facts = CheckFacts()
        /// Where its check at hand is; -1: there is none.
        var slot: Int32 = -1
    }

    /// Whether a check may connect there. `isLiteral`: the configuration itself writes the address. `privateNames`: its
    /// cluster's names may be private.
    package typealias Judge = (_ destination: SocketAddress, _ isLiteral: Bool, _ privateNames: Bool) -> Bool
    /// Told of each verdict that is another one, on the checker's thread.
    package typealias Report = (CheckTarget.Place, HealthVerdict) -> Void

    let driver: any Driver
    let pool: BufferPool
    let resolver: ResolverPort
    let line: CheckLine
    let judge: Judge
    private let report: Report

    var schedule: HealthCheckSchedule
    var answers: AnswerCache
    /// By the schedule's index.
    var targets: [Target?] = []
    let checks: Slab<Check>
    /// Asked for since the last turn of the driver.
    var operations: [Operation] = []
    /// Handed to the driver.
    private var batch: [Operation] = []
    private var completions: [Completion] = []
    var now: Instant
    var hasNewRequests = false
    private var seed: UInt64
    private var isStopping = false
    /// Every check has ended and every operation is home after a stop.
    package private(set) var hasLeft = false

    /// The loop never sleeps longer, so that a lost wake-up costs at most this.
    private static let safetyTick: UInt64 = 1_000_000_000

    /// `slotCount`: checks at hand at once, sockets that is; a check that finds no slot waits for one. The driver's tokens
    /// have an index below it. `pool`: the driver's, with a block for every slot. `seed` decides jitter and what is random
    /// in hellos.
    package init(
        driver: any Driver, pool: BufferPool, slotCount: Int, resolver: ResolverPort, line: CheckLine, seed: UInt64,
        judge: @escaping Judge, report: @escaping Report
    ) {
        precondition(pool.blockCount >= slotCount, "every check at hand may need a block")
        self.driver = driver
        self.pool = pool
        self.resolver = resolver
        self.line = line
        self.judge = judge
        self.report = report
        self.seed = seed
        schedule = HealthCheckSchedule(seed: seed)
        answers = AnswerCache(seed: seed)
        checks = Slab(capacity: slotCount)
        now = driver.now()
        operations.reserveCapacity(4 * slotCount)
        batch.reserveCapacity(4 * slotCount)
        completions.reserveCapacity(4 * slotCount)
    }

    /// Turns until told to stop.
    package func run() {
        while !hasLeft { turn() }
    }

    /// One round of the loop.
    package func turn() {
        takeOrders()
        while let answer = resolver.answers.pop() { answered(answer) }
        while let index = schedule.takeExpired(now) { expired(index) }
        startDue()
        if hasNewRequests {
            hasNewRequests = false
            resolver.wakeResolver()
        }
        swap(&operations, &batch)
        now = driver.turn(&batch, into: &completions, until: nextWake)
        for position in completions.indices { complete(completions[position]) }
        completions.removeAll(keepingCapacity: true)
    }

    private var nextWake: Instant {
        // The last sockets are closed in silence: nothing would end a wait for that.
        if isStopping && checks.liveCount == 0 { return now }
        let start = checks.liveCount < checks.capacity ? schedule.nextStart : .distantFuture
        return min(start, schedule.nextDeadline, now.advanced(byNanoseconds: Self.safetyTick))
    }

    private func startDue() {
        while checks.liveCount < checks.capacity, let index = schedule.takeDue(now) { start(index) }
    }

    private func complete(_ completion: Completion) {
        let slot = Int(completion.token.index)
        precondition(
            checks.isLive(slot) && checks.generation(of: slot) & 0xff_ffff == completion.token.generation,
            "an operation completed for an earlier tenant of slot \(slot)")
        switch CheckOperation(rawValue: completion.token.kind) {
        case .connect: connectCompleted(slot, completion.result)
        case .receive: receiveCompleted(slot, completion)
        case .send: sendCompleted(slot, completion.result)
        case nil: preconditionFailure("a completion of unknown kind \(completion.token.kind)")
        }
    }

    func token(_ slot: Int, _ operation: CheckOperation) -> Token {
        Token(kind: operation.rawValue, index: UInt32(slot), generation: checks.generation(of: slot))
    }

    // MARK: Orders

    private func takeOrders() {
        if let (list, number) = line.takeTargets() { adopt(list, number) }
        isStopping = line.isStopping
        guard isStopping else { return }
        if !targets.isEmpty { adopt([], nil) }
        if checks.liveCount == 0, operations.isEmpty {
            hasLeft = true
            line.left()
        }
    }

    private func adopt(_ list: [CheckTarget], _ number: Int?) {
        let adoption = schedule.adopt(Self.identified(list), now: now)
        for index in adoption.removed { leave(index) }
        for (position, index) in adoption.indices.enumerated() {
            while targets.count <= index { targets.append(nil) }
            let opening = CheckOpening.bytes(list[position], seed: nextSeed())
            if targets[index] == nil {
                targets[index] = Target(target: list[position], position: position, opening: opening)
            } else {
                targets[index]?.target = list[position]
                targets[index]?.position = position
                targets[index]?.opening = opening
            }
        }
        if list.isEmpty { targets = [] }
        let facts = adoption.indices.map { targets[$0]?.facts ?? CheckFacts() }
        // What is not healthy is told anew: places may be others than before.
        for (target, facts) in zip(list, facts) where facts.verdict == .unhealthy { report(target.place, .unhealthy) }
        if let number { line.adopted(list, facts, number: number) }
    }

    /// The target is gone. Its check at hand ends without a result.
    private func leave(_ index: Int) {
        if let slot = targets[index]?.slot, slot >= 0 {
            checks[Int(slot)].target = -1
            end(Int(slot))
        }
        targets[index] = nil
    }

    private static func identified(
        _ list: [CheckTarget]
    ) -> [(identity: HealthCheckSchedule.Identity, timing: HealthCheckSchedule.Timing)] {
        var counts: [HealthCheckSchedule.Identity: Int] = [:]
        return list.map { target in
            var identity = HealthCheckSchedule.Identity(cluster: target.cluster, endpoint: target.endpoint)
            let occurrence = counts[identity, default: 0]
            counts[identity] = occurrence + 1
            identity.occurrence = occurrence
            return (identity, HealthCheckSchedule.Timing(target.policy))
        }
    }

    private func nextSeed() -> UInt64 {
        seed &+= 0x9e37_79b9_7f4a_7c15
        return seed
    }

    // MARK: Results

    /// The check in `slot` has a result: counts it, tells of it, and ends the check.
    func conclude(_ slot: Int, _ result: HealthCheckResult, _ failure: CheckFailure? = nil) {
        let index = Int(checks[slot].target)
        precondition(index >= 0, "a check is concluded once")
        let change = schedule.ended(index, result, now: now)
        checks[slot].target = -1
        let latency = now.nanoseconds(since: checks[slot].connectStartedAt)
        note(index) { facts in
            facts.lastResult = result
            facts.checkCount += 1
            if result == .failure { facts.failureCount += 1 }
            if result == .success { facts.lastLatency = latency } else { facts.lastFailure = failure }
            if let change {
                facts.verdict = change
                facts.changedAt = now
            }
        }
        targets[index]?.slot = -1
        if let change, let place = targets[index]?.target.place { report(place, change) }
        end(slot)
    }

    func conclude(_ slot: Int, _ failure: CheckFailure) {
        conclude(slot, failure.isOwnShortage ? .inconclusive : .failure, failure)
    }

    private func note(_ index: Int, _ change: (inout CheckFacts) -> Void) {
        guard var facts = targets[index]?.facts, let position = targets[index]?.position else {
            preconditionFailure("a check belongs to a target")
        }
        change(&facts)
        targets[index]?.facts = facts
        line.changed(position, facts)
    }

    /// What holds sockets or buffers. For tests.
    package var outstanding: (checks: Int, buffers: Int) {
        (checks.liveCount, pool.outstandingCount - driver.figures.offeredBufferCount)
    }
}
