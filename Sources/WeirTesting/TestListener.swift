import CWeir
import Glibc
import Synchronization
import WeirNet

/// A listening socket whose connections the test takes itself, one by one. It has no thread.
///
/// Nobody who does not call `accept()` is answered, but the kernel completes as many handshakes as `backlog` allows.
/// Closes when it is dropped.
public final class TestListener: Sendable {
    /// Where it listens.
    public let address: SocketAddress
    private let descriptor: CInt
    private let isClosed = Mutex(false)

    /// `port` 0 takes a free one.
    public init(on ip: IPAddress = .v4Loopback, port: UInt16 = 0, backlog: Int = 4096) throws(TestFailure) {
        let family = ip.family == .v6 ? AF_INET6 : AF_INET
        descriptor = socket(family, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw .system("socket", code: errno) }
        var one: CInt = 1
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<CInt>.size))
        if ip.family == .v6 {
            unsafe setsockopt(
                descriptor, CInt(IPPROTO_IPV6), IPV6_V6ONLY, &one, socklen_t(MemoryLayout<CInt>.size))
        }
        var code = TestSocket.bind(descriptor, SocketAddress(ip, port: port))
        if code == 0, listen(descriptor, CInt(clamping: backlog)) != 0 { code = errno }
        guard code == 0, let address = TestSocket.localAddress(descriptor) else {
            Glibc.close(descriptor)
            throw .system("bind \(SocketAddress(ip, port: port))", code: code)
        }
        self.address = address
    }

    deinit { close() }

    /// The next connection.
    public func accept() throws(TestFailure) -> TestConnection {
        guard let connection = try acceptIfAny(within: TestConnection.patience) else { throw .timedOut("accept") }
        return connection
    }

    /// The next connection, where one is there already.
    public func acceptIfAny() throws(TestFailure) -> TestConnection? { try acceptIfAny(within: .zero) }

    private func acceptIfAny(within limit: Duration) throws(TestFailure) -> TestConnection? {
        var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        let milliseconds = CInt(limit.components.seconds) * 1000
        var count: CInt = 0
        repeat { count = unsafe poll(&polled, 1, milliseconds) } while count < 0 && errno == EINTR
        guard count > 0 else { return nil }
        guard let connection = try acceptBlocking() else { throw .system("accept", code: EINVAL) }
        return connection
    }

    /// Waits for the next connection however long it takes. nil: `interrupt` was called.
    func acceptBlocking() throws(TestFailure) -> TestConnection? {
        while true {
            let connection = Glibc.accept(descriptor, nil, nil)
            if connection >= 0 {
                _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
                return TestConnection(owning: connection)
            }
            switch errno {
            case EINTR, ECONNABORTED: continue
            case EINVAL: return nil
            default: throw .system("accept", code: errno)
            }
        }
    }

    /// Stops listening: whoever waits in `acceptBlocking` returns, and connects are refused from here on.
    func interrupt() {
        isClosed.withLock { isClosed in
            if !isClosed { _ = Glibc.shutdown(descriptor, CInt(SHUT_RDWR)) }
        }
    }

    /// Stops listening. Connections that nobody took are reset. More calls do nothing.
    public func close() {
        isClosed.withLock { isClosed in
            if !isClosed { Glibc.close(descriptor) }
            isClosed = true
        }
    }
}
