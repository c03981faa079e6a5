import CWeir
import Glibc
import WeirEngine
import WeirEpoll
import WeirIO
import WeirMemory
import WeirRouting
import WeirSockets
import WeirTelemetry
import WeirUpstream
import WeirUring

/// All workers of a process, on their threads, and the ends of their rings that other threads hold.
struct WorkerGroup {
    let threads: [WorkerThread]
    let ports: [ResolverPort]
    let records: [SPSCRing<SessionRecord>]
    let driver: DriverDecision

    /// What workers are made of besides their drivers.
    struct Materials: Sendable {
        let capacity: Capacity
        let snapshot: SnapshotCell<RouteTable>
        let limits: SharedLimits
        let cells: [MetricCells]
        let wakeResolver: @Sendable () -> Void
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

    // MARK: io_uring

    private enum RingFailure: Error {
        case driver(DriverProblem)
        case start(Proxy.StartFailure)
    }

    private static let submissionCountMax = 1024
    private static let completionCounts = 1024...65536

    private static func startOnRings(
        _ reason: DriverDecision.Reason, _ materials: Materials
    ) throws(RingFailure) -> WorkerGroup {
        if let problem = DriverReport.probe().problem { throw .driver(problem) }
        let wanted = completionCountWanted(sessionCountMax: materials.capacity.sessionCountMax)
        var completionCount = wanted
        while true {
            do throws(LaunchFailure) {
                let count = completionCount
                let decision =
                    count == wanted
                    ? DriverDecision(uring: reason)
                    : DriverDecision(uring: reason, completionCount: count, insteadOf: wanted, HostFacts.here())
                return try WorkerGroup(decision, materials) { (pool, wake) throws(DriverSetupFailure) in
                    let driver = try UringDriver(
                        pool: pool, slotCount: materials.capacity.sessionCountMax, completionCount: count,
                        bufferRingCount: bufferRingCount(materials.capacity.largeBufferCount),
                        submissionCount: UInt32(min(submissionCountMax, count / 4)), wake: wake)
                    try driver.start()
                    return driver
                }
            } catch {
                switch error {
                case .driver(let failure):
                    // U-03: a ring's memory is limited per user and in its continuous size. Smaller rings do until they
                    // overflow, which costs calls and no completions. Every worker gets the same.
                    guard failure.code == ENOMEM, completionCount > completionCounts.lowerBound else {
                        throw .driver(DriverProblem(call: failure.step, code: failure.code, HostFacts.here()))
                    }
                    completionCount /= 2
                    // The kernel gives the memory of rings back a little after they are closed.
                    usleep(2000)
                case .start(let failure): throw .start(failure)
                }
            }
        }
    }

    /// Four times the operations that may be in flight, as far as the kernel allows: a power of two, as it rounds up.
    private static func completionCountWanted(sessionCountMax: Int) -> Int {
        var count = submissionCountMax * 4
        while count < sessionCountMax * 4 && count < completionCounts.upperBound { count *= 2 }
        return count
    }

    /// Half the buffers at most stand in the kernel's ring; 256 keep a busy turn supplied.
    private static func bufferRingCount(_ largeCount: Int) -> Int {
        var count = 256
        while count > largeCount / 2 { count /= 2 }
        return max(count, 1)
    }

    // MARK: epoll

    private static func startOnEpoll(
        _ decision: DriverDecision, _ materials: Materials
    ) throws(Proxy.StartFailure) -> WorkerGroup {
        do throws(LaunchFailure) {
            return try WorkerGroup(decision, materials) { (pool, wake) throws(DriverSetupFailure) in
                try EpollDriver(pool: pool, slotCount: materials.capacity.sessionCountMax, wake: wake)
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
        var records: [SPSCRing<SessionRecord>] = []
        do throws(LaunchFailure) {
            for index in 0..<materials.capacity.workerCount {
                let wake: WakeEvent
                do { wake = try WakeEvent() } catch {
                    throw .start(.system(what: "make the descriptor that wakes worker \(index)", code: error.code))
                }
                let port = ResolverPort(
                    capacity: 8192, wakeResolver: materials.wakeResolver, wakeWorker: { wake.signal() })
                let ring = SPSCRing<SessionRecord>(capacity: 4096)
                let commands = SPSCRing<WorkerCommand>(capacity: 1024)
                let status = WorkerStatus()
                ports.append(port)
                records.append(ring)
                do throws(SystemThread.Failure) {
                    let thread = try WorkerThread(index: index, commands: commands, status: status, wake: wake) {
                        () throws(DriverSetupFailure) in
                        let capacity = materials.capacity
                        let pool = BufferPool(largeCount: capacity.largeBufferCount, blockCount: capacity.blockCount)
                        return Worker(
                            WorkerParts(
                                index: index, driver: try makeDriver(pool, wake), pool: pool,
                                snapshot: materials.snapshot.reader(index), resolver: port, records: ring,
                                commands: commands, cells: materials.cells[index], limits: materials.limits,
                                status: status, sessionCapacity: capacity.sessionCountMax,
                                instance: materials.instance))
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
