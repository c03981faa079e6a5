import CWeir
import Glibc
import Synchronization
import WeirEngine
import WeirHealth
import WeirIO
import WeirMemory
import WeirModel
import WeirNet
import WeirResolver
import WeirRouting
import WeirSession
import WeirSockets
import WeirTelemetry
import WeirUpstream

/// All the parts of a running proxy and how they are put together, changed and taken apart.
final class Assembly: Sendable {
    /// What a reload changes. Only with the lock held.
    private struct State {
        var configuration: Configuration
        /// Slot of each bound listener, by the key of its configuration; see `ListenerSockets.key(_:)`.
        var slots: [String: Int] = [:]
        var sockets: [String: ListenerSockets] = [:]
        var table: RouteTable
        var generation: UInt64 = 1
        var isDraining = false
        var isHandedOver = false
        var isStopped = false
    }

    /// The threads beside the workers, and what they counted last once they have stopped.
    struct Services {
        var health: HealthThread?
        var resolver: Resolver?
        var log: AccessLogWriter?
        var resolverCounts = ResolverCounts()
        var lostLineCount: UInt64 = 0
    }

    /// What the control thread looks at, and when it said what it saw.
    struct Watch {
        var shortages = ShortageWatch()
        var endpoints: EndpointWatch
        var sourcePorts = SourcePortWatch()
        var memory = MemoryWatch()
        var saidAt = Instant(nanoseconds: 0)
    }

    let workerCount: Int
    let sessionCountMax: Int
    let driver: DriverDecision
    let capacity: Capacity
    private let state: Mutex<State>
    private let snapshot: SnapshotCell<RouteTable>
    let registry: MetricRegistry
    private let cells: [MetricCells]
    let limits: SharedLimits
    private let board: EndpointBoard
    private let workers: [WorkerThread]
    let services: Mutex<Services>
    private let control: Mutex<ControlThread?>
    let watch: Mutex<Watch>
    private let notice: @Sendable (String) -> Void
    /// Keys of listeners of the process before this one for which the configuration has no use.
    let unusedKeys: [String]
    /// Where the admin endpoint is for as long as the process lives, whatever a reload says.
    private let admin: SocketAddress?
    /// Likewise.
    private let congestion: CongestionChoice
    private let steering: Steering?

    // MARK: Start

