#if Command
    import Glibc
    import NIOCore
    import NIOHTTP1
    import NIOPosix
    import Synchronization
    import Weir
    import WeirNet

    /// The HTTP endpoint for people and scrapers who run the proxy: read-only, and bounded in every direction (T-21).
    ///
    /// Serves `/metrics`, `/livez`, `/readyz` and `/`, which lists them, on one thread of its own that shares nothing with
    /// the workers.
    package final class AdminServer: Sendable {
        package struct Limits: Sendable {
            /// Connections at once; one more is closed unanswered.
            package var connections = 64
            /// Bytes of one request, its body included.
            package var requestByteCountMax = 16384
            /// For a whole request and its answer, and for the wait between two.
            package var exchangeTimeout: Duration = .seconds(30)

            package init() {}
        }

        package struct Failure: Error, Sendable {
            package let address: WeirNet.SocketAddress
            /// An errno; 0 where the reason has none.
            package let code: Int32
        }

        /// Where it listens: the port is the real one where 0 was asked for.
        package let boundAddress: WeirNet.SocketAddress
        private let group: MultiThreadedEventLoopGroup
        private let listening: any Channel
        private let open: OpenConnections
        private let isStopped = Atomic<Bool>(false)

        /// Listens and serves. The closures run on the server's thread, one at a time.
        package static func start(
            address: WeirNet.SocketAddress, limits: Limits = Limits(),
            metrics: @escaping @Sendable () -> String, isReady: @escaping @Sendable () -> Bool,
            tables: [AdminTable] = []
        ) throws(Failure) -> AdminServer {
            try AdminServer(
                address: address, limits: limits, pages: AdminPages(metrics: metrics, isReady: isReady, tables: tables))
        }

        /// The same on a socket that listens already, which it takes over.
        package static func start(
            socket: ExclusiveSocket, limits: Limits = Limits(),
            metrics: @escaping @Sendable () -> String, isReady: @escaping @Sendable () -> Bool,
            tables: [AdminTable] = []
        ) throws(Failure) -> AdminServer {
            let pages = AdminPages(metrics: metrics, isReady: isReady, tables: tables)
            return try AdminServer(address: socket.address, limits: limits, pages: pages) {
                $0.withBoundSocket(socket.descriptor)
            }
        }

        /// The same for a running proxy, which it keeps alive until `stop()`.
        package static func start(address: WeirNet.SocketAddress, proxy: Proxy) throws(Failure) -> AdminServer {
            try start(
                address: address, metrics: { proxy.metrics() }, isReady: { proxy.isReady }, tables: tables(of: proxy))
        }

        /// What a proxy has to show besides its metrics.
        package static func tables(of proxy: Proxy) -> [AdminTable] {
            [
                AdminTable("/endpoints", help: "how every endpoint stands") { proxy.endpointTable() },
                AdminTable("/sources", help: "which source address reaches which destination") { proxy.sourceTable() },
            ]
        }

        private convenience init(
            address: WeirNet.SocketAddress, limits: Limits, pages: AdminPages
        ) throws(Failure) {
            try self.init(address: address, limits: limits, pages: pages) {
                $0.bind(host: address.ip.description, port: Int(address.port))
            }
        }

        private init(
            address: WeirNet.SocketAddress, limits: Limits, pages: AdminPages,
            _ listen: (ServerBootstrap) -> EventLoopFuture<any Channel>
        ) throws(Failure) {
            let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
            let connections = OpenConnections(limit: limits.connections)
            let bootstrap = ServerBootstrap(group: group)
                .serverChannelOption(.backlog, value: 64)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                // A request that was refused is answered before the connection is closed in both directions.
                .childChannelOption(.allowRemoteHalfClosure, value: true)
                .childChannelInitializer { channel in
                    guard connections.enter(channel) else { return channel.close() }
                    channel.closeFuture.whenComplete { _ in connections.leave(channel) }
                    return channel.eventLoop.makeCompletedFuture {
                        try Self.install(pages, on: channel, limits: limits, connections)
                    }
                }
            do {
                listening = try listen(bootstrap).wait()
                let port = listening.localAddress?.port ?? Int(address.port)
                boundAddress = WeirNet.SocketAddress(address.ip, port: UInt16(clamping: port))
                self.group = group
                open = connections
            } catch {
                try? group.syncShutdownGracefully()
                throw Failure(address: address, code: (error as? IOError)?.errnoCode ?? 0)
            }
        }

        /// What one connection goes through, on whatever channel; a server's own are sockets. On the channel's event loop.
        package static func install(
            on channel: any Channel, limits: Limits,
            metrics: @escaping @Sendable () -> String, isReady: @escaping @Sendable () -> Bool,
            tables: [AdminTable] = []
        ) throws {
            let pages = AdminPages(metrics: metrics, isReady: isReady, tables: tables)
            try install(pages, on: channel, limits: limits, OpenConnections(limit: limits.connections))
        }

        private static func install(
            _ pages: AdminPages, on channel: any Channel, limits: Limits, _ connections: OpenConnections
        ) throws {
            let pipeline = channel.pipeline.syncOperations
            let bound = RequestBound(
                byteCountMax: limits.requestByteCountMax,
                timeout: .nanoseconds(Int64(clamping: limits.exchangeTimeout.clampedNanoseconds)))
            try pipeline.addHandler(bound)
            try pipeline.configureHTTPServerPipeline()
            try pipeline.addHandler(AdminHandler(pages: pages, bound: bound, connections))
        }

        deinit { stop() }

        /// Takes no further connection and ends each that is open with its next answer: another process serves on the
        /// same socket.
        package func leave() {
            open.isLeaving.store(true, ordering: .relaxed)
            try? listening.close().wait()
            for channel in open.channels { channel.pipeline.fireUserInboundEventTriggered(ServerLeaves()) }
        }

        /// Closes every connection and ends the thread. A second call does nothing. Not from within the closures.
        package func stop() {
            guard !isStopped.exchange(true, ordering: .acquiringAndReleasing) else { return }
            // Whoever came to us rather than to the process that serves now has an answer to get.
            for _ in 0..<1000 where open.isLeaving.load(ordering: .relaxed) && !open.channels.isEmpty { usleep(1000) }
            try? group.syncShutdownGracefully()
        }
    }

    /// The server leaves its socket to another process.
    struct ServerLeaves: Sendable {}

    /// The connections that are open.
    final class OpenConnections: Sendable {
        /// Each ends with its next answer.
        let isLeaving = Atomic<Bool>(false)
        private let limit: Int
        private let open = Mutex<[ObjectIdentifier: any Channel]>([:])

        init(limit: Int) { self.limit = limit }

        var channels: [any Channel] { open.withLock { Array($0.values) } }

        /// False, and not remembered, where the limit is met.
        func enter(_ channel: any Channel) -> Bool {
            open.withLock { open in
                guard open.count < limit else { return false }
                open[ObjectIdentifier(channel)] = channel
                return true
            }
        }

        func leave(_ channel: any Channel) { open.withLock { $0[ObjectIdentifier(channel)] = nil } }
    }
#endif
