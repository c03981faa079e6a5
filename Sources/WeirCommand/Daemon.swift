import Glibc
import Synchronization
import Weir
import WeirAdmin

/// `weir run` once its arguments are understood: starts the proxy, answers signals, ends.
struct Daemon {
    let source: ConfigurationSource
    /// nil: the process stays who it is.
    let privileges: Privileges?

    /// Returns when the proxy has been stopped and everything has ended well.
    func run() throws(CommandFailure) {
        let signals = try SignalQueue()
        Self.raiseDescriptorLimit()
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
        options.notice = { say("weir: \($0)") }
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
        return Banner(listeners: lines, driver: proxy.driver.name, workerCount: proxy.workerCount, admin: admin)
    }

    /// Answers signals until one of them, or the end of a drain, ends the proxy.
    private func serve(
        _ proxy: Proxy, _ signals: SignalQueue, _ reloader: Reloader, drainTimeout: () -> Duration
    ) throws(CommandFailure) {
        var lifeCycle = LifeCycle()
        let drained = try WakeDescriptor()
        while true {
            wait(for: [signals.descriptor, drained.descriptor])
            guard let signal = signals.next() else {
                // No signal, so it was the drain.
                return proxy.stop()
            }
            switch lifeCycle.received(signal, drainTimeout: drainTimeout()) {
            case .reload:
                reloader.request()
            case .reopenLog:
                proxy.reopenLog()
            case .drain(let deadline):
                say("weir: draining \(proxy.sessionCount) sessions\(deadline.map { ", for at most \($0)" } ?? "")")
                try startThread(named: "weir-drain") {
                    // Without a deadline: a year, which no instant overflows on.
                    let isComplete = proxy.drain(timeout: deadline ?? .seconds(365 * 86400))
                    say(isComplete ? "weir: drained" : "weir: drained; sessions that were left have been reset")
                    drained.signal()
                }
            case .stop:
                say("weir: stopping")
                return proxy.stop()
            case .ignore:
                break
            }
        }
    }

    /// Two descriptors per session: takes what the system allows, up to a million.
    private static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard unsafe getrlimit(CInt(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        // A hard limit of "everything", as some container engines set it, would size tables for a billion sessions.
        limit.rlim_cur = max(limit.rlim_cur, min(limit.rlim_max, 1 << 20))
        unsafe _ = setrlimit(CInt(RLIMIT_NOFILE.rawValue), &limit)
    }
}