    init(_ configuration: Configuration, _ options: Proxy.Options) throws(Proxy.StartFailure) {
        let faults = configuration.faults()
        guard faults.isEmpty else { throw .configuration(faults) }
        notice = options.notice
        admin = configuration.admin?.address
        congestion = configuration.congestion
        if options.reportsWarnings { for warning in configuration.warnings() { options.notice("\(warning)") } }
        let capacity = Capacity(configuration)
        self.capacity = capacity
        options.notice("\(capacity)")
        if let warning = capacity.warning { options.notice(warning) }
        workerCount = capacity.workerCount
        sessionCountMax = capacity.sessionCountMax

        steering = try Steering.chosen(by: configuration, workerCount: capacity.workerCount)

        // Bind, give up privileges, then make rings (T-18): a ring keeps the rights it was made with.
        var made: [Int: ListenerSockets] = [:]
        var inherited = options.inherited
        do {
            // Of these nobody has said whether they take IPv4 at [::].
            let others = inherited.map {
                ListenerSockets.Place(address: $0.address, takesIPv4: $0.address.ip == .v6Any)
            }
            // Before any is bound: from then on whoever else has the port could not be told from ourselves.
            let places = try configuration.listeners.map { (listener) throws(Proxy.StartFailure) -> SocketAddress in
                let isInherited = inherited.contains { $0.belongs(to: listener) }
                return isInherited ? listener.address : try ListenerSockets.freePlace(for: listener, beside: others)
            }
            for slot in ListenerSockets.bindingOrder(configuration.listeners) {
                let listener = configuration.listeners[slot]
                let own = inherited.filter { $0.belongs(to: listener) }
                inherited.removeAll { $0.belongs(to: listener) }
                made[slot] = try ListenerSockets(
                    listener, at: places[slot], workerCount: capacity.workerCount,
                    unsentByteCountMax: capacity.unsentByteCountMax, congestion: configuration.congestion,
                    steering: steering, inherited: own)
            }
            unusedKeys = try Self.unusedKeys(inherited)
            for socket in inherited { close(socket.descriptor) }
            inherited = []
            try options.afterBind()
        } catch {
            for bound in made.values { bound.close() }
            for socket in inherited { close(socket.descriptor) }
            if let failure = error as? Proxy.StartFailure { throw failure }
            throw .system(what: "\(error)", code: 0)
        }

        let sockets = configuration.listeners.indices.compactMap { made[$0] }

        let cells = (0..<capacity.workerCount).map { _ in MetricCells() }
        self.cells = cells
        let registry = MetricRegistry(
            workers: cells, reasonLabels: CloseReason.labels, guardRuleLabels: GuardRule.allCases.map(\.label),
            notice: options.notice)
        self.registry = registry
        limits = SharedLimits(
            sessionCountMax: capacity.sessionCountMax, rateMax: RateBound(configuration.limits.rate),
            ports: SourcePorts.here().ledger())

        var slots: [String: Int] = [:]
        var bound: [String: ListenerSockets] = [:]
        for (slot, listener) in configuration.listeners.enumerated() {
            slots[ListenerSockets.key(listener)] = slot
            bound[ListenerSockets.key(listener)] = sockets[slot]
        }
        let board = EndpointBoard()
        self.board = board
        let table = Self.compile(configuration, slots, bound, admin, generation: 1, registry, board)
        // One more for the thread that checks endpoints.
        snapshot = SnapshotCell(table, readerCount: capacity.workerCount + 1)
        var state = State(configuration: configuration, table: table)
        state.slots = slots
        state.sockets = bound
        self.state = Mutex(state)

        var started = Started(sockets: sockets)
        do {
            let parts = try Self.startThreads(
                configuration, capacity, steering, snapshot, registry, limits, board, cells, options.driver,
                options.observer, notice: options.notice, &started)
            workers = parts.group.threads
            driver = parts.group.driver
            services = Mutex(Services(health: parts.health, resolver: parts.resolver, log: parts.log))
        } catch {
            started.undo()
            throw error
        }
        control = Mutex(nil)
        watch = Mutex(Watch(endpoints: EndpointWatch(board, table, configuration)))
        for (slot, sockets) in sockets.enumerated() { addListener(slot, sockets) }
        awaitListeners()
        let thread: ControlThread
        do {
            thread = try ControlThread(
                tick: { [weak self] in self?.tick() },
                addressesChanged: { [weak self] in self?.refreshLocalAddresses() })
        } catch {
            stop()
            throw .system(what: "start the control thread", code: error.code)
        }
        control.withLock { $0 = thread }
        // Nothing fails from here on.
        for (listener, bound) in zip(configuration.listeners, sockets) {
            let lines = bound.takeOver(
                listener.name, workerCount: workerCount, congestion: congestion, steering: steering)
            for line in lines { notice(line) }
        }
    }

    /// The service manager's sockets are there because somebody wants them served: one without a listener is a mistake.
    private static func unusedKeys(_ inherited: [InheritedSocket]) throws(Proxy.StartFailure) -> [String] {
        var keys: [String] = []
        for socket in inherited {
            switch socket.maker {
            case .predecessor(let key), .handedOn(let key):
                if !keys.contains(key) { keys.append(key) }
            case .serviceManager(let name):
                throw .system(
                    what: "no listener has the address of socket \"\(name)\" of the service manager: "
                        + "\(socket.address)",
                    code: 0)
            }
        }
        return keys
    }

    /// What a failed start has to take back.
    private struct Started {
        var sockets: [ListenerSockets]
        var group: WorkerGroup?
        var health: HealthThread?
        var resolver: Resolver?
        var log: AccessLogWriter?

        func undo() {
            group?.stop()
            health?.stop()
            resolver?.stop()
            log?.stop()
            for bound in sockets { bound.close() }
        }
    }

    private struct Threads {
        var group: WorkerGroup
        var health: HealthThread
        var resolver: Resolver
        var log: AccessLogWriter
    }

