import Synchronization
import WeirMemory
import WeirNet

/// A server for tests: serves every connection with one function, each on a thread of its own.
///
/// Threads are kept for the next connections, so a thousand short ones need few. Stops when it is dropped.
public final class TestOrigin: Sendable {
    /// Serves one connection, which is closed when it returns or throws.
    public typealias Service = @Sendable (TestConnection) throws -> Void

    private final class Shared: Sendable {
        struct State {
            var isStopping = false
            var threads: [SystemThread] = []
            /// Threads that wait for a connection.
            var idleCount = 0
            var acceptedCount = 0
            var live: [ObjectIdentifier: TestConnection] = [:]
        }

        let listener: TestListener
        let service: Service
        let state = Mutex(State())

        init(_ listener: TestListener, _ service: @escaping Service) {
            self.listener = listener
            self.service = service
        }
    }

    private let shared: Shared

    /// Listens and serves. `port` 0 takes a free one.
    public init(
        on ip: IPAddress = .v4Loopback, port: UInt16 = 0, serving service: @escaping Service
    ) throws(TestFailure) {
        shared = Shared(try TestListener(on: ip, port: port), service)
        try Self.addThread(shared)
    }

    deinit { stop() }

    // MARK: Ready-made

    /// Sends back what it receives, and FIN after FIN.
    public static func echo(on ip: IPAddress = .v4Loopback, port: UInt16 = 0) throws(TestFailure) -> TestOrigin {
        try TestOrigin(on: ip, port: port) { try $0.echo() }
    }

    /// Speaks first, as mail and database servers do, then echoes.
    public static func greeting(_ banner: String, on ip: IPAddress = .v4Loopback) throws(TestFailure) -> TestOrigin {
        try TestOrigin(on: ip) { connection in
            try connection.send(banner)
            try connection.echo()
        }
    }

    /// Answers the first bytes it receives with `answer` and ends with FIN.
    public static func answering(
        _ answer: String, on ip: IPAddress = .v4Loopback, port: UInt16 = 0
    ) throws(TestFailure) -> TestOrigin {
        try TestOrigin(on: ip, port: port) { connection in
            _ = try connection.receive()
            try connection.send(answer)
            connection.finish()
            // Closing with bytes unread would be an RST, and the answer could be lost to it.
            _ = try connection.receiveAll()
        }
    }

    // MARK: Looks

    /// Where it listens.
    public var address: SocketAddress { shared.listener.address }
    /// Connections taken so far.
    public var acceptedCount: Int { shared.state.withLock { $0.acceptedCount } }
    /// Connections being served now.
    public var liveCount: Int { shared.state.withLock { $0.live.count } }

    /// Ends every connection and thread. More calls do nothing.
    public func stop() {
        let (threads, live) = shared.state.withLock { state in
            state.isStopping = true
            defer { state.threads = [] }
            return (state.threads, Array(state.live.values))
        }
        shared.listener.interrupt()
        for connection in live { connection.close() }
        for thread in threads { thread.join() }
        shared.listener.close()
    }

    // MARK: Threads

    private static func addThread(_ shared: Shared) throws(TestFailure) {
        let code: Int32 = shared.state.withLock { state in
            // Whoever stops has the list of threads already.
            guard !state.isStopping else { return 0 }
            do throws(SystemThread.Failure) {
                state.threads.append(try SystemThread(name: "test-origin") { run(shared) })
                state.idleCount += 1
                return 0
            } catch {
                return error.code
            }
        }
        if code != 0 { throw .system("start a thread", code: code) }
    }

    private static func run(_ shared: Shared) {
        while let connection = try? shared.listener.acceptBlocking() {
            let (isServed, isLast) = shared.state.withLock { state in
                state.idleCount -= 1
                state.acceptedCount += 1
                guard !state.isStopping else { return (false, false) }
                state.live[ObjectIdentifier(connection)] = connection
                return (true, state.idleCount == 0)
            }
            // Somebody has to be there for the next one. Without a thread it waits until this one is done.
            if isLast { try? addThread(shared) }
            // A client that goes away is no news for a server.
            if isServed { try? shared.service(connection) }
            shared.state.withLock { state in
                state.live[ObjectIdentifier(connection)] = nil
                state.idleCount += 1
            }
            connection.close()
        }
    }
}

extension TestConnection {
    /// Sends back what comes until FIN, then sends FIN.
    public func echo() throws(TestFailure) {
        while true {
            let bytes = try receive()
            if bytes.isEmpty { break }
            try send(bytes)
        }
        finish()
    }
}
