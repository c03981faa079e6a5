import Glibc
@_exported import WeirModel
@_exported import WeirNet

/// A running proxy inside this process: worker threads, listeners, resolver and log writer.
///
/// `stop()` ends all of them and leaves nothing behind. Every call may come from any thread.
public final class Proxy: Sendable {
    /// A listener as it is bound: the port is the real one where the configuration asked for 0.
    public struct BoundListener: Sendable, Equatable {
        public let name: String
        public let address: SocketAddress
    }

    /// Which I/O driver the workers use. Clients and servers cannot tell them apart.
    public enum DriverChoice: String, Sendable, CaseIterable {
        /// io_uring where it works, else epoll, and a notice that says why (U-01).
        case automatic
        /// io_uring (Linux 6.1 and later, where nothing forbids it), or a start that fails.
        case uring
        /// epoll, which works everywhere.
        case epoll
    }

    /// Choices that belong to the process rather than to its configuration.
    public struct Options: Sendable {
        /// Called once after every listener is bound and before any thread or ring is made: the place to give up
        /// privileges, which a ring would otherwise keep.
        public var afterBind: @Sendable () throws -> Void = {}
        /// Receives one line per event that an operator should know of, without a line end.
        public var notice: @Sendable (String) -> Void = { _ in }

        /// Whether `notice` hears of what `Configuration.warnings()` finds, such as an open proxy (T-01).
        public var reportsWarnings = true

        /// What the workers reach the kernel through.
        public var driver = DriverChoice.automatic

        /// Hears of sessions.
        package var observer: SessionObserver?

        /// Listening sockets to take over. They are ours from here on, even where the start fails.
        package var inherited: [InheritedSocket] = []

        public init() {}
    }

    /// The sockets of one listener, for a process that is to take them over.
    package struct ListenerCopy: Sendable {
        /// Names the listener there, too.
        package let key: String
        package let isServiceManagers: Bool
        package var descriptors: [Int32] = []

        package func close() {
            for descriptor in descriptors { _ = Glibc.close(descriptor) }
        }
    }

    /// Hears of every session that ends and whose preamble did not fail, on the thread of the access log.
    package struct SessionObserver: Sendable {
        let isWanted: @Sendable () -> Bool
        let ended: @Sendable (EndedSession) -> Void

        /// `isWanted`: asked for each session before `ended` is told.
        package init(
            isWanted: @escaping @Sendable () -> Bool, ended: @escaping @Sendable (EndedSession) -> Void
        ) {
            self.isWanted = isWanted
            self.ended = ended
        }
    }

    package struct EndedSession: Sendable {
        package let listener: String
        /// That took it; nil: none did.
        package let route: String?
        /// `.none`: it named nobody.
        package let serverName: ServerName
        package let client: IPAddress
        package let peer: IPAddress
        /// What the client connected to.
        package let local: SocketAddress
        /// The client's address came from a PROXY header.
        package let isProxied: Bool
    }

    /// A server name that sessions of a listener asked for, and the last of them that has ended.
    package struct Sighting: Sendable {
        package let listener: String
        /// `.none`: they named nobody.
        package let serverName: ServerName
        package let client: SocketAddress
        package let peer: SocketAddress
        /// What the client connected to.
        package let local: SocketAddress
        /// The client's address came from a PROXY header.
        package let isProxied: Bool
        /// All sessions that are remembered.
        package let sessionCount: UInt64
        /// Since the last one ended.
        package let age: Duration
    }

    public enum StartFailure: Error, Sendable {
        /// The configuration contradicts itself.
        case configuration([ConfigurationFault])
        /// A listener could not be bound; `code` is an errno.
        case bind(listener: String, address: SocketAddress, code: Int32)
        /// No I/O driver works here; `reason` says why and what would help.
        case driver(reason: String)
        /// A thread, descriptor or privilege change failed.
        case system(what: String, code: Int32)
    }

    private let assembly: Assembly

