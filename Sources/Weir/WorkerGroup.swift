import CWeir
import Glibc
import WeirEngine
import WeirEpoll
import WeirIO
import WeirMemory
import WeirModel
import WeirRouting
import WeirSockets
import WeirTelemetry
import WeirUpstream
import WeirUring

/// All workers of a process, on their threads, and the ends of their rings that other threads hold.
struct WorkerGroup {
    let threads: [WorkerThread]
    let ports: [ResolverPort]
    let records: [SPSCRing<LogEntry>]
    let driver: DriverDecision

    /// What workers are made of besides their drivers.
    struct Materials: Sendable {
        let capacity: Capacity
        let snapshot: SnapshotCell<RouteTable>
        let limits: SharedLimits
        let board: EndpointBoard
        let cells: [MetricCells]
        let splice: SpliceChoice
        let congestion: CongestionChoice
        let steering: Steering?
        let wakeResolver: @Sendable () -> Void
        var settings: ConnectionSettings {
            let machine = capacity.machine
            let budget = SocketBudget(byteCount: machine.memoryByteCount, sessions: limits.sessions)
            return ConnectionSettings(
                budget: machine.isMemoryOfGroup ? budget : nil, congestion: congestion.control)
        }
        /// Names this process in unique ids.
        let instance = cweir_random()
    }

    /// Makes a driver on the thread that will use it.
    private typealias DriverMaker =
        @Sendable (BufferPool, WakeEvent) throws(DriverSetupFailure) -> any Driver

    /// One process has one driver: where a worker's ring cannot be made although the probe went well, all of them start
    /// again with epoll.
    static func start(
        _ choice: Proxy.DriverChoice, _ materials: Materials
    ) throws(Proxy.StartFailure) -> WorkerGroup {
        if let congestion = materials.congestion.control { try tryOut(congestion) }
        guard choice != .epoll else { return try startOnEpoll(.requestedEpoll, materials) }
        let problem: DriverProblem
        do throws(RingFailure) {
            return try startOnRings(choice == .uring ? .requested : .available, materials)
        } catch {
            switch error {
            case .driver(let found): problem = found
            case .start(let failure): throw failure
            }
        }
        guard choice == .automatic else { throw .driver(reason: problem.description) }
        return try startOnEpoll(DriverDecision(fallingBackFrom: problem, HostFacts.here()), materials)
    }

    /// After privileges were given up, as some may be for the privileged only.
    private static func tryOut(_ congestion: CongestionControl) throws(Proxy.StartFailure) {
        let code = congestion.trial()
        guard code != 0 else { return }
        throw ListenerSockets.refusal(of: congestion, code)
    }

    // MARK: io_uring

    private enum RingFailure: Error {
        case driver(DriverProblem)
        case start(Proxy.StartFailure)
    }

    private static func startOnRings(
        _ reason: DriverDecision.Reason, _ materials: Materials
    ) throws(RingFailure) -> WorkerGroup {
        if let problem = DriverReport.probe().problem { throw .driver(problem) }
        let capacity = materials.capacity
        let wanted = RingSize(wantedFor: capacity)
        var next = wanted
        while true {
            let size = next
            do throws(LaunchFailure) {
                return try WorkerGroup(DriverDecision(uring: reason, size, insteadOf: wanted), materials) {
                    (pool, wake) throws(DriverSetupFailure) in
                    let driver = try UringDriver(
                        pool: pool, slotCount: capacity.sessionCountMax, completionCount: size.completionCount,
                        bufferRingCount: size.bufferRingCount, submissionCount: UInt32(size.submissionCount),
                        wake: wake, settings: materials.settings,
                        carriers: capacity.carriers(areSocketsBlocking: true),
                        spliceMethod: materials.splice == .ring ? .ring : .direct)
                    try driver.start()
                    return driver
                }
            } catch {
                switch error {
                case .driver(let failure):
                    let facts = HostFacts.here()
                    guard failure.code == ENOMEM,
                        let smaller = size.smaller(workerCount: capacity.workerCount, facts)
                    else { throw .driver(DriverProblem(call: failure.step, code: failure.code, facts)) }
                    next = smaller
                    RingSize.awaitMemory()
                case .start(let failure): throw .start(failure)
                }
            }
        }
    }

