import CWeir
import Glibc
import Synchronization
import Weir
import WeirAdmin
import WeirMemory

/// A proxy that serves, and what becomes of it: answers signals, tells the service manager, hands over, ends.
struct Service {
    private let proxy: Proxy
    private let reloader: Reloader
    /// Only while the service runs.
    private var admin: AdminServer?
    private let adminSocket: ExclusiveSocket?
    private let pidFile: PidFile?
    /// Hears nothing more once another process has taken over.
    private var manager: ServiceManager
    private let drain: Drain
    private let upgrade: Upgrade
    /// The process that took over has ended, and not well.
    private var isDeserted = false
    private var lifeCycle = LifeCycle()
    private var watchdog = Watchdog()
    /// When the service manager is told next that we are alive; `distantFuture`: never.
    private var nextBeat = Instant.distantFuture

    /// How much longer than the drain the service manager should wait for our end.
    private static let endingTime = Duration.seconds(15)
    /// What stands for "however long it takes": no instant overflows on it.
    private static let year = Duration.seconds(365 * 86400)

    init(
        proxy: Proxy, reloader: Reloader, adminSocket: ExclusiveSocket?, pidFile: PidFile?, manager: ServiceManager
    ) throws(CommandFailure) {
        self.proxy = proxy
        self.reloader = reloader
        self.adminSocket = adminSocket
        self.pidFile = pidFile
        self.manager = manager
        drain = try Drain(proxy)
        upgrade = try Upgrade(of: .this())
    }

    /// Answers signals until one of them, or the end of a drain, ends the proxy. `settings`: those in force. `admin`: on
    /// the socket that we have for it.
    mutating func run(
        _ signals: SignalQueue, admin: AdminServer?, _ settings: () -> Configuration
    ) throws(CommandFailure) {
        self.admin = admin
        try serve(signals, settings)
        if isDeserted {
            throw CommandFailure(.runTime, ["weir: nobody serves, as the process that took over has ended"])
        }
    }

    private mutating func serve(_ signals: SignalQueue, _ settings: () -> Configuration) throws(CommandFailure) {
        if manager.watchdogTimeout != nil { nextBeat = now }
        while true {
            beatIfDue()
            let isNews = wait(
                for: [upgrade.end.descriptor, signals.descriptor, drain.end.descriptor], milliseconds: untilNextBeat)
            guard isNews else { continue }
            // A signal comes before the outcome of an upgrade. It was given to a process that served, as far as anybody
            // could know; the other way round, an order to drain would be the second one, which resets sessions.
            if let signal = signals.next() {
                guard try received(signal, settings()) else { return proxy.stop() }
            } else if let outcome = outcomeOfUpgrade() {
                try upgradeEnded(outcome, drainTimeout: settings().drainTimeout)
            } else if drain.hasEnded {
                say(drain.isComplete ? "weir: drained" : "weir: drained; the sessions that were left have been reset")
                return proxy.stop()
            }
        }
    }

    /// False: the end.
    private mutating func received(_ signal: Signal, _ settings: Configuration) throws(CommandFailure) -> Bool {
        switch lifeCycle.received(signal, drainTimeout: settings.drainTimeout) {
        case .reload:
            reloader.request()
        case .reopenLog:
            proxy.reopenLog()
        case .upgrade:
            beginUpgrade(settings)
        case .ignoreUpgrade:
            say("weir: an upgrade is under way already")
        case .drain(let deadline):
            try beginDrain(signal, deadline, settings)
        case .stop:
            _ = endedUpgrade(by: signal)
            manager.tell(ServiceManager.stopping("stopping", within: Self.endingTime))
            say("weir: stopping")
            return false
        case .ignore:
            break
        }
        return true
    }

    // MARK: Drain

    private mutating func beginDrain(
        _ signal: Signal, _ deadline: Duration?, _ settings: Configuration
    ) throws(CommandFailure) {
        if let outcome = endedUpgrade(by: signal) {
            try upgradeEnded(outcome, drainTimeout: deadline)
            if case .served = outcome { return }
        }
        reloader.pause()
        let delay = settings.drainDelay
        let time = delay + (deadline ?? Self.year)
        var line = "draining, open sessions: \(proxy.sessionCount)"
        if delay > .zero { line += ", accepting for another \(delay)" }
        if let deadline { line += ", for at most \(deadline)" }
        // Before anything is said: no reader of lines is worth waiting for.
        try drain.begin { [proxy] in proxy.drain(delay: delay, timeout: deadline ?? Self.year) }
        manager.tell(ServiceManager.stopping(line, within: time + Self.endingTime))
        say("weir: \(line)")
    }

    // MARK: Upgrade

