import CWeir
import Glibc
import Synchronization
import WeirEpoll
import WeirHealth
import WeirIO
import WeirMemory
import WeirRouting
import WeirSockets
import WeirUpstream
import WeirUring

/// The thread that checks endpoints, which is there from the first time that there is something to check.
///
/// Its ends of the resolver's rings are there before, as the resolver is told of all its ports when it starts. Ends by `stop()`,
/// before the resolver does.
package final class HealthThread: Sendable {
    /// What the checker is made of, on its thread.
    package struct Materials: Sendable {
        /// The workers'.
        package let driver: DriverDecision.Name
        package let settings: ConnectionSettings
        package let snapshot: SnapshotCell<RouteTable>
        /// Which of the snapshot's readers the thread is: one that no worker is.
        package let reader: Int
        /// Checks at hand at once: 1...1024.
        package let slotCount: Int
        /// Told of each verdict that is another one, and after an update of each that is not healthy; on this thread.
        package let report: @Sendable (CheckTarget.Place, HealthVerdict) -> Void
        /// For the operator, where the thread cannot have the workers' driver.
        package let notice: @Sendable (String) -> Void

        package init(
            driver: DriverDecision.Name, settings: ConnectionSettings = ConnectionSettings(),
            snapshot: SnapshotCell<RouteTable>, reader: Int, slotCount: Int,
            report: @escaping @Sendable (CheckTarget.Place, HealthVerdict) -> Void,
            notice: @escaping @Sendable (String) -> Void
        ) {
            self.driver = driver
            self.settings = settings
            self.snapshot = snapshot
            self.reader = reader
            self.slotCount = slotCount
            self.report = report
            self.notice = notice
        }

        /// A sixteenth of the descriptors at most: the others are for sessions.
        package static func slotCount(_ machine: MachineLimits) -> Int {
            min(max(machine.descriptorCount / 16, 16), 1024)
        }
    }

    private enum State {
        case idle
        case running(SystemThread)
        case stopped
    }

    private enum Launch: Sendable {
        case pending
        case running
        case failed(DriverSetupFailure)
    }

    private final class LaunchReport: Sendable {
        let state = Mutex(Launch.pending)
    }

    /// For the resolver.
    package let port: ResolverPort
    private let materials: Materials
    private let wake: WakeEvent
    private let line = CheckLine()
    private let state = Mutex(State.idle)

    /// Starts nothing.
    package init(_ materials: Materials, wakeResolver: @escaping @Sendable () -> Void) throws(DriverSetupFailure) {
        let wake = try WakeEvent()
        self.wake = wake
        self.materials = materials
        port = ResolverPort(wakeResolver: wakeResolver, wakeWorker: { wake.signal() })
    }

    deinit {
        state.withLock { state in
            if case .running = state { preconditionFailure("the health thread was dropped while it ran") }
        }
    }

    /// Has `targets` checked from now on, and nothing else; those that were checked before keep what is known of them. Returns
    /// when they have been taken over: from then on only their places are reported. The first that are not none start the
    /// thread. After `stop` it does nothing.
    package func update(_ targets: [CheckTarget]) throws(Proxy.StartFailure) {
        let isRunning = try state.withLock { (state) throws(Proxy.StartFailure) in
            switch state {
            case .stopped: return false
            case .running: return true
            case .idle:
                guard !targets.isEmpty else { return false }
                state = .running(try start())
                return true
            }
        }
        guard isRunning else { return }
        let number = line.post(targets)
        wake.signal()
        while !line.hasAdopted(number) { usleep(100) }
    }

    /// What is known of every target.
    package var records: [CheckRecord] { line.records }

    /// Returns when every socket is closed and the thread has ended. More calls do nothing.
    package func stop() {
        state.withLock { state in
            if case .running(let thread) = state {
                line.stop()
                wake.signal()
                thread.join()
            }
            state = .stopped
        }
    }

    // MARK: The thread

    private func start() throws(Proxy.StartFailure) -> SystemThread {
        let launch = LaunchReport()
        let (materials, wake, line, port) = (materials, wake, line, port)
        let thread: SystemThread
        do throws(SystemThread.Failure) {
            thread = try SystemThread(name: "weir-health") {
                let pool = BufferPool(largeCount: Self.largeBufferCount, blockCount: materials.slotCount)
                let driver: any Driver
                do throws(DriverSetupFailure) { driver = try Self.driver(materials, pool, wake) } catch {
                    launch.state.withLock { $0 = .failed(error) }
                    return
                }
                let destinationGuard = SnapshotGuard(materials.snapshot, reader: materials.reader)
                let checker = Checker(
                    driver: driver, pool: pool, slotCount: materials.slotCount, resolver: port, line: line,
                    seed: cweir_random(), judge: { destinationGuard.allows($0, isLiteral: $1, privateNames: $2) },
                    report: materials.report)
                launch.state.withLock { $0 = .running }
                checker.run()
            }
        } catch {
            throw .system(what: "start the health thread", code: error.code)
        }
        while true {
            switch launch.state.withLock({ $0 }) {
            case .pending: usleep(50)
            case .running: return thread
            case .failed(let failure):
                thread.join()
                throw .system(what: "health checks: \(failure.step)", code: failure.code)
            }
        }
    }

    /// Answers are short and leave their buffer in the turn in which they come.
    private static let largeBufferCount = 64
    private static let bufferRingCount = 32

    /// Where memory for a ring is short by now, epoll does as well.
    private static func driver(
        _ materials: Materials, _ pool: BufferPool, _ wake: WakeEvent
    ) throws(DriverSetupFailure) -> any Driver {
        if materials.driver == .uring {
            do throws(DriverSetupFailure) {
                let driver = try UringDriver(
                    pool: pool, slotCount: materials.slotCount, completionCount: 4 * materials.slotCount,
                    bufferRingCount: bufferRingCount, submissionCount: 256, wake: wake, settings: materials.settings)
                try driver.start()
                return driver
            } catch {
                materials.notice("health checks on epoll instead of io_uring: \(error.step) failed with \(error.code)")
            }
        }
        return try EpollDriver(pool: pool, slotCount: materials.slotCount, wake: wake, settings: materials.settings)
    }
}
