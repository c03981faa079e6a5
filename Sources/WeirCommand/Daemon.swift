import CWeir
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
    /// nil: none is written.
    let pidFilePath: String?

    /// Returns when the proxy has been stopped and everything has ended well.
    func run() throws(CommandFailure) {
        let signals = try SignalQueue()
        let manager = ServiceManager.find()
        let predecessor = try Predecessor.find()
        let inherited: [InheritedSocket]
        if let predecessor { inherited = predecessor.sockets } else { inherited = try ServiceManager.sockets() }
        let reading = source.read()
        for line in reading.diagnostics + reading.notices { say(line) }
        guard let configuration = reading.configuration else { throw CommandFailure(.configuration, []) }

        // All that needs rights, before they are given up in `start`.
        let adminSocket = try adminSocket(configuration, predecessor)
        let pidFile = try pidFilePath.map { (path) throws(CommandFailure) in try PidFile(path, owner: privileges) }
        let shadow = Shadow(say: say)
        let proxy = try start(configuration, inherited, shadow)
        shadow.adopt(live: configuration, reading.shadow)
        let settings = Mutex(configuration)
        let reloader = try Reloader(
            read: source.read, say: say, progress: { manager.tell(Self.words(for: $0, proxy)) },
            adoptShadow: shadow.adopt(live:_:),
            adopt: { (next) throws(Proxy.StartFailure) in
                try proxy.reload(checked: next)
                settings.withLock { $0 = next }
                if next.admin != configuration.admin { say("weir: the admin address changes at the next start") }
            })
        try reloader.start(from: reading)
        // Before the process before this one may leave: what can fail has not failed.
        var service = try Service(
            proxy: proxy, reloader: reloader, adminSocket: adminSocket, pidFile: pidFile, manager: manager)
        pidFile?.write()
        defer { pidFile?.remove() }
        predecessor?.takeLeave(unused: proxy.unusedListeners)
        let admin: AdminServer?
        do {
            let pages = PreviewPages(proxy) { settings.withLock { $0 } }
            admin = try startAdmin(adminSocket, proxy, reloader.counts, shadow, pages)
        } catch {
            // The process before this one has left: sessions go before figures.
            guard predecessor != nil else {
                proxy.stop()
                throw error
            }
            for line in error.lines { say(line) }
            admin = nil
        }
        defer { admin?.stop() }
        for line in banner(configuration, proxy, admin?.boundAddress).lines { say(line) }
        say("READY")
        manager.tell(ServiceManager.ready(Self.status(proxy)))
        try service.run(signals, admin: admin) { settings.withLock { $0 } }
    }

    private func adminSocket(
        _ configuration: Configuration, _ predecessor: Predecessor?
    ) throws(CommandFailure) -> ExclusiveSocket? {
        if let inherited = predecessor?.adminSocket(for: configuration.admin?.address) { return inherited }
        guard let address = configuration.admin?.address else { return nil }
        do {
            return try ExclusiveSocket(listeningOn: address)
        } catch {
            throw CommandFailure(
                .runTime, ["weir: the admin endpoint cannot be bound to \(address): \(systemMessage(error.code))"])
        }
    }

    private func start(
        _ configuration: Configuration, _ inherited: [InheritedSocket], _ shadow: Shadow
    ) throws(CommandFailure) -> Proxy {
        var options = Proxy.Options()
        // The reader has said them with their places.
        options.reportsWarnings = false
        options.notice = { say("weir: \($0)") }
        options.driver = driver
        options.inherited = inherited
        options.observer = Proxy.SessionObserver(isWanted: { shadow.isInForce }, ended: shadow.ended)
        if let privileges { options.afterBind = { try privileges.assume() } }
        do {
            return try Proxy.start(configuration, options: options)
        } catch {
            throw CommandFailure(error)
        }
    }

    private func startAdmin(
        _ socket: ExclusiveSocket?, _ proxy: Proxy, _ reloads: ReloadCounts, _ shadow: Shadow,
        _ pages: PreviewPages
    ) throws(CommandFailure) -> AdminServer? {
        guard let socket else { return nil }
        do {
            return try AdminServer.start(
                socket: socket, metrics: { proxy.metrics() + reloads.metrics + shadow.metrics },
                isReady: { proxy.isReady || proxy.isHandedOver }, tables: AdminServer.tables(of: proxy) + pages.tables)
        } catch {
            throw CommandFailure(
                .runTime, ["weir: the admin endpoint on \(socket.address): \(systemMessage(error.code))"])
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

    private static func status(_ proxy: Proxy) -> String {
        "serving; listeners: \(proxy.listeners.count), workers: \(proxy.workerCount), driver: \(proxy.driver)"
    }

    private static func words(for progress: Reloader.Progress, _ proxy: Proxy) -> [String] {
        switch progress {
        case .began: ServiceManager.reloading()
        case .ended(true): ServiceManager.ready(status(proxy))
        case .ended(false): ServiceManager.ready(status(proxy) + "; the newest configuration is not in force")
        }
    }
}