    private init(_ assembly: Assembly) { self.assembly = assembly }

    deinit { assembly.stop() }

    /// Binds, starts and serves. When it returns, clients can connect.
    public static func start(_ configuration: Configuration, options: Options = Options()) throws(StartFailure) -> Proxy
    {
        Proxy(try Assembly(configuration, options))
    }

    /// Checks, binds what is new, publishes; returns once every worker has adopted the new routes. On a failure the
    /// running configuration stays as it was. Live sessions go on. The number of workers, the process
    /// limits and the admin address are fixed at start.
    public func reload(_ configuration: Configuration) throws(StartFailure) {
        let faults = configuration.faults()
        guard faults.isEmpty else { throw .configuration(faults) }
        try assembly.reload(configuration)
    }

    /// The same with one that its reader has found no faults in.
    package func reload(checked configuration: Configuration) throws(StartFailure) {
        try assembly.reload(configuration)
    }

    /// The listeners in the order of the configuration.
    public var listeners: [BoundListener] { assembly.boundListeners }
    public var workerCount: Int { assembly.workerCount }
    /// The I/O driver, and why it is that one.
    public var driver: DriverDecision { assembly.driver }
    /// Serving and not draining.
    public var isReady: Bool { assembly.isReady }
    /// Sessions that are open now.
    public var sessionCount: Int { assembly.sessionCount }
    /// Sessions that may be open at once: the configured limit, or what the descriptor limit allows.
    public var sessionCountMax: Int { assembly.sessionCountMax }
    /// The metrics in Prometheus text format 0.0.4.
    public func metrics() -> String { assembly.metrics() }
    /// How every endpoint of every cluster stands now, by cluster and priority.
    public var endpoints: [EndpointStatus] { assembly.endpointStatuses() }
    /// The same for people: a table of text.
    public func endpointTable() -> String { EndpointStatus.text(endpoints) }
    /// Which source address reached which destination, with the ports that are used between them: a table of text.
    public func sourceTable() -> String { assembly.sourceTable() }
    /// Sessions that the route of a listener took, and that are open now.
    package func sessionCount(listener: String, route: String) -> Int {
        assembly.sessionCount(listener: listener, route: route)
    }
    /// The server names, at most 4,096, that sessions asked for which ended in the last `time`, the latest first; and whether
    /// these are all.
    package func sightings(within time: Duration) -> (names: [Sighting], isComplete: Bool) {
        assembly.sightings(within: time)
    }
    /// Opens the access log file again, after a rotation.
    public func reopenLog() { assembly.reopenLog() }

    /// Is not ready from here on, accepts for another `delay`, so that those who ask for readiness can look elsewhere
    /// first, then stops accepting, lets sessions finish for `timeout`, and resets the rest. True where all finished by
    /// themselves.
    @discardableResult
    public func drain(delay: Duration = .zero, timeout: Duration) -> Bool {
        assembly.drain(delay: delay, timeout: timeout)
    }

    /// The same once another process serves on copies of the listening sockets, all but those of the listeners named.
    @discardableResult
    package func drain(handedOverBut heirless: [String], timeout: Duration) -> Bool {
        assembly.drain(delay: .zero, timeout: timeout, heirless: heirless)
    }

    /// Another process serves on its listening sockets, so whoever asks for readiness finds it there.
    package var isHandedOver: Bool { assembly.isHandedOver }

    package func copiedSockets() throws(StartFailure) -> [ListenerCopy] { try assembly.copiedSockets() }

    /// Keys of inherited listeners for which the configuration has no use; their sockets are closed here.
    package var unusedListeners: [String] { assembly.unusedKeys }

    /// Turns of each worker's loop so far. A worker that was woken turns at once.
    package var workerTurnCounts: [UInt64] { assembly.turnCounts }
    package func wakeWorkers() { assembly.wakeWorkers() }

    /// Ends every session and thread at once. A second call does nothing.
    public func stop() { assembly.stop() }
}
