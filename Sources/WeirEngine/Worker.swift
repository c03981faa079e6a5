import Synchronization
import WeirIO
import WeirMemory
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirUpstream
import WeirWire

/// One core's loop: its listeners, its sessions, its timers and the driver they reach the kernel through.
///
/// A turn adopts the newest routes, takes what other threads have sent, makes due what is due, hands a batch of
/// operations over, and runs the completions one after the other. All memory is taken in `init`; a turn allocates
/// nothing once its arrays have grown to the size of its batches.
///
/// This file is the loop. What happens to a session is in the files beside it, in the order of its life:
/// WorkerAccept, WorkerPreamble, WorkerConnect, WorkerRelay, WorkerClose.
package final class Worker {
    let index: Int
    let driver: any Driver
    let pool: BufferPool
    let resolver: ResolverPort
    let records: SPSCRing<LogEntry>
    let commands: SPSCRing<WorkerCommand>
    let cells: MetricCells
    let limits: SharedLimits
    let board: EndpointBoard
    let status: WorkerStatus
    let instance: UInt64
    /// Bytes of a receive that counts as one of bulk.
    let bulkByteCount: Int32
    /// So many in a row, and a direction is pumped.
    let bulkReceiveCount: UInt8
    private let snapshot: SnapshotCell<RouteTable>.Reader

    /// Keeps the memory behind `view` alive.
    private var table: RouteTable
    var view: RouteView
    var balancer: Balancer
    let sources: SourceSelector
    var answers: AnswerCache

    let sessions: Slab<Session>
    let preambles: Slab<Preamble>
    let readers: Slab<PreambleReader>
    let openings: Slab<Opening>
    let proxyHeaders: Slab<ProxyHeader>
    /// Of those sessions that came with one: it would be a sixth of every session.
    let proxyUniqueIDs: Slab<InlineBytes<128>>
    /// Sessions that have both: a PROXY header has been read, the hello has not.
    var overlapCount = 0
    /// Receives in flight of directions in which a chunk waits to be sent: each may take one more buffer.
    var receivesAheadCount = 0
    /// Directions that are pumped.
    var pumpCount = 0
    /// Buffers that stand ready in the driver, as of the last turn.
    var offeredCount = 0
    /// Starved sides that were resumed since then, each for a buffer that had come back.
    var handedOnCount = 0
    var timers: TimerWheel
    var listeners: [ListenerState]
    /// Where each slot's listener counts, also once a snapshot has it no more: clients come until its socket is closed.
    var listenerMetrics = [Int32](repeating: -1, count: SharedLimits.listenerCountMax)
    /// When the first listener that pauses goes on, or earlier; `distantFuture`: none pauses.
    var nextResume = Instant.distantFuture
    /// A session has closed its sockets since the listeners were looked at.
    var hasReturnedDescriptors = false
    /// Overflows of the driver's completion queue that have been answered.
    private var overflowCount: UInt64 = 0
    /// Listeners whose close is handed over in this turn.
    var closingListenerCount = 0
    var starved: StarvedQueue
    /// Asked for since the last turn of the driver.
    var operations: [Operation] = []
    /// Handed to the driver. Apart from `operations`, which then needs no check on overlapping accesses while it grows.
    private var batch: [Operation] = []
    private var completions: [Completion] = []
    var now: Instant
    /// What to add to an `Instant` for the wall clock, in nanoseconds; refreshed once a second.
    var wallClockOffset: UInt64
    private var wallClockReadAt: Instant
    var nextSessionID: UInt64
    var hasNewRequests = false
    /// Which address of a name is tried first: each in turn.
    private var addressTurn: UInt64
    /// IPv6 gave "unreachable" recently: until then IPv4 goes first.
    var v6SecondUntil = Instant(nanoseconds: 0)
    private var isStopping = false
    /// Sessions have been ended by order: whoever is accepted from here on is turned away.
    private(set) var isEnding = false
    /// Every session has ended and every operation is home after a stop.
    package private(set) var hasLeft = false

    /// The loop never sleeps longer, so that a lost wake-up costs at most this.
    private static let safetyTick: UInt64 = 1_000_000_000
    /// Between two looks at who may receive, while some wait and buffers are free.
    private static let starvedTick: UInt64 = 5_000_000

    package init(_ parts: consuming WorkerParts) {
        index = parts.index
        driver = parts.driver
        pool = parts.pool
        resolver = parts.resolver
        records = parts.records
        commands = parts.commands
        cells = parts.cells
        limits = parts.limits
        board = parts.board
        status = parts.status
        instance = parts.instance
        bulkByteCount = parts.bulkByteCount
        bulkReceiveCount = parts.bulkReceiveCount
        let capacity = parts.sessionCapacity
        let index = parts.index
        snapshot = parts.snapshot
        guard let table = snapshot.adopt() else { preconditionFailure("a worker starts with a published snapshot") }
        self.table = table
        view = table.view
        balancer = Balancer(
            view: table.view, board: parts.board, rotation: index, seed: parts.instance &+ UInt64(index))
        sources = SourceSelector(rotation: index)
        answers = AnswerCache(entryCount: parts.answerCapacity, seed: instance)
        now = driver.now()
        sessions = Slab(capacity: capacity)
        preambles = Slab(capacity: capacity)
        readers = Slab(capacity: capacity)
        openings = Slab(capacity: capacity)
        proxyHeaders = Slab(capacity: capacity)
        proxyUniqueIDs = Slab(capacity: capacity)
        timers = TimerWheel(ownerCount: capacity, now: now)
        listeners = Array(repeating: ListenerState(), count: SharedLimits.listenerCountMax)
        starved = StarvedQueue(capacity: capacity * 2)
        operations.reserveCapacity(4096)
        batch.reserveCapacity(4096)
        completions.reserveCapacity(4096)
        wallClockOffset = driver.wallClockOffset()
        wallClockReadAt = now
        // Ids are unique in the process: the worker's number stands on top.
        nextSessionID = UInt64(index) << 48 | 1
        addressTurn = UInt64(index)
        noteListenerMetrics()
    }

    /// Turns until told to stop.
    package func run() {
        while !hasLeft { turn() }
    }

    /// One round of the loop.
    package func turn() {
        adopt()
        takeCommands()
        takeAnswers()
        expireTimers()
        resumeListeners()
        let hasStarved = resumeStarved()
        if hasNewRequests {
            hasNewRequests = false
            resolver.wakeResolver()
        }
        leaveIfDone()
        // A batch that is waiting must not wait for a timer; the driver hands it over before it waits. Somebody waits
        // to hear that a listener is closed, so that turn is a short one.
        let isShort = hasLeft || closingListenerCount > 0
        // A starved side that was resumed may have nothing to receive: then the buffer is there for the one behind it.
        let tick = hasStarved && pool.freeLargeCount + offeredCount > 0 ? Self.starvedTick : Self.safetyTick
        let deadline = isShort ? now : min(timers.nextDeadline, nextResume, now.advanced(byNanoseconds: tick))
        swap(&operations, &batch)
        now = driver.turn(&batch, into: &completions, until: deadline)
        offeredCount = driver.figures.offeredBufferCount
        handedOnCount = 0
        if closingListenerCount > 0 { reportClosedListeners() }
        if now.nanoseconds(since: wallClockReadAt) >= Self.safetyTick {
            wallClockOffset = driver.wallClockOffset()
            wallClockReadAt = now
            acceptOverlooked()
        }
        for position in completions.indices { complete(completions[position]) }
        completions.removeAll(keepingCapacity: true)
        writeGauges()
    }

    private func complete(_ completion: Completion) {
        guard let kind = OperationKind(rawValue: completion.token.kind) else {
            preconditionFailure("a completion of unknown kind \(completion.token.kind)")
        }
        let index = Int(completion.token.index)
        if kind == .accept {
            acceptCompleted(index, completion)
            return
        }
        precondition(
            isTenant(index, completion.token.generation),
            "a \(kind) completed for an earlier tenant of slot \(index)")
        switch kind {
        case .accept: break
        case .connectFirst: connectCompleted(index, .first, completion.result)
        case .connectSecond: connectCompleted(index, .second, completion.result)
        case .receiveDownstream: receiveCompleted(index, .downstream, completion)
        case .receiveUpstream: receiveCompleted(index, .upstream, completion)
        case .sendDownstream: sendCompleted(index, .downstream, completion.result)
        case .sendUpstream: sendCompleted(index, .upstream, completion.result)
        case .watchDownstream: watchCompleted(index, .downstream, completion.result)
        case .watchUpstream: watchCompleted(index, .upstream, completion.result)
        case .pumpDownstream: pumpCompleted(index, .downstream, completion)
        case .pumpUpstream: pumpCompleted(index, .upstream, completion)
        }
    }

    // MARK: What other threads send

    private func adopt() {
        guard let newer = snapshot.adopt() else { return }
        table = newer
        view = newer.view
        noteListenerMetrics()
        balancer.adopt(view)
        cells.add(WorkerCell.adoptions, 1)
        cells.set(WorkerCell.snapshotGeneration, view.generation)
    }

    private func noteListenerMetrics() {
        for slot in listenerMetrics.indices where view.listeners[slot].exists {
            listenerMetrics[slot] = view.listeners[slot].metric
        }
    }

    private func takeCommands() {
        while let command = commands.pop() {
            switch command.kind {
            case .addListener: addListener(command)
            case .removeListener: removeListener(Int(command.slot))
            case .leaveListener: removeListener(Int(command.slot), isLeft: true)
            case .endSessions:
                isEnding = true
                endSessions(.other(.drainTimedOut))
            case .endEndpoint(let reason, let time):
                endSessions(reason, after: time) { $0.endpointPlace == command.slot }
            case .endRoute(let time):
                endSessions(.routeRemoved, after: time) { $0.record.route == command.slot }
            case .stop:
                isStopping = true
                isEnding = true
                removeListeners()
                endSessions(.other(.stopped))
            }
            status.commandCount.add(1, ordering: .releasing)
        }
    }

    private func endSessions(_ reason: CloseReason) {
        for slot in 0..<sessions.touchedCount where sessions.isLive(slot) {
            if reason == .other(.drainTimedOut) { sessions[slot].record.flags.insert(.drained) }
            end(slot, reason, reset: true)
            advance(slot)
        }
    }

    /// Ends those of the sessions that `isMeant` names, once `time` nanoseconds are over. One that is still connecting to an
    /// unhealthy endpoint goes on to another by itself.
    private func endSessions(
        _ reason: CloseReason.Other, after time: UInt64, where isMeant: (Session) -> Bool
    ) {
        for slot in 0..<sessions.touchedCount where sessions.isLive(slot) && isMeant(sessions[slot]) {
            switch sessions[slot].machine.phase {
            case .relaying: break
            case .deciding, .connecting, .retrying: if reason == .endpointUnhealthy { continue }
            case .preamble, .refusing, .closing, .released: continue
            }
            if time > 0 {
                drain(slot, reason, after: time)
                continue
            }
            end(slot, .other(reason), reset: true)
            advance(slot)
        }
    }

    /// The earliest of several deadlines holds.
    private func drain(_ slot: Int, _ reason: CloseReason.Other, after time: UInt64) {
        let deadline = now.advanced(byNanoseconds: time)
        guard deadline < sessions[slot].drainDeadline else { return }
        sessions[slot].drainDeadline = deadline
        sessions[slot].drainReason = reason
        schedule(slot)
    }

    /// The addresses of a name, begun with another one each time; with `client`, a hash, always with the same one for it.
    func inTurn(_ addresses: ResolvedAddresses, client: UInt64?) -> ResolvedAddresses {
        guard addresses.count > 1 else { return addresses }
        let first = Int((client ?? addressTurn) % UInt64(addresses.count))
        if client == nil { addressTurn &+= 1 }
        var turned = ResolvedAddresses()
        for step in 0..<addresses.count { turned.append(addresses[(first + step) % addresses.count]) }
        return turned
    }

    private func leaveIfDone() {
        guard isStopping, sessions.liveCount == 0, listeners.allSatisfy(\.isGone) else { return }
        snapshot.offline()
        hasLeft = true
        status.hasLeft.store(true, ordering: .releasing)
    }

    private func takeAnswers() {
        while let answer = resolver.answers.pop() { answered(answer) }
    }

    // MARK: Time

    /// Makes sure that the session is looked at when its next deadline is over.
    func schedule(_ slot: Int) {
        let deadline = nextDeadline(slot)
        // A timer that fires too early is set again then: moving it back now would cost more than that.
        if deadline == .distantFuture || timers.isSet(slot, atOrBefore: deadline) { return }
        timers.set(slot, at: deadline)
    }

    private func expireTimers() {
        timers.advance(to: now)
        while let slot = timers.popExpired() {
            deadlinePassed(slot)
            if sessions.isLive(slot) { schedule(slot) }
        }
    }

    private func writeGauges() {
        cells.add(WorkerCell.turns, 1)
        let figures = driver.figures
        if figures.overflowCount != overflowCount {
            // U-04: more completions came than the queue holds. They are not lost, but clients that come meanwhile
            // would make it worse.
            overflowCount = figures.overflowCount
            note(.completions)
            pauseAccepting(.completions)
        }
        cells.set(WorkerCell.enters, figures.enterCount)
        cells.set(WorkerCell.completionOverflows, figures.overflowCount)
        cells.set(
            WorkerCell.buffersOutstanding, UInt64(pool.largeCount - pool.freeLargeCount - figures.offeredBufferCount))
        cells.set(WorkerCell.pumps, UInt64(pumpCount))
        cells.set(WorkerCell.blocksOutstanding, UInt64(pool.blockCount - pool.freeBlockCount))
        cells.set(WorkerCell.sessionsOpening, UInt64(preambles.liveCount + openings.liveCount - overlapCount))
    }

    /// Few buffers are free: every direction may hold one, none may hold more.
    ///
    /// From half on: then three stalled directions find a buffer for every four buffers that there are (those that came
    /// first hold two), which is what `Capacity` counts on.
    ///
    /// A receive in flight behind a chunk that waits counts as one taken: otherwise all directions that stall in the same
    /// moment get their second one.
    package var isScarce: Bool { pool.freeLargeCount + offeredCount - receivesAheadCount < pool.largeCount / 2 }

    /// Whether anything is left that holds a buffer, a block, a slot or a socket. For tests.
    package var outstanding: (sessions: Int, openings: Int, buffers: Int) {
        (
            sessions.liveCount, preambles.liveCount + openings.liveCount,
            pool.outstandingCount - driver.figures.offeredBufferCount
        )
    }

    /// Traps where a session's facts contradict each other. For the simulation.
    package func checkInvariants() {
        var aheadCount = 0
        var (identifiedCount, readerCount, headerCount) = (0, 0, 0)
        var pumpedCount = 0
        for slot in 0..<sessions.touchedCount where sessions.isLive(slot) {
            sessions[slot].machine.checkInvariants()
            precondition(sessions[slot].machine.phase != .released)
            precondition((sessions[slot].machine.upstream.isOpen) == !sessions[slot].upstream.isNone)
            precondition(sessions[slot].receivesAheadCount == sessions[slot].machine.receivesAheadCount)
            aheadCount += Int(sessions[slot].receivesAheadCount)
            identifiedCount += sessions[slot].proxyUniqueID >= 0 ? 1 : 0
            let (preamble, opening) = (Int(sessions[slot].preamble), Int(sessions[slot].opening))
            if preamble >= 0 && preambles[preamble].reader >= 0 { readerCount += 1 }
            if opening >= 0 && openings[opening].proxyHeader >= 0 { headerCount += 1 }
            pumpedCount += Side.allCases.count { sessions[slot].machine[$0].isPumping }
        }
        precondition(aheadCount == receivesAheadCount)
        precondition(pumpedCount == pumpCount)
        precondition(identifiedCount == proxyUniqueIDs.liveCount)
        precondition(readerCount == readers.liveCount)
        precondition(headerCount == proxyHeaders.liveCount)
        precondition(sessions.liveCount == status.sessionCount.load(ordering: .relaxed))
    }
}
