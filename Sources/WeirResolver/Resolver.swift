import CWeir
import Glibc
import Synchronization
import WeirMemory
import WeirModel
import WeirUpstream

/// Resolves names for all workers, on one thread of its own.
///
/// Neither a dead server nor a missing resolv.conf keeps it from starting: names fail until a server answers.
/// Ends by `stop()`, never by being forgotten.
package final class Resolver: Sendable {
    /// What the thread and its owner share.
    final class Shared: Sendable {
        let ports: [ResolverPort]
        let signal: ResolverSignal
        let system: SystemServers
        let limits: AnswerTable.Limits
        let isStopping = Atomic<Bool>(false)
        /// Written by `reconfigure`, read by the thread where `settingsChanged` says so.
        let settings: Mutex<ResolverSettings>
        let settingsChanged = Atomic<Bool>(false)
        let counts = Mutex(ResolverCounts())

        init(
            settings: ResolverSettings, signal: ResolverSignal, ports: [ResolverPort], system: SystemServers,
            limits: AnswerTable.Limits
        ) {
            self.ports = ports
            self.signal = signal
            self.system = system
            self.limits = limits
            self.settings = Mutex(settings)
        }
    }

    private enum State {
        case idle
        case running(SystemThread)
        case stopped
    }

    private let shared: Shared
    private let state = Mutex(State.idle)

    /// Every port's `wakeResolver` must raise `signal`.
    package init(
        settings: ResolverSettings, signal: ResolverSignal, ports: [ResolverPort],
        system: SystemServers = SystemServers(), limits: AnswerTable.Limits = AnswerTable.Limits()
    ) {
        shared = Shared(settings: settings, signal: signal, ports: ports, system: system, limits: limits)
    }

    deinit {
        state.withLock { state in
            if case .running = state { preconditionFailure("a resolver was dropped while it ran") }
        }
    }

    /// Starts the thread, with all signals blocked in it. Once only.
    package func start() throws(ResolverFault) {
        try state.withLock { (state) throws(ResolverFault) in
            guard case .idle = state else { preconditionFailure("a resolver starts once") }
            state = .running(try Self.spawn(shared))
        }
    }

    /// Answers all that waits with `cancelled`, ends the thread and closes what it had open. Returns when all of that is done;
    /// it takes no longer than the turn at hand. More calls, or none to `start` before, do nothing.
    package func stop() {
        state.withLock { state in
            guard case .running(let thread) = state else { return }
            shared.isStopping.store(true, ordering: .releasing)
            shared.signal.raise()
            thread.join()
            state = .stopped
        }
    }

    /// What is known stays known. Lookups in flight end with the servers they began with.
    package func reconfigure(_ settings: ResolverSettings) {
        shared.settings.withLock { $0 = settings }
        shared.settingsChanged.store(true, ordering: .releasing)
        shared.signal.raise()
    }

    /// As of the thread's last turn.
    package var counts: ResolverCounts { shared.counts.withLock { $0 } }

    private static func spawn(_ shared: Shared) throws(ResolverFault) -> SystemThread {
        do {
            return try SystemThread(name: "weir-resolver") { ResolverLoop(shared).run() }
        } catch {
            throw .noThread(code: error.code)
        }
    }
}

/// The resolver's counters and gauges.
package struct ResolverCounts: Sendable, BitwiseCopyable {
    package var table = AnswerTable.Counts()
    /// Questions sent to servers or to the hosts file: a lookup asks one or two families of one or both.
    package var questions: UInt64 = 0
    /// Times that servers were (re)read: at the start, on a change of configuration or of resolv.conf, and for new
    /// source ports.
    package var channelsOpened: UInt64 = 0
    /// Names known, lookups in flight, requests waiting: now.
    package var entryCount = 0
    package var lookupCount = 0
    package var waiterCount = 0

    package init() {}
}
