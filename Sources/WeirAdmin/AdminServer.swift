#if Command
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
        private let isStopped = Atomic<Bool>(false)

        /// Listens and serves. The closures run on the server's thread, one at a time.
        package static func start(
            address: WeirNet.SocketAddress, limits: Limits = Limits(),
            metrics: @escaping @Sendable () -> String, isReady: @escaping @Sendable () -> Bool
        ) throws(Failure) -> AdminServer {
            try AdminServer(address: address, limits: limits, pages: AdminPages(metrics: metrics, isReady: isReady))
        }

        /// The same for a running proxy, which it keeps alive until `stop()`.
        package static func start(address: WeirNet.SocketAddress, proxy: Proxy) throws(Failure) -> AdminServer {
            try start(address: address, metrics: { proxy.metrics() }, isReady: { proxy.isReady })
        }

        private init(address: WeirNet.SocketAddress, limits: Limits, pages: AdminPages) throws(Failure) {
            let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
            let connections = ConnectionCount(limit: limits.connections)
            let bootstrap = ServerBootstrap(group: group)
                .serverChannelOption(.backlog, value: 64)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                // A request that was refused is answered before the connection is closed in both directions.
                .childChannelOption(.allowRemoteHalfClosure, value: true)
                .childChannelInitializer { channel in
                    guard connections.enter() else { return channel.close() }
                    channel.closeFuture.whenComplete { _ in connections.leave() }
                    return channel.eventLoop.makeCompletedFuture {
                        try Self.install(pages, on: channel, limits: limits)
                    }
                }
            do {
                let listening = try bootstrap.bind(host: address.ip.description, port: Int(address.port)).wait()
                let port = listening.localAddress?.port ?? Int(address.port)
                boundAddress = WeirNet.SocketAddress(address.ip, port: UInt16(clamping: port))
                self.group = group
            } catch {
                try? group.syncShutdownGracefully()
                throw Failure(address: address, code: (error as? IOError)?.errnoCode ?? 0)
            }
        }

        /// What one connection goes through, on whatever channel; a server's own are sockets. On the channel's event loop.
        package static func install(
            on channel: any Channel, limits: Limits,
            metrics: @escaping @Sendable () -> String, isReady: @escaping @Sendable () -> Bool
        ) throws {
            try install(AdminPages(metrics: metrics, isReady: isReady), on: channel, limits: limits)
        }

        private static func install(_ pages: AdminPages, on channel: any Channel, limits: Limits) throws {
            let pipeline = channel.pipeline.syncOperations
            let bound = RequestBound(
                byteCountMax: limits.requestByteCountMax,
                timeout: .nanoseconds(Int64(clamping: limits.exchangeTimeout.clampedNanoseconds)))
            try pipeline.addHandler(bound)
            try pipeline.configureHTTPServerPipeline()
            try pipeline.addHandler(AdminHandler(pages: pages, bound: bound))
        }

        deinit { stop() }

        /// Closes every connection and ends the thread. A second call does nothing. Not from within the closures.
        package func stop() {
            guard !isStopped.exchange(true, ordering: .acquiringAndReleasing) else { return }
            try? group.syncShutdownGracefully()
        }
    }

    /// Connections that are open, all told.
    private final class ConnectionCount: Sendable {
        private let limit: Int
        private let count = Atomic<Int>(0)

        init(limit: Int) { self.limit = limit }

        /// False, and nothing counted, where the limit is met.
        func enter() -> Bool {
            guard count.wrappingAdd(1, ordering: .relaxed).newValue <= limit else {
                leave()
                return false
            }
            return true
        }

        func leave() { count.wrappingSubtract(1, ordering: .relaxed) }
    }
#endif