    // MARK: epoll

    private static func startOnEpoll(
        _ decision: DriverDecision, _ materials: Materials
    ) throws(Proxy.StartFailure) -> WorkerGroup {
        do throws(LaunchFailure) {
            return try WorkerGroup(decision, materials) { (pool, wake) throws(DriverSetupFailure) in
                try EpollDriver(
                    pool: pool, slotCount: materials.capacity.sessionCountMax, wake: wake,
                    settings: materials.settings,
                    carriers: materials.capacity.carriers(areSocketsBlocking: false))
            }
        } catch {
            switch error {
            case .driver(let failure): throw .system(what: "epoll: \(failure.step)", code: failure.code)
            case .start(let failure): throw failure
            }
        }
    }

    // MARK: Threads

    private enum LaunchFailure: Error {
        case driver(DriverSetupFailure)
        case start(Proxy.StartFailure)
    }

    /// Returns when every worker is there. Where one cannot be made, the others are taken down.
    private init(
        _ decision: DriverDecision, _ materials: Materials, _ makeDriver: @escaping DriverMaker
    ) throws(LaunchFailure) {
        var threads: [WorkerThread] = []
        var ports: [ResolverPort] = []
        var records: [SPSCRing<LogEntry>] = []
        do throws(LaunchFailure) {
            for index in 0..<materials.capacity.workerCount {
                let wake: WakeEvent
                do { wake = try WakeEvent() } catch {
                    throw .start(.system(what: "make the descriptor that wakes worker \(index)", code: error.code))
                }
                // As many sessions may ask in one turn; all of their answers need not fit.
                let port = ResolverPort(
                    requestCount: 4096, answerCount: 1024, wakeResolver: materials.wakeResolver,
                    wakeWorker: { wake.signal() })
                let ring = SPSCRing<LogEntry>(capacity: 4096)
                port.requests.makeResident()
                port.answers.makeResident()
                ring.makeResident()
                let commands = SPSCRing<WorkerCommand>(capacity: 1024)
                let status = WorkerStatus()
                ports.append(port)
                records.append(ring)
                do throws(SystemThread.Failure) {
                    let thread = try WorkerThread(index: index, commands: commands, status: status, wake: wake) {
                        () throws(DriverSetupFailure) in
                        let capacity = materials.capacity
                        // Before it takes memory, which then is near.
                        materials.steering?.bind(worker: index)
                        let pool = BufferPool(largeCount: capacity.largeBufferCount, blockCount: capacity.blockCount)
                        var parts = WorkerParts(
                            index: index, driver: try makeDriver(pool, wake), pool: pool,
                            snapshot: materials.snapshot.reader(index), resolver: port, records: ring,
                            commands: commands, cells: materials.cells[index], limits: materials.limits,
                            status: status, sessionCapacity: capacity.sessionCountMax,
                            instance: materials.instance)
                        parts.board = materials.board
                        return Worker(parts)
                    }
                    threads.append(thread)
                } catch {
                    throw .start(.system(what: "start worker \(index)", code: error.code))
                }
            }
            // They make their memory and rings side by side.
            for thread in threads {
                do { try thread.awaitLaunch() } catch { throw .driver(error) }
            }
        } catch {
            Self.stop(threads)
            throw error
        }
        self.threads = threads
        self.ports = ports
        self.records = records
        driver = decision
    }

    func stop() { Self.stop(threads) }

    private static func stop(_ threads: [WorkerThread]) {
        for thread in threads { thread.send(WorkerCommand(.stop)) }
        for thread in threads { thread.join() }
    }
}