    private static func startThreads(
        _ configuration: Configuration, _ capacity: Capacity, _ steering: Steering?,
        _ snapshot: SnapshotCell<RouteTable>, _ registry: MetricRegistry, _ limits: SharedLimits,
        _ board: EndpointBoard, _ cells: [MetricCells], _ driver: Proxy.DriverChoice,
        _ observer: Proxy.SessionObserver?, notice: @escaping @Sendable (String) -> Void,
        _ started: inout Started
    ) throws(Proxy.StartFailure) -> Threads {
        let signal: ResolverSignal
        do { signal = try ResolverSignal() } catch {
            throw .system(what: "make the resolver's descriptor", code: EMFILE)
        }
        let materials = WorkerGroup.Materials(
            capacity: capacity, snapshot: snapshot, limits: limits, board: board, cells: cells,
            splice: configuration.splice, congestion: configuration.congestion, steering: steering,
            wakeResolver: { signal.raise() })
        let group = try WorkerGroup.start(driver, materials)
        started.group = group
        let health: HealthThread
        do throws(DriverSetupFailure) {
            health = try HealthThread(
                HealthThread.Materials(
                    driver: group.driver.name, settings: materials.settings, snapshot: snapshot,
                    reader: capacity.workerCount, slotCount: HealthThread.Materials.slotCount(capacity.machine),
                    report: { place, verdict in
                        board.setHealth(
                            place, verdict == .healthy ? .healthy : .unhealthy,
                            now: Instant(nanoseconds: cweir_monotonic_ns()))
                    }, notice: notice), wakeResolver: { signal.raise() })
        } catch {
            throw .system(what: "make the health thread's descriptor", code: error.code)
        }
        started.health = health
        if let line = group.driver.notice { notice(line) }
        let resolver = Resolver(settings: configuration.resolver, signal: signal, ports: group.ports + [health.port])
        do { try resolver.start() } catch { throw .system(what: "start the resolver", code: EAGAIN) }
        started.resolver = resolver
        let log: AccessLogWriter
        do {
            log = try AccessLogWriter(
                target: target(configuration.log), rings: group.records, registry: registry, notice: notice,
                ended: { record in if let observer { tell(observer, record, registry) } })
        } catch {
            throw .system(what: error.what, code: error.code)
        }
        try health.update(checkTargets(configuration, board))
        return Threads(group: group, health: health, resolver: resolver, log: log)
    }

    private static func tell(
        _ observer: Proxy.SessionObserver, _ record: borrowing SessionRecord, _ registry: MetricRegistry
    ) {
        guard record.preambleTime != nil, observer.isWanted(),
            let listener = registry.subject(at: record.listener)?.name
        else { return }
        observer.ended(
            Proxy.EndedSession(
                listener: listener, route: registry.subject(at: record.route)?.name, serverName: record.serverName,
                client: record.client.ip, peer: record.peer.ip, local: record.local,
                isProxied: record.flags.contains(.proxyAccepted)))
    }

    /// What is checked from now on.
    private static func checkTargets(_ configuration: Configuration, _ board: EndpointBoard) -> [CheckTarget] {
        func place(_ cluster: Cluster, _ endpoint: Endpoint) -> Int32 {
            board.place(of: .endpoint(cluster: cluster.name, description: endpoint.description))
        }
        return CheckTarget.all(
            of: configuration, interfaceIndex: LocalAddresses.interfaceIndex,
            place: { place(configuration.clusters[$0], configuration.clusters[$0].endpoints[$1]) })
    }

    /// Of endpoints that are checked no more the checks say nothing. Once nobody reports by an earlier list.
    private static func forgetUnchecked(_ configuration: Configuration, _ board: EndpointBoard) {
        let now = Instant(nanoseconds: cweir_monotonic_ns())
        for cluster in configuration.clusters {
            for endpoint in cluster.endpoints where cluster.healthCheck == nil || endpoint.isDown {
                let subject = WeirRouting.MetricSubject.endpoint(
                    cluster: cluster.name, description: endpoint.description)
                board.setHealth(board.place(of: subject), .unknown, now: now)
            }
        }
    }

