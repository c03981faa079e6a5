import Glibc
import Synchronization
import WeirEngine
import WeirMemory
import WeirTelemetry

/// A worker on its thread, as the rest of the process sees it: a ring of commands, a status, a bell.
final class WorkerThread: Sendable {
    /// The worker belongs to its thread; the box only carries it there.
    private final class Passage: @unchecked Sendable {
        let worker: Worker
        init(_ worker: Worker) { self.worker = worker }
    }

    /// The lock makes all threads that send one producer.
    private let commands: Mutex<SPSCRing<WorkerCommand>>
    let status: WorkerStatus
    let wake: @Sendable () -> Void
    private let thread: SystemThread

    /// `worker` is used by nobody else from here on.
    init(
        _ worker: sending Worker, index: Int, commands: SPSCRing<WorkerCommand>, status: WorkerStatus,
        wake: @escaping @Sendable () -> Void
    ) throws(SystemThread.Failure) {
        self.commands = Mutex(commands)
        self.status = status
        self.wake = wake
        let passage = Passage(worker)
        thread = try SystemThread(name: "weir-worker-\(index)") { passage.worker.run() }
    }

    func send(_ command: WorkerCommand) {
        commands.withLock { commands in
            while !commands.push(command) {
                wake()
                usleep(100)
            }
        }
        wake()
    }

    var sessionCount: Int { status.sessionCount.load(ordering: .relaxed) }

    func join() { thread.join() }
}
