import WeirEngine
import WeirIO
import WeirMemory
import WeirModel
import WeirNet
import WeirSession
import WeirTelemetry

// What must hold after every turn, whatever happened in it.

/// A listener's timeouts in nanoseconds.
struct SimulatedTimeouts {
    let hello: UInt64
    let preamble: UInt64
    let idle: UInt64
    let halfClose: UInt64
    let session: UInt64

    init(_ listener: Listener) {
        let timeouts = listener.timeouts
        preamble = timeouts.preamble.clampedNanoseconds
        hello = min(timeouts.hello.clampedNanoseconds, preamble)
        idle = timeouts.idle.clampedNanoseconds
        halfClose = min(timeouts.halfClose.clampedNanoseconds, idle)
        session = timeouts.session?.clampedNanoseconds ?? .max
    }
}

extension Simulation {
    func checkBooks(_ worker: SimulatedWorker) {
        let ledger = ledgers[worker.index]
        ledger.balance()
        checkCounters(worker, ledger)
        checkLimits()
        for session in ledger.sessions { checkDeadline(session, worker, ledger) }
        checkBacklogs(worker)
    }

    // MARK: Counters

    /// accepted = opened + turned away; opened = closed + live; everybody who is gone has a reason.
    private func checkCounters(_ worker: SimulatedWorker, _ ledger: SimulatedLedger) {
        var accepted: UInt64 = 0
        var opened: UInt64 = 0
        var closed: UInt64 = 0
        for base in listenerBases {
            accepted += worker.cells.value(base + ListenerCell.accepted)
            opened += worker.cells.value(base + ListenerCell.opened)
            closed += worker.cells.value(base + ListenerCell.closed)
        }
        let live = ledger.sessions.count
        if live != worker.worker.outstanding.sessions { fail("a session is missing from its worker's account") }
        if closed + UInt64(live) != opened { fail("\(opened) sessions opened, \(closed) closed and \(live) live") }
        if accepted != UInt64(worker.driver.acceptedCount) {
            fail("\(accepted) of \(worker.driver.acceptedCount) accepted connections are counted")
        }
        guard ledger.hasChanged(accepted, closed) else { return }
        var reasons: UInt64 = 0
        for base in listenerBases {
            for code in CloseReason.labels.indices {
                reasons += worker.cells.value(base + ListenerCell.closedByReason + Int32(code))
            }
        }
        if reasons != accepted - opened + closed {
            fail("\(closed) sessions closed and \(accepted - opened) were turned away for \(reasons) reasons")
        }
    }

    // MARK: Limits

    /// What the shared limits count is what lives on all workers together, and no more than they allow.
    private func checkLimits() {
        let live = ledgers.reduce(0) { $0 + $1.sessions.count }
        if proxy.limits.sessions.value != live {
            fail("the limit of sessions counts \(proxy.limits.sessions.value) of \(live)")
        }
        if live > day.sizes.sessionCountMax { fail("\(live) sessions live at once") }
        // Slots are given out from the bottom.
        for slot in 0..<8 {
            let live = ledgers.reduce(0) { $0 + ($1.liveByListener[slot] ?? 0) }
            if proxy.limits.listeners[slot].value != live {
                fail("the limit of listener \(slot) counts \(proxy.limits.listeners[slot].value) of \(live) sessions")
            }
        }
        let counted = proxy.boardCounts()
        let sessions = ledgers.flatMap(\.sessions)
        if counted.routes != sessions.count(where: \.isRoutes) { fail("routes count \(counted.routes) sessions") }
        if counted.endpoints != sessions.count(where: \.isEndpoints) {
            fail("endpoints count \(counted.endpoints) sessions")
        }
        if counted.clusters != sessions.count(where: \.isClusters) {
            fail("clusters count \(counted.clusters) sessions")
        }
        if counted.pending != sessions.count(where: \.isPending) {
            fail("\(counted.pending) sessions are counted as connecting")
        }
        guard let limit = day.clientLimit else { return }
        for ledger in ledgers {
            for counted in ledger.liveByClient.keys { countedClients.insert(counted) }
        }
        for counted in countedClients {
            let live = ledgers.reduce(0) { $0 + ($1.liveByClient[counted] ?? 0) }
            let count = proxy.limits.clients.count(
                listener: counted.listener, client: .init(high: counted.high, low: counted.low))
            if count != live { fail("a client's limit on listener \(counted.listener) counts \(count) of \(live)") }
            if live > limit { fail("a client has \(live) sessions on listener \(counted.listener)") }
        }
    }

    // MARK: Deadlines

    /// What a deadline may be late by: a tick of the timers, the time of a turn and what may come between.
    var slack: UInt64 {
        20_000_000 + 8 * (day.faults.delay.upperBound + day.faults.turnTime.upperBound)
            + 3 * day.faults.stallTime.upperBound
    }

    /// No session outlives the deadline of what it is doing, as the kernel's clock and the configuration have it.
    private func checkDeadline(_ session: SessionAccount, _ worker: SimulatedWorker, _ ledger: SimulatedLedger) {
        let now = worker.driver.now().nanoseconds
        guard let downstream = worker.driver.openConnection(session.downstream), let opened = downstream.openedAt,
            let client = clientOf[downstream.id], let timeouts = timeouts[client.listener]
        else { return }
        let since = opened.nanoseconds
        let deadline: UInt64
        switch session.machine.phase {
        case .preamble: deadline = since + timeouts.hello
        case .deciding, .connecting: deadline = since + timeouts.preamble
        // It is listened to for a second after its answer.
        case .refusing: deadline = max(since + timeouts.preamble, jumpedAt.nanoseconds + slack) + 1_000_000_000
        case .relaying:
            guard let upstream = worker.driver.openConnection(session.upstream) else { return }
            let isHalfEnded = downstream.endReadAt != nil || upstream.endReadAt != nil
            let moved = max(downstream.movedAt, upstream.movedAt).nanoseconds
            let quiet = moved + (isHalfEnded ? timeouts.halfClose : timeouts.idle)
            deadline = min(quiet, timeouts.session == .max ? .max : since + timeouts.session)
        // It began before the preamble's deadline, and has little to wait for.
        case .retrying: deadline = since + timeouts.preamble
        case .closing, .released:
            if ledger.closingTime(session, now: now) > slack && now > jumpedAt.nanoseconds + slack {
                fail("session \(session.slot) of client \(client.number) does not come to its end")
            }
            return
        }
        if now > max(deadline, jumpedAt.nanoseconds) + slack {
            fail(
                "client \(client.number) is \(session.machine.phase) \((now - deadline) / 1_000_000) ms after its deadline"
            )
        }
    }

    /// Nobody waits to be accepted while accepting could go on.
    private func checkBacklogs(_ worker: SimulatedWorker) {
        let now = worker.driver.now().nanoseconds
        guard let since = worker.driver.oldestWaiting else { return }
        // Half a second is the longest pause after a failure, a whole one what a lost wake-up may cost.
        let limit = max(since.nanoseconds, jumpedAt.nanoseconds) + 1_000_000_000 + slack
        if now > limit { fail("a client waits to be accepted since \(since.nanoseconds)") }
    }
}
