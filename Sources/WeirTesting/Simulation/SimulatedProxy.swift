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

/// One worker with all it needs, on a simulated kernel: a configuration goes in, clients, upstreams and a resolver are
/// played by whoever holds it, and time passes only in `run`.
package final class SimulatedProxy: SimulatedWorld {
    package struct Sizes: Sendable {
        package var largeBufferCount = 64
        package var blockCount = 64
        package var bufferRingCount = 16
        package var sessionCapacity = 64
        package var sessionCountMax = 64

        package init() {}
    }

    package let driver: SimulatedDriver
    package let worker: Worker
    package let pool: BufferPool
    package let limits: SharedLimits
    package let status: WorkerStatus
    package let cells: MetricCells
    package let registry: MetricRegistry
    package let instance: UInt64 = 0x5745_4952_0000_0001
    private let port: ResolverPort
    private let commands: SPSCRing<WorkerCommand>
    private let recordRing: SPSCRing<SessionRecord>
    private let snapshot: SnapshotCell<RouteTable>

    package private(set) var configuration: Configuration
    /// Slot of each listener, by name.
    package private(set) var slots: [String: Int] = [:]
    private var generation: UInt64 = 1
    /// Slots that listeners may still be leaving.
    private var leaving: Set<Int> = []

    /// What the sessions left, in the order in which they closed.
    package private(set) var records: [SessionRecord] = []
    /// The far ends of connects that succeeded, in that order.
    package private(set) var upstreams: [SimulatedConnection] = []
    /// Every connect asked for.
    package private(set) var connects: [(destination: SocketAddress, source: IPAddress?)] = []

    /// What becomes of a connect.
    package var plan: (SocketAddress) -> SimulatedConnectPlan = { _ in .succeed(after: 100_000) }
    /// When, in nanoseconds, and what the resolver answers; nil: not before the end of time.
    package var resolve: (ServerName) -> (after: UInt64, answer: Answer)? = { _ in (100_000, Answer(.noSuchName)) }
    package var onUpstream: ((SimulatedConnection) -> Void)?
    package var onChange: ((SimulatedConnection) -> Void)?
    /// Moments with a number below zero are its own.
    package var onMoment: ((Int) -> Void)?
    package private(set) var questions: [ServerName] = []

    private var moments: [Int: () -> Void] = [:]
    private var nextMoment = 0

    package init(
        _ configuration: Configuration, seed: UInt64 = 1, sizes: Sizes = Sizes(),
        faults: SimulatedFaults = SimulatedFaults()
    ) {
        let faulty = configuration.faults()
        precondition(faulty.isEmpty, "\(faulty)")
        self.configuration = configuration
        pool = BufferPool(largeCount: sizes.largeBufferCount, blockCount: sizes.blockCount)
        driver = SimulatedDriver(pool: pool, bufferRingCount: sizes.bufferRingCount, seed: seed, faults: faults)
        port = ResolverPort(capacity: 64, wakeResolver: {}, wakeWorker: driver.wake)
        commands = SPSCRing(capacity: 64)
        recordRing = SPSCRing(capacity: 4096)
        cells = MetricCells(count: 16_384)
        registry = MetricRegistry(
            workers: [cells], reasonLabels: CloseReason.labels, guardRuleLabels: GuardRule.allCases.map(\.label))
        limits = SharedLimits(sessionCountMax: sizes.sessionCountMax)
        status = WorkerStatus()
        for (slot, listener) in configuration.listeners.enumerated() { slots[listener.name] = slot }
        snapshot = SnapshotCell(Self.compile(configuration, slots, generation: 1, registry), readerCount: 1)
        worker = Worker(
            WorkerParts(
                index: 0, driver: driver, pool: pool, snapshot: snapshot.reader(0), resolver: port, records: recordRing,
                commands: commands, cells: cells, limits: limits, status: status,
                sessionCapacity: sizes.sessionCapacity, instance: instance))
        driver.world = self
        for listener in configuration.listeners { addListener(listener) }
    }

    private static func compile(
        _ configuration: Configuration, _ slots: [String: Int], generation: UInt64, _ registry: MetricRegistry
    ) -> RouteTable {
        RouteTable(
            compiling: configuration, slots: slots, generation: generation,
            ownListeners: configuration.listeners.map(\.address), key: SipKey(low: 1, high: 2)
        ) { subject in
            switch subject {
            case .listener(let name): registry.listener(name)
            case .route(let listener, let name): registry.route(listener: listener, name: name)
            case .cluster(let name): registry.cluster(name)
            case .endpoint(let cluster, let description): registry.endpoint(cluster: cluster, description: description)
            }
        }
    }

    // MARK: What the control thread does

    private func addListener(_ listener: Listener) {
        guard let slot = slots[listener.name] else { preconditionFailure("listener \(listener.name) has no slot") }
        command(
            WorkerCommand(
                .addListener, slot: Int32(slot), socket: driver.listen(on: listener.address), address: listener.address)
        )
    }

    private func command(_ command: WorkerCommand) {
        precondition(commands.push(command))
        driver.wake()
    }

    /// Publishes another configuration, then adds and removes listeners, as `Proxy.reload` does.
    package func reload(_ configuration: Configuration) {
        let faulty = configuration.faults()
        precondition(faulty.isEmpty, "\(faulty)")
        // A slot is free once the worker has closed its listener and the last session of it has ended.
        if commands.isEmpty && status.listenerCount.load(ordering: .relaxed) == slots.count { leaving = [] }
        var next: [String: Int] = [:]
        for listener in configuration.listeners { next[listener.name] = slots[listener.name] }
        var added: [Listener] = []
        for listener in configuration.listeners where next[listener.name] == nil {
            let taken = Set(next.values).union(slots.values).union(leaving)
            next[listener.name] = limits.listeners.indices.first {
                !taken.contains($0) && limits.listeners[$0].value == 0
            }
            added.append(listener)
        }
        let removed = slots.filter { next[$0.key] == nil }.values.sorted()
        leaving.formUnion(removed)
        self.configuration = configuration
        slots = next
        generation += 1
        snapshot.publish(Self.compile(configuration, slots, generation: generation, registry))
        for listener in added { addListener(listener) }
        for slot in removed { command(WorkerCommand(.removeListener, slot: Int32(slot))) }
        driver.wake()
    }

    package func stop() { command(WorkerCommand(.stop)) }

    /// A drain that runs out of time: no listener any more, then no session.
    package func endSessions() { command(WorkerCommand(.endSessions)) }

    package func stopListening() {
        for slot in slots.values.sorted() { command(WorkerCommand(.removeListener, slot: Int32(slot))) }
    }

    // MARK: Time

    package var now: Instant { driver.now() }

    /// One turn of the worker, and what its neighbours do with what came of it.
    package func turn() {
        worker.turn()
        worker.checkInvariants()
        while let request = port.requests.pop() { asked(request) }
        while let record = recordRing.pop() { records.append(record) }
    }

    /// Turns until so much time has passed.
    package func run(for duration: Duration) {
        let end = now.advanced(byNanoseconds: duration.clampedNanoseconds)
        after(duration.clampedNanoseconds) { [driver] in driver.wake() }
        while now < end && !worker.hasLeft { turn() }
    }

    /// Turns until `condition` holds. False where it does not within `duration`.
    package func run(within duration: Duration = .seconds(10), until condition: () -> Bool) -> Bool {
        let end = now.advanced(byNanoseconds: duration.clampedNanoseconds)
        while !condition() {
            if now >= end || worker.hasLeft { return condition() }
            turn()
        }
        return true
    }

    /// Has `action` done in so many nanoseconds.
    package func after(_ nanoseconds: UInt64, _ action: @escaping () -> Void) {
        nextMoment += 1
        moments[nextMoment] = action
        driver.call(nextMoment, at: now.advanced(byNanoseconds: nanoseconds))
    }

    // MARK: The resolver

    private func asked(_ request: ResolverRequest) {
        questions.append(request.name)
        guard let (delay, answer) = resolve(request.name) else { return }
        after(delay) { [port] in
            precondition(port.answers.push(ResolverAnswer(ticket: request.ticket, name: request.name, answer: answer)))
            port.wakeWorker()
        }
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
            driver.consume(connection.unconsumedCount, on: connection)
        }
        onChange?(connection)
    }

    // MARK: What is left

    /// All that is still out, in words; empty when everything has come home. Sessions that live have their sockets.
    package func outstanding() -> [String] {
        var left: [String] = []
        let (sessions, openings, buffers) = worker.outstanding
        if sessions != 0 { left.append("\(sessions) sessions") }
        if openings != 0 { left.append("\(openings) openings") }
        if buffers != 0 { left.append("\(buffers) buffers") }
        let sockets = driver.openCount - (worker.hasLeft ? 0 : status.listenerCount.load(ordering: .relaxed))
        if sockets != 0 { left.append("\(sockets) sockets") }
        if limits.sessions.value != 0 { left.append("\(limits.sessions.value) in the limit of sessions") }
        for (slot, counter) in limits.listeners.enumerated() where counter.value != 0 {
            left.append("\(counter.value) in the limit of listener \(slot)")
        }
        return left
    }

    /// The label of a record's reason.
    package func reason(_ record: SessionRecord) -> String { CloseReason.labels[Int(record.reason)] }
}