    private mutating func beginUpgrade(_ settings: Configuration) {
        guard getpid() != 1 else {
            say("weir: no upgrade: this is process 1, whose end is the end of its container; replace the container")
            return lifeCycle.upgradeEnded(isHandedOver: false)
        }
        // The listeners that are handed over must be the ones we have until it is decided who serves.
        reloader.pause()
        say("weir: upgrading")
        let (proxy, admin, adminSocket) = (proxy, admin, adminSocket)
        let copy: @Sendable () throws(Proxy.StartFailure) -> Upgrade.Estate = { () throws(Proxy.StartFailure) in
            let estate = Upgrade.Estate(
                listeners: try proxy.copiedSockets(), admin: adminSocket.map { cweir_duplicate($0.descriptor) })
            if let code = estate.admin, code < 0 {
                for listener in estate.listeners { listener.close() }
                throw .system(what: "copy the admin endpoint's socket", code: -code)
            }
            return estate
        }
        upgrade.begin(timeout: settings.upgradeTimeout, copy: copy, letGo: { admin?.leave() })
    }

    private func outcomeOfUpgrade() -> Upgrade.Outcome? {
        let outcome = upgrade.outcome()
        // The new process stands in it from shortly before it serves, and may have come so far.
        if case .failed = outcome { pidFile?.write() }
        return outcome
    }

    /// The outcome of an attempt that an order to end found under way; nil where there was none. The order is for the
    /// service: who is about to take over does not, and who has done so gets it, too.
    private func endedUpgrade(by signal: Signal) -> Upgrade.Outcome? {
        upgrade.cancel()
        let outcome = outcomeOfUpgrade()
        if case .served(let process, _) = outcome {
            kill(process, signal.number)
            say("weir: process \(process) serves already: it is told to end, too")
        }
        return outcome
    }

    /// `drainTimeout`: for the sessions of this process where another serves; nil: however long they take.
    private mutating func upgradeEnded(
        _ outcome: Upgrade.Outcome, drainTimeout: Duration?
    ) throws(CommandFailure) {
        switch outcome {
        case .failed(let reason):
            lifeCycle.upgradeEnded(isHandedOver: false)
            // Before the reloads that have waited are heard of.
            say("weir: not upgraded: \(reason); this process goes on")
            reloader.resume()
        case .deserted(let process, let how):
            isDeserted = true
            say(
                "weir: process \(process), which took over, \(how): nobody serves; this one goes on draining, open "
                    + "sessions: \(proxy.sessionCount), and ends with status \(ExitStatus.runTime.rawValue) then")
        case .served(let process, let heirless):
            lifeCycle.upgradeEnded(isHandedOver: true)
            var line = "process \(process) serves; this one drains, open sessions: \(proxy.sessionCount)"
            if let drainTimeout { line += ", for at most \(drainTimeout)" }
            let time = drainTimeout ?? Self.year
            try drain.begin { [proxy] in proxy.drain(handedOverBut: heirless, timeout: time) }
            manager.tell(["MAINPID=\(process)"])
            manager = ServiceManager()
            nextBeat = .distantFuture
            say("weir: \(line)")
        }
    }

    // MARK: Watchdog

    private mutating func beatIfDue() {
        guard let timeout = manager.watchdogTimeout, nextBeat <= now else { return }
        // Half of it, as sd_watchdog_enabled(3) advises.
        nextBeat = now.advanced(byNanoseconds: timeout.clampedNanoseconds / 2)
        let stuck = watchdog.look(proxy.workerTurnCounts)
        if stuck.isEmpty {
            manager.tell(["WATCHDOG=1"])
        } else {
            say("weir: workers that do not turn: \(stuck); the service manager is not told that we are alive")
        }
        proxy.wakeWorkers()
    }

    private var now: Instant { Instant(nanoseconds: cweir_monotonic_ns()) }

    private var untilNextBeat: CInt {
        guard nextBeat != .distantFuture else { return -1 }
        return CInt(clamping: nextBeat.nanoseconds(since: now) / 1_000_000 + 1)
    }
}

/// A drain on a thread of its own, so that a second signal is heard meanwhile.
private final class Drain: Sendable {
    /// Readable once the drain has ended.
    let end: WakeDescriptor
    private let proxy: Proxy
    private let ended = Atomic(false)
    private let completed = Atomic(false)

    init(_ proxy: Proxy) throws(CommandFailure) {
        self.proxy = proxy
        end = try WakeDescriptor()
    }

    var hasEnded: Bool { ended.load(ordering: .acquiring) }

    /// Whether every session ended by itself. Only after the end.
    var isComplete: Bool { completed.load(ordering: .acquiring) }

    func begin(_ body: @escaping @Sendable () -> Bool) throws(CommandFailure) {
        do {
            let thread = try SystemThread(name: "weir-drain") { [self] in
                completed.store(body(), ordering: .releasing)
                ended.store(true, ordering: .releasing)
                end.signal()
            }
            thread.detach()
        } catch {
            proxy.stop()
            throw CommandFailure(.runTime, ["weir: start the drain thread: \(systemMessage(error.code))"])
        }
    }
}
