import Glibc
import Synchronization
import Weir
import WeirAdmin
import WeirMemory

/// `weir run` once its arguments are understood: starts the proxy, answers signals, ends.
struct Daemon {
    let source: ConfigurationSource
    let driver: Proxy.DriverChoice
    /// nil: the process stays who it is.
    let privileges: Privileges?

    /// Returns when the proxy has been stopped and everything has ended well.
    func run() throws(CommandFailure) {
        let signals = try SignalQueue()
        let reading = source.read()
        for line in reading.diagnostics + reading.notices { say(line) }
        guard let configuration = reading.configuration else { throw CommandFailure(.configuration, []) }

        let proxy = try start(configuration)
        let drainTimeout = Mutex(configuration.drainTimeout)
        let reloader = try Reloader(read: source.read, say: say) { (next) throws(Proxy.StartFailure) in
            try proxy.reload(next)
            drainTimeout.withLock { $0 = next.drainTimeout }
            if next.admin != configuration.admin { say("weir: the admin address changes at the next start") }
        }
        let admin = try startAdmin(configuration, proxy, reloader.counts)
        defer { admin?.stop() }
        for line in banner(configuration, proxy, admin?.boundAddress).lines { say(line) }
        try reloader.start(from: reading)
        say("READY")
        try serve(proxy, signals, reloader) { drainTimeout.withLock { $0 } }
    }

    private func start(_ configuration: Configuration) throws(CommandFailure) -> Proxy {
        var options = Proxy.Options()
        // The reader has said them with their places.
        options.reportsWarnings = false
        options.notice = { say("weir: \($0)") }
        options.driver = driver
        if let privileges { options.afterBind = { try privileges.assume() } }
        do {
            return try Proxy.start(configuration, options: options)
        } catch {
            throw CommandFailure(error)
        }
    }

    private func startAdmin(
        _ configuration: Configuration, _ proxy: Proxy, _ reloads: ReloadCounts
    ) throws(CommandFailure) -> AdminServer? {
        guard let address = configuration.admin?.address else { return nil }
        do {
            return try AdminServer.start(
                address: address, metrics: { proxy.metrics() + reloads.metrics }, isReady: { proxy.isReady })
        } catch {
            proxy.stop()
            throw CommandFailure(
                .runTime, ["weir: the admin endpoint cannot be bound to \(address): \(systemMessage(error.code))"])
        }
    }

    private func banner(_ configuration: Configuration, _ proxy: Proxy, _ admin: SocketAddress?) -> Banner {
        let lines = zip(configuration.listeners, proxy.listeners).map { asked, bound in
            Banner.Line(
                name: bound.name, address: bound.address,
                isForCurl: asked.detect.contains(.tls) && asked.acceptProxy == nil)
        }
        return Banner(listeners: lines, driver: "\(proxy.driver)", workerCount: proxy.workerCount, admin: admin)
    }

    /// Answers signals until one of them, or the end of a drain, ends the proxy.
    private func serve(
        _ proxy: Proxy, _ signals: SignalQueue, _ reloader: Reloader, drainTimeout: () -> Duration
    ) throws(CommandFailure) {
        var lifeCycle = LifeCycle()
        let drain = try Drain(proxy)
        while true {
            wait(for: [signals.descriptor, drain.end.descriptor])
            guard let signal = signals.next() else {
                // No signal, so it was the drain.
                say(drain.isComplete ? "weir: drained" : "weir: drained; the sessions that were left have been reset")
                return proxy.stop()
            }
            switch lifeCycle.received(signal, drainTimeout: drainTimeout()) {
            case .reload:
                reloader.request()
            case .reopenLog:
                proxy.reopenLog()
            case .drain(let deadline):
                say(
                    "weir: draining, open sessions: \(proxy.sessionCount)\(deadline.map { ", for at most \($0)" } ?? "")"
                )
                try drain.begin(deadline)
            case .stop:
                say("weir: stopping")
                return proxy.stop()
            case .ignore:
                break
            }
        }
    }
}

/// A drain on a thread of its own, so that a second signal is heard meanwhile.
private final class Drain: Sendable {
    /// Readable once the drain has ended.
    let end: WakeDescriptor
    private let proxy: Proxy
    private let hasCompleted = Atomic(false)

    init(_ proxy: Proxy) throws(CommandFailure) {
        self.proxy = proxy
        end = try WakeDescriptor()
    }

    /// Whether every session ended by itself. Only after the end.
    var isComplete: Bool { hasCompleted.load(ordering: .acquiring) }

    /// nil: without a deadline, which is a year here, as no instant overflows on that.
    func begin(_ deadline: Duration?) throws(CommandFailure) {
        do {
            _ = try SystemThread(name: "weir-drain") { [self] in
                let isComplete = proxy.drain(timeout: deadline ?? .seconds(365 * 86400))
                hasCompleted.store(isComplete, ordering: .releasing)
                end.signal()
            }
        } catch {
            proxy.stop()
            throw CommandFailure(.runTime, ["weir: start the drain thread: \(systemMessage(error.code))"])
        }
    }
}
