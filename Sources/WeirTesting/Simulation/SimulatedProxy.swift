import Synchronization
import WeirEngine
import WeirIO
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirUpstream

/// Workers with all they need and share, each on a simulated kernel: a configuration goes in, clients, upstreams and a
/// resolver are played by whoever holds it, and time passes only in `turn`.
///
/// Workers take turns, always the one whose clock is furthest behind. What the control thread does comes between turns,
/// once every clock has reached its moment; `SimulatedDriver.horizon` keeps a worker from sleeping through it. So one
/// seed decides all, and the clocks of workers differ by no more than one turn of one of them.
package final class SimulatedProxy: SimulatedWorld {
    package struct Sizes: Sendable {
        /// Ports from each source address towards each destination.
        package var sourcePortCount = 28_232
        package var largeBufferCount = 64
        package var blockCount = 64
        package var bufferRingCount = 16
        package var sessionCapacity = 64
        package var sessionCountMax = 64
        package var answerCapacity = 64
        /// A receive of so many bytes counts as one of bulk.
        package var bulkByteCount = Int32(BufferPool.largeByteCount)
        /// So many in a row, and a direction is pumped.
        package var bulkReceiveCount: UInt8 = 8
        package var workerCount = 1

        package init() {}
    }

    package let workers: [SimulatedWorker]
    package let limits: SharedLimits
    package let board = EndpointBoard()
    package let registry: MetricRegistry
    package let instance: UInt64 = 0x5745_4952_0000_0001
    private let snapshot: SnapshotCell<RouteTable>

    package private(set) var configuration: Configuration
    /// What it was last compiled to.
    package private(set) var table: RouteTable
    /// Slot of each listener, by name.
    package private(set) var slots: [String: Int] = [:]
    private var generation: UInt64 = 1
    /// A reload is under way: workers have yet to adopt the configuration, or to carry out the orders that follow it.
    package private(set) var isReloading = false

    /// What the sessions left, in the order in which they closed.
    package private(set) var logEntries: [LogEntry] = []
    package var records: [SessionRecord] { logEntries.map(\.record) }
    /// The far ends of connects that succeeded, in that order.
    package private(set) var upstreams: [SimulatedConnection] = []
    /// Every connect asked for.
    package private(set) var connects: [(destination: SocketAddress, source: IPAddress?)] = []

    /// What becomes of a connect.
    package var plan: (SocketAddress) -> SimulatedConnectPlan = { _ in .succeed(after: 100_000) }
    /// When, in nanoseconds, and what the resolver answers; nil: not before the end of time.
    package var resolve: (ServerName) -> (after: UInt64, answer: Answer)? = { _ in (100_000, Answer(.noSuchName)) }
    /// The resolver says everything twice.
    package var answersTwice = false
    package var onUpstream: ((SimulatedConnection) -> Void)?
    package var onChange: ((SimulatedConnection) -> Void)?
    /// Moments with a number below zero are its own.
    package var onMoment: ((Int) -> Void)?
    package private(set) var questions: [ServerName] = []
    package private(set) var tally = SimulatedTally()

    private var moments: [Int: () -> Void] = [:]
    private var nextMoment = 0
    /// When what is between turns is to be done.
    private var agenda = SimulatedSchedule()

    package init(
        _ configuration: Configuration, seed: UInt64 = 1, sizes: Sizes = Sizes(),
        faults: SimulatedFaults = SimulatedFaults(), planted: PlantedFault? = nil
    ) {
        let faulty = configuration.faults()
        precondition(faulty.isEmpty, "\(faulty)")
        self.configuration = configuration
        let cells = (0..<sizes.workerCount).map { _ in MetricCells(count: 8192) }
        registry = MetricRegistry(
            workers: cells, reasonLabels: CloseReason.labels, guardRuleLabels: GuardRule.allCases.map(\.label))
        let limits = SharedLimits(
            sessionCountMax: sizes.sessionCountMax, rateMax: RateBound(configuration.limits.rate),
            ports: PortLedger(limit: sizes.sourcePortCount, reuse: .none, pairCount: 1024))
        self.limits = limits
        for (slot, listener) in configuration.listeners.enumerated() { slots[listener.name] = slot }
        table = Self.compile(configuration, slots, generation: 1, registry, board)
        let snapshot = SnapshotCell(table, readerCount: sizes.workerCount)
        self.snapshot = snapshot
        workers = cells.enumerated().map { [instance, board] index, cells in
            SimulatedWorker(
                index: index, sizes, seed: seed, faults: faults, planted: planted, cells: cells, limits: limits,
                board: board, snapshot: snapshot, instance: instance)
        }
        for worker in workers { worker.driver.world = self }
        for listener in configuration.listeners { addListener(listener) }
    }

    private static func compile(
        _ configuration: Configuration, _ slots: [String: Int], generation: UInt64, _ registry: MetricRegistry,
        _ board: EndpointBoard
    ) -> RouteTable {
        board.withPlaces(now: Instant(nanoseconds: 0)) { places in
            RouteTable(
                compiling: configuration, slots: slots, generation: generation,
                ownListeners: configuration.listeners.map(\.address), key: SipKey(low: 1, high: 2),
                metricIndex: { metric(of: $0, registry) }, placeIndex: places)
        }
    }

    private static func metric(of subject: WeirRouting.MetricSubject, _ registry: MetricRegistry) -> Int32 {
        switch subject {
        case .listener(let name): registry.listener(name)
        case .route(let listener, let name): registry.route(listener: listener, name: name)
        case .cluster(let name): registry.cluster(name)
        case .endpoint(let cluster, let description): registry.endpoint(cluster: cluster, description: description)
        case .policy(let name): registry.policy(name)
        }
    }

    // MARK: What the control thread does

    private func addListener(_ listener: Listener) {
        guard let slot = slots[listener.name] else { preconditionFailure("listener \(listener.name) has no slot") }
        for worker in workers {
            worker.send(
                WorkerCommand(
                    .addListener, slot: Int32(slot), socket: worker.driver.listen(on: listener.address),
                    address: listener.address))
        }
    }

    private func sendAll(_ command: WorkerCommand) {
        for worker in workers { worker.send(command) }
    }

    /// Publishes another configuration and, once every worker has adopted it, adds and removes listeners, as
    /// `Proxy.reload` does. None may be under way.
    package func reload(_ configuration: Configuration) {
        precondition(!isReloading, "one reload at a time")
        let faulty = configuration.faults()
        precondition(faulty.isEmpty, "\(faulty)")
        var next: [String: Int] = [:]
        for listener in configuration.listeners { next[listener.name] = slots[listener.name] }
        var added: [Listener] = []
        for listener in configuration.listeners where next[listener.name] == nil {
            let taken = Set(next.values).union(slots.values)
            // A slot is free once the last session of the listener before has ended.
            next[listener.name] = limits.listeners.indices.first {
                !taken.contains($0) && limits.listeners[$0].value == 0
            }
            added.append(listener)
        }
        let removed = slots.filter { next[$0.key] == nil }.values.sorted()
        self.configuration = configuration
        slots = next
        generation += 1
        isReloading = true
        table = Self.compile(configuration, slots, generation: generation, registry, board)
        let epoch = snapshot.publish(table)
        for worker in workers { worker.driver.wake() }
        once { [unowned self] in
            guard snapshot.readersHaveAdopted(epoch) else { return false }
            snapshot.reclaim()
            board.forgetGone()
            for listener in added { addListener(listener) }
            for slot in removed { sendAll(WorkerCommand(.removeListener, slot: Int32(slot))) }
            once { [unowned self] in
                isReloading = !workers.allSatisfy { $0.hasSettled(listenerCount: slots.count) }
                return !isReloading
            }
            return true
        }
    }

    /// Asks `isDone` every 200 µs until it is.
    private func once(_ isDone: @escaping () -> Bool) {
        if !isDone() && !hasLeft { after(200_000) { [unowned self] in once(isDone) } }
    }

    package func stop() { sendAll(WorkerCommand(.stop)) }

    /// A drain that runs out of time: no listener any more, then no session.
    package func endSessions() { sendAll(WorkerCommand(.endSessions)) }

    /// What the checks say of an endpoint whose place is `place`.
    package func setHealth(_ place: Int32, _ health: EndpointBoard.Health) {
        board.setHealth(place, health, now: now)
    }

    /// Ends the live sessions of an endpoint, after so many nanoseconds.
    package func endSessions(ofEndpoint place: Int32, _ reason: CloseReason.Other, after time: UInt64 = 0) {
        sendAll(WorkerCommand(.endEndpoint(reason, after: time), slot: place))
    }

    /// Ends the live sessions of a route, after so many nanoseconds.
    package func endSessions(ofRoute route: String, listener: String, after time: UInt64 = 0) {
        sendAll(WorkerCommand(.endRoute(after: time), slot: registry.route(listener: listener, name: route)))
    }

    package func stopListening() {
        for slot in slots.values.sorted() { sendAll(WorkerCommand(.removeListener, slot: Int32(slot))) }
    }

    // MARK: Time

    /// The time of whoever is furthest behind.
    package var now: Instant { nextWorker?.driver.now() ?? workers[0].driver.now() }

    /// Every worker has left.
    package var hasLeft: Bool { workers.allSatisfy(\.worker.hasLeft) }

    private var nextWorker: SimulatedWorker? {
        var next: SimulatedWorker?
        for worker in workers where !worker.worker.hasLeft {
            if let next, next.driver.now() <= worker.driver.now() { continue }
            next = worker
        }
        return next
    }

    /// What is due between turns, one turn of the worker that is furthest behind, and what its neighbours do with what
    /// came of it. Answers whose turn it was; nil where all have left.
    @discardableResult
    package func turn() -> SimulatedWorker? {
        guard let worker = nextWorker else { return nil }
        while case .world(let number)? = agenda.pop(dueAt: worker.driver.now().nanoseconds)?.event {
            momentCame(number)
        }
        worker.driver.horizon = agenda.nextTime.map { Instant(nanoseconds: $0) } ?? .distantFuture
        worker.worker.turn()
        worker.worker.checkInvariants()
        while let request = worker.port.requests.pop() { asked(request, by: worker) }
        while let entry = worker.records.pop() { logEntries.append(entry) }
        return worker
    }

    /// Turns until so much time has passed.
    package func run(for duration: Duration) {
        let end = now.advanced(byNanoseconds: duration.clampedNanoseconds)
        after(duration.clampedNanoseconds) {}
        while now < end && !hasLeft { turn() }
    }

    /// Turns until `condition` holds. False where it does not within `duration`.
    package func run(within duration: Duration = .seconds(10), until condition: () -> Bool) -> Bool {
        let end = now.advanced(byNanoseconds: duration.clampedNanoseconds)
        while !condition() {
            if now >= end || hasLeft { return condition() }
            turn()
        }
        return true
    }

    /// Has `action` done in so many nanoseconds: between turns, or, where it concerns one worker, in the middle of that
    /// one's.
    package func after(_ nanoseconds: UInt64, on worker: SimulatedWorker? = nil, _ action: @escaping () -> Void) {
        nextMoment += 1
        moments[nextMoment] = action
        if let worker {
            worker.driver.call(nextMoment, at: worker.driver.now().advanced(byNanoseconds: nanoseconds))
        } else {
            agenda.add(.world(nextMoment), at: now.advanced(byNanoseconds: nanoseconds).nanoseconds)
        }
    }

    /// Moves every clock on as if the machine had slept.
    package func jump(_ nanoseconds: UInt64) {
        for worker in workers { worker.driver.jump(nanoseconds) }
    }

    // MARK: The resolver

    private func asked(_ request: ResolverRequest, by worker: SimulatedWorker) {
        questions.append(request.name)
        guard let (delay, answer) = resolve(request.name) else {
            tally.add(.noAnswer)
            return
        }
        let message = ResolverAnswer(ticket: request.ticket, name: request.name, answer: answer)
        let asked = worker.driver.now()
        after(delay, on: worker) { [unowned self] in
            push(message, to: worker, asked)
            guard answersTwice else { return }
            tally.add(.answerTwice)
            after(delay / 2, on: worker) { [unowned self] in push(message, to: worker, asked) }
        }
    }

    private func push(_ message: ResolverAnswer, to worker: SimulatedWorker, _ asked: Instant) {
        if !worker.worker.isAwaited(message.ticket) {
            tally.add(worker.worker.isTaken(message.ticket) ? .answerForReusedSlot : .lateAnswer)
        } else if worker.driver.now().nanoseconds(since: asked) < 2_000 {
            tally.add(.earlyAnswer)
        }
        switch message.answer.status {
        case .noSuchName, .noAddress: tally.add(.emptyAnswer)
        case .serverFailure, .timedOut, .refusedTooMany, .cancelled: tally.add(.failedAnswer)
        case .found:
            if message.answer.addresses.count == ResolvedAddresses.countMax { tally.add(.crowdedAnswer) }
            if message.answer.expires <= worker.driver.now() { tally.add(.expiredAnswer) }
        }
        precondition(worker.port.answers.push(message))
        worker.port.wakeWorker()
    }

    // MARK: SimulatedWorld

    package func momentCame(_ number: Int) {
        if number < 0 { onMoment?(number) } else { moments.removeValue(forKey: number)?() }
    }

    package func planForConnect(to destination: SocketAddress, from source: IPAddress?) -> SimulatedConnectPlan {
        connects.append((destination, source))
        return plan(destination)
    }

    package func upstreamAccepted(_ connection: SimulatedConnection) {
        upstreams.append(connection)
        onUpstream?(connection)
    }

    package func changed(_ connection: SimulatedConnection) {
        if connection.readsAtOnce && connection.unconsumedCount > 0 {
            workers[connection.worker].driver.consume(connection.unconsumedCount, on: connection)
        }
        onChange?(connection)
    }

    // MARK: What is left

    /// All that is still out, in words; empty when everything has come home. Sessions that live have their sockets.
    package func outstanding() -> [String] {
        var left: [String] = []
        for one in workers {
            let (sessions, openings, buffers) = one.worker.outstanding
            if sessions != 0 { left.append("\(sessions) sessions") }
            if openings != 0 { left.append("\(openings) openings") }
            if buffers != 0 { left.append("\(buffers) buffers") }
            let listeners = one.worker.hasLeft ? 0 : one.status.listenerCount.load(ordering: .relaxed)
            if one.driver.openCount != listeners { left.append("\(one.driver.openCount - listeners) sockets") }
        }
        limits.ports.forEachPair(now: now) { pair in
            guard pair.standing.inUse > 0 else { return }
            left.append("\(pair.standing.inUse) ports from \(pair.source) to \(pair.destination)")
        }
        if limits.sessions.value != 0 { left.append("\(limits.sessions.value) in the limit of sessions") }
        let counted = boardCounts()
        if counted.routes != 0 { left.append("\(counted.routes) sessions of routes") }
        if counted.endpoints != 0 { left.append("\(counted.endpoints) sessions of endpoints") }
        if counted.clusters != 0 { left.append("\(counted.clusters) sessions of clusters") }
        if counted.pending != 0 { left.append("\(counted.pending) connecting sessions of clusters") }
        for (slot, counter) in limits.listeners.enumerated() where counter.value != 0 {
            left.append("\(counter.value) in the limit of listener \(slot)")
        }
        return left
    }

    /// What the board counts. Places are given out from the bottom, and few are in use.
    package func boardCounts() -> (routes: Int, endpoints: Int, clusters: Int, pending: Int) {
        var counts = (routes: 0, endpoints: 0, clusters: 0, pending: 0)
        for place in Int32(0)..<64 {
            counts.routes += Int(board.connectionCount(route: place))
            counts.endpoints += Int(board.connectionCount(place))
            counts.clusters += Int(board.connectionCount(cluster: place))
            counts.pending += Int(board.pendingCount(cluster: place))
        }
        return counts
    }

    /// The label of a record's reason.
    package func reason(_ record: SessionRecord) -> String { CloseReason.labels[Int(record.reason)] }
}

// Scenes have one worker.
extension SimulatedProxy {
    package var driver: SimulatedDriver { workers[0].driver }
    package var worker: Worker { workers[0].worker }
    package var pool: BufferPool { workers[0].pool }
    package var cells: MetricCells { workers[0].cells }
    package var status: WorkerStatus { workers[0].status }
}
