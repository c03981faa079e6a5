import Glibc
import Synchronization
import WeirEngine
import WeirMemory
import WeirSockets
import WeirTelemetry

/// A worker on its thread, as the rest of the process sees it: a ring of commands, a status, a bell.
///
/// The worker, its ring included, is made by its own thread: the kernel ties a ring to whoever made it as well, and
/// would interrupt that thread's system calls when the ring is taken down.
final class WorkerThread: Sendable {
    private enum Launch: Sendable {
        case pending
        case running
        case failed(DriverSetupFailure)
    }

    private final class LaunchReport: Sendable {
        let state = Mutex(Launch.pending)
    }

    /// What commands go through; nil once the thread has ended.
    private struct Line: Sendable {
        let commands: SPSCRing<WorkerCommand>
        let wake: WakeEvent
        /// Commands sent.
        var count = 0
        /// Its listening sockets once they are carried out, by slot.
        var listening: [Int32: Int] = [:]

        mutating func sent(_ command: WorkerCommand) {
            count += 1
            switch command.kind {
            case .addListener: listening[command.slot, default: 0] += 1
            case .removeListener, .leaveListener: listening[command.slot] = nil
            case .stop: listening = [:]
            case .endSessions, .endEndpoint, .endRoute: break
            }
        }
    }

    let status: WorkerStatus
    private let line: Mutex<Line?>
    private let launch = LaunchReport()
    private let thread: SystemThread

    /// `makeWorker` runs on the new thread.
    init(
        index: Int, commands: SPSCRing<WorkerCommand>, status: WorkerStatus, wake: WakeEvent,
        _ makeWorker: @escaping @Sendable () throws(DriverSetupFailure) -> Worker
    ) throws(SystemThread.Failure) {
        self.status = status
        line = Mutex(Line(commands: commands, wake: wake))
        let launch = launch
        thread = try SystemThread(name: "weir-worker-\(index)") {
            let worker: Worker
            do throws(DriverSetupFailure) { worker = try makeWorker() } catch {
                launch.state.withLock { $0 = .failed(error) }
                return
            }
            launch.state.withLock { $0 = .running }
            worker.run()
        }
    }

    /// Waits until the worker is there, or its driver cannot be made.
    func awaitLaunch() throws(DriverSetupFailure) {
        while true {
            switch launch.state.withLock({ $0 }) {
            case .pending: usleep(50)
            case .running: return
            case .failed(let failure): throw failure
            }
        }
    }

    /// May come from any thread. Does nothing once the worker has left.
    func send(_ command: WorkerCommand) {
        line.withLock { line in
            guard line != nil else { return }
            while line?.commands.push(command) == false {
                if status.hasLeft.load(ordering: .acquiring) { return }
                line?.wake.signal()
                usleep(100)
            }
            line?.sent(command)
            line?.wake.signal()
        }
    }

    /// Whether every command sent has been carried out, the sockets of removed listeners being closed.
    var hasSettled: Bool {
        guard
            let (sentCount, socketCount) = line.withLock({ line in
                line.map { ($0.count, $0.listening.values.reduce(0, +)) }
            })
        else { return true }
        return status.commandCount.load(ordering: .acquiring) == sentCount
            && status.listenerCount.load(ordering: .acquiring) == socketCount
    }

    func wake() {
        line.withLock { $0?.wake.signal() }
    }

    var sessionCount: Int { status.sessionCount.load(ordering: .relaxed) }

    /// Waits for the end of the thread. Once.
    func join() {
        thread.join()
        line.withLock { $0 = nil }
    }
}