    private static func target(_ settings: LogSettings) -> AccessLogWriter.Target {
        switch settings.access {
        case .standardOutput: .standardOutput
        case .file(let path): .file(path)
        case .none: .none
        }
    }

    // MARK: Routes

    private static func compile(
        _ configuration: Configuration, _ slots: [String: Int], _ bound: [String: ListenerSockets],
        _ admin: SocketAddress?, generation: UInt64, _ registry: MetricRegistry, _ board: EndpointBoard
    ) -> RouteTable {
        var slotOfName: [String: Int] = [:]
        for listener in configuration.listeners {
            slotOfName[listener.name] = slots[ListenerSockets.key(listener)]
        }
        return board.withPlaces(now: Instant(nanoseconds: cweir_monotonic_ns())) { places in
            RouteTable(
                compiling: configuration, slots: slotOfName, generation: generation,
                ownListeners: own(bound, admin), localAddresses: LocalAddresses.current(),
                interfaceIndex: { LocalAddresses.interfaceIndex($0) },
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

    /// What no session may be led to (T-07): our listeners, and the admin endpoint, which is for operators only.
    private static func own(_ bound: [String: ListenerSockets], _ admin: SocketAddress?) -> [SocketAddress] {
        bound.values.map(\.address) + (admin.map { [$0] } ?? [])
    }

    /// Publishes and waits until no worker uses an older table.
    private func publish(_ table: RouteTable) {
        let epoch = snapshot.publish(table)
        for worker in workers { worker.wake() }
        while !snapshot.readersHaveAdopted(epoch) { usleep(200) }
        snapshot.reclaim()
    }

    private func addListener(_ slot: Int, _ sockets: ListenerSockets) {
        for (index, descriptor) in sockets.descriptors.enumerated() {
            workers[index % workerCount].send(
                WorkerCommand(
                    .addListener, slot: Int32(slot), socket: Socket(rawValue: descriptor), address: sockets.address))
        }
    }

    /// `isLeft`: its sockets are the service manager's, which starts somebody else for whoever waits there.
    private func removeListener(_ slot: Int, isLeft: Bool) {
        let kind: WorkerCommand.Kind = isLeft ? .leaveListener : .removeListener
        for worker in workers { worker.send(WorkerCommand(kind, slot: Int32(slot))) }
    }

    /// Waits until every worker has taken all orders about listeners.
    private func awaitListeners() {
        while !workers.allSatisfy(\.hasSettled) { usleep(200) }
    }

    // MARK: Changes

    /// `configuration` has no faults.
    func reload(_ configuration: Configuration) throws(Proxy.StartFailure) {
        try state.withLock { (state) throws(Proxy.StartFailure) in
            guard !state.isStopped, !state.isDraining else {
                throw .system(what: "take a new configuration while draining", code: ESHUTDOWN)
            }
            var fresh: [(slot: Int, sockets: ListenerSockets)] = []
            var slots: [String: Int] = [:]
            var bound: [String: ListenerSockets] = [:]
            var places: [String: SocketAddress] = [:]
            for listener in configuration.listeners {
                let key = ListenerSockets.key(listener)
                slots[key] = state.slots[key]
                bound[key] = state.sockets[key]
                if bound[key] != nil { continue }
                // Before any is bound, as at the start.
                places[key] = try ListenerSockets.freePlace(
                    for: listener, beside: state.sockets.values.lazy.map(\.place))
            }
            for index in ListenerSockets.bindingOrder(configuration.listeners) {
                let listener = configuration.listeners[index]
                let key = ListenerSockets.key(listener)
                guard let place = places[key] else { continue }
                let taken = Set(slots.values).union(state.slots.values)
                // A slot is free for another listener once the last session of the one before has ended.
                let slot = limits.listeners.indices.first {
                    !taken.contains($0) && limits.listeners[$0].value == 0
                }
                do throws(Proxy.StartFailure) {
                    guard let slot else {
                        throw .system(what: "find a slot for listener \(listener.name)", code: ENOSPC)
                    }
                    let sockets = try ListenerSockets(
                        listener, at: place, workerCount: workerCount,
                        unsentByteCountMax: capacity.unsentByteCountMax, congestion: congestion, steering: steering)
                    fresh.append((slot, sockets))
                    slots[key] = slot
                    bound[key] = sockets
                } catch {
                    for (_, sockets) in fresh { sockets.close() }
                    throw error
                }
            }
            // Only where it is another: a redirection gives up lines that wait for a stalled output.
            if configuration.log != state.configuration.log {
                do throws(AccessLogWriter.Failure) { try redirectLog(configuration.log) } catch {
                    for (_, sockets) in fresh { sockets.close() }
                    throw .system(what: error.what, code: error.code)
                }
            }
            if configuration.resolver != state.configuration.resolver {
                services.withLock { $0.resolver?.reconfigure(configuration.resolver) }
            }
            let workers = configuration.workerCount ?? workerCount
            if workers != workerCount { notice("the number of workers stays \(workerCount) until a restart") }
            if configuration.limits != state.configuration.limits { notice("process limits stay until a restart") }
            if configuration.splice != state.configuration.splice {
                notice("splice stays as it is until a restart")
            }
            if configuration.congestion != state.configuration.congestion {
                notice("congestion stays as it is until a restart")
            }
            if configuration.steering != state.configuration.steering {
                notice("steering stays as it is until a restart")
            }
            state.generation += 1
            let before = state.configuration
            let removed = endpointsRemoved(by: configuration, from: before)
            state.table = Self.compile(
                configuration, slots, bound, admin, generation: state.generation, registry, board)
            publish(state.table)
            let table = state.table
            watch.withLock { $0.endpoints.adopt(table, configuration) }
            // The configuration is in force already: that endpoints are not checked takes nothing of it back.
            do throws(Proxy.StartFailure) {
                try services.withLock { $0.health }?.update(Self.checkTargets(configuration, board))
            } catch {
                notice("\(error)")
            }
            Self.forgetUnchecked(configuration, board)
            // Neither workers nor the watch nor the checker use an earlier one from here on.
            board.forgetGone()
            for endpoint in removed { end(endpoint, .endpointRemoved) }
            endRoutesRemoved(by: configuration, from: before)
            for (slot, sockets) in fresh { addListener(slot, sockets) }
            for (key, slot) in state.slots where slots[key] == nil {
                removeListener(slot, isLeft: state.sockets[key]?.isServiceManagers == true)
            }
            // Removed ones are closed on return: their ports are free, and their slots, once their sessions are over.
            awaitListeners()
            state.slots = slots
            state.sockets = bound
            state.configuration = configuration
        }
    }

    /// The places of endpoints whose live sessions end with this reload.
    private func endpointsRemoved(
        by next: Configuration, from before: Configuration
    ) -> [EndpointWatch.Ending] {
        let ending = before.clusters.filter { $0.onRemoved != .keep }.map { ($0.name, $0.onRemoved) }
        if ending.isEmpty { return [] }
        let ways = Dictionary(ending, uniquingKeysWith: { first, _ in first })
        return watch.withLock { $0.endpoints.places(without: next, ways) }
    }

    private func endRoutesRemoved(by next: Configuration, from before: Configuration) {
        for listener in before.listeners where listener.routes.contains(where: { $0.onRemoved != .keep }) {
            let staying = Set(next.listeners.first { $0.name == listener.name }?.routes.map(\.name) ?? [])
            for route in listener.routes where !staying.contains(route.name) {
                guard let time = route.onRemoved.time else { continue }
                // Nobody can come to it any more, so who is not there now needs no command, which a worker looks through
                // all its sessions for.
                guard sessionCount(listener: listener.name, route: route.name) > 0 else { continue }
                let metric = registry.route(listener: listener.name, name: route.name)
                for worker in workers { worker.send(WorkerCommand(.endRoute(after: time), slot: metric)) }
            }
        }
    }

    /// Ends the live sessions of an endpoint.
    private func end(_ endpoint: EndpointWatch.Ending, _ reason: CloseReason.Other) {
        for worker in workers {
            worker.send(WorkerCommand(.endEndpoint(reason, after: endpoint.time), slot: endpoint.place))
        }
    }

    /// Runs on the control thread, several times a second.
    private func tick() {
        snapshot.reclaim()
        let now = Instant(nanoseconds: cweir_monotonic_ns())
        let endpoints = watch.withLock { $0.endpoints.look(now: now) }
        for line in endpoints.lines { notice(line) }
        for endpoint in endpoints.ending { end(endpoint, .endpointUnhealthy) }
        let lines = watch.withLock { watch -> [String] in
            watch.memory.look()
            limits.isMemoryShort.store(watch.memory.isShort, ordering: .relaxed)
            guard now.nanoseconds(since: watch.saidAt) >= 1_000_000_000 else { return [] }
            watch.saidAt = now
            let pairs = SourcePortFamilies(limits.ports, now: now).pairs
            return watch.sourcePorts.lines(pairs, limit: limits.ports.limit)
                + watch.shortages.lines(capacity) { registry.sum(WorkerCell.shortages + Int32($0.rawValue)) }
        }
        for line in lines { notice(line) }
    }

    private func refreshLocalAddresses() {
        state.withLock { state in
            guard !state.isStopped else { return }
            state.generation += 1
            state.table = RouteTable(
                state.table, generation: state.generation, ownListeners: Self.own(state.sockets, admin),
                localAddresses: LocalAddresses.current())
            publish(state.table)
        }
    }

    private func redirectLog(_ settings: LogSettings) throws(AccessLogWriter.Failure) {
        try services.withLock { (services) throws(AccessLogWriter.Failure) in
            try services.log?.redirect(to: Self.target(settings))
        }
    }

    func reopenLog() {
        do throws(AccessLogWriter.Failure) {
            try services.withLock { (services) throws(AccessLogWriter.Failure) in try services.log?.reopen() }
        } catch { notice("the access log could not be opened again: \(error.what)") }
    }

    // MARK: Looks

    var boundListeners: [Proxy.BoundListener] {
        state.withLock { state in
            state.configuration.listeners.map { listener in
                Proxy.BoundListener(
                    name: listener.name,
                    address: state.sockets[ListenerSockets.key(listener)]?.address ?? listener.address)
            }
        }
    }

    /// Copies of the listening sockets, for a process that is to take them over. The caller closes them.
    func copiedSockets() throws(Proxy.StartFailure) -> [Proxy.ListenerCopy] {
        try state.withLock { (state) throws(Proxy.StartFailure) in
            guard !state.isStopped, !state.isDraining else {
                throw .system(what: "hand the listeners over while draining", code: ESHUTDOWN)
            }
            var copies: [Proxy.ListenerCopy] = []
            for (key, sockets) in state.sockets {
                var copy = Proxy.ListenerCopy(key: key, isServiceManagers: sockets.isServiceManagers)
                for descriptor in sockets.descriptors[..<sockets.socketCount] {
                    let duplicate = cweir_duplicate(descriptor)
                    guard duplicate >= 0 else {
                        for other in copies + [copy] { other.close() }
                        throw .system(what: "copy the listening sockets", code: -duplicate)
                    }
                    copy.descriptors.append(duplicate)
                }
                copies.append(copy)
            }
            return copies
        }
    }

    /// Turns of each worker's loop so far.
    var turnCounts: [UInt64] { cells.map { $0.value(WorkerCell.turns) } }

    func wakeWorkers() {
        for worker in workers { worker.wake() }
    }

    var isReady: Bool { state.withLock { !$0.isDraining && !$0.isStopped } }
    var isHandedOver: Bool { state.withLock { $0.isHandedOver } }
    var sessionCount: Int { workers.reduce(0) { $0 + $1.sessionCount } }

    func endpointStatuses() -> [EndpointStatus] {
        let now = Instant(nanoseconds: cweir_monotonic_ns())
        let records = services.withLock { $0.health }?.records ?? []
        let checks = Dictionary(
            records.map { ($0.place, $0.facts) }, uniquingKeysWith: { first, _ in first })
        return watch.withLock { $0.endpoints.statuses(now: now, checks: checks) }
    }

    /// A line for each pair of source address and destination.
    func sourceTable() -> String {
        let now = Instant(nanoseconds: cweir_monotonic_ns())
        return SourcePortFamilies(limits.ports, now: now).matrix(now: now).map { $0 + "\n" }.joined()
    }

    /// 0 for a route that has no metric cells of its own: nobody knows which of the sessions there are its.
    func sessionCount(listener: String, route: String) -> Int {
        let base = registry.route(listener: listener, name: route)
        guard registry.isOwn(route: base) else { return 0 }
        // The end is read first, as the exposition does.
        let leftCount = registry.sum(base + RouteCell.left)
        let count = registry.sum(base + RouteCell.sessions)
        return count > leftCount ? Int(clamping: count - leftCount) : 0
    }

    func sightings(within time: Duration) -> (names: [Proxy.Sighting], isComplete: Bool) {
        guard let log = services.withLock({ $0.log }) else { return ([], true) }
        let (names, isComplete, now) = log.seenNames(within: time.clampedNanoseconds)
        let sightings = names.compactMap { seen -> Proxy.Sighting? in
            guard let listener = registry.subject(at: seen.listener)?.name else { return nil }
            let age = now > seen.lastSeenAt ? now - seen.lastSeenAt : 0
            return Proxy.Sighting(
                listener: listener, serverName: seen.serverName, client: seen.client, peer: seen.peer,
                local: seen.local, isProxied: seen.isProxied, sessionCount: seen.count,
                age: .nanoseconds(Int64(clamping: age)))
        }
        return (sightings, isComplete)
    }

    // MARK: End

    /// `heirless`: keys of listeners that no other process has taken over; nil: none of them.
    func drain(delay: Duration, timeout: Duration, heirless: [String]? = nil) -> Bool {
        let listeners = state.withLock { state -> [(slot: Int, isLeft: Bool)] in
            guard !state.isStopped, !state.isDraining else { return [] }
            state.isDraining = true
            state.isHandedOver = heirless != nil
            return state.slots.map { key, slot in
                let hasHeir = heirless.map { !$0.contains(key) } ?? false
                return (slot, !hasHeir && state.sockets[key]?.isServiceManagers == true)
            }
        }
        if !listeners.isEmpty {
            let end = instant(in: delay)
            while cweir_monotonic_ns() < end.nanoseconds {
                if state.withLock({ $0.isStopped }) { return false }
                usleep(1000)
            }
        }
        for listener in listeners { removeListener(listener.slot, isLeft: listener.isLeft) }
        let deadline = instant(in: timeout)
        // Settled is asked first: nobody is taken in after it, so a count of zero that is read then stays zero. The other
        // way round, a worker may take in who still waits between the two, and the end of the drain would reset them.
        while !workers.allSatisfy(\.hasSettled) || sessionCount > 0 {
            if state.withLock({ $0.isStopped }) { return false }
            if cweir_monotonic_ns() >= deadline.nanoseconds {
                for worker in workers { worker.send(WorkerCommand(.endSessions)) }
                while sessionCount > 0 && !state.withLock({ $0.isStopped }) { usleep(1000) }
                return false
            }
            usleep(1000)
        }
        // A stop meanwhile is what ended the last ones.
        return state.withLock { !$0.isStopped }
    }

    private func instant(in duration: Duration) -> Instant {
        Instant(nanoseconds: cweir_monotonic_ns()).advanced(byNanoseconds: duration.clampedNanoseconds)
    }

    func stop() {
        let isFirst = state.withLock { state in
            defer { state.isStopped = true }
            return !state.isStopped
        }
        guard isFirst else { return }
        let thread = control.withLock { control in
            defer { control = nil }
            return control
        }
        thread?.stop()
        for worker in workers { worker.send(WorkerCommand(.stop)) }
        for worker in workers { worker.join() }
        let (health, resolver, log) = services.withLock { services in
            (services.health, services.resolver, services.log)
        }
        health?.stop()
        resolver?.stop()
        log?.stop()
        services.withLock { services in
            services.resolverCounts = resolver?.counts ?? ResolverCounts()
            services.lostLineCount = log?.lostLineCount ?? 0
            // Their last descriptors go with them.
            services.health = nil
            services.resolver = nil
            services.log = nil
        }
    }
}
