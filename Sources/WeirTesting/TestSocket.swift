import CWeir
import Glibc
import WeirNet

/// The socket calls of the test helpers. Each answers 0 or an errno.
enum TestSocket {
    static func bind(_ descriptor: CInt, _ address: SocketAddress) -> CInt {
        unsafe withAddress(address) { unsafe Glibc.bind(descriptor, $0, $1) }
    }

    static func connect(_ descriptor: CInt, _ address: SocketAddress) -> CInt {
        let code = unsafe withAddress(address) { unsafe Glibc.connect(descriptor, $0, $1) }
        guard code == EINTR else { return code }
        // It goes on without us: it is over when the socket can be written to.
        var polled = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        var count: CInt = 0
        repeat {
            count = unsafe poll(&polled, 1, CInt(TestConnection.patience.components.seconds) * 1000)
        } while count < 0 && errno == EINTR
        return count == 0 ? ETIMEDOUT : cweir_socket_error(descriptor)
    }

    static func localAddress(_ descriptor: CInt) -> SocketAddress? {
        unsafe address { unsafe getsockname(descriptor, $0, $1) }
    }

    static func peerAddress(_ descriptor: CInt) -> SocketAddress? {
        unsafe address { unsafe getpeername(descriptor, $0, $1) }
    }

    static func setTimeouts(_ descriptor: CInt, _ limit: Duration) {
        var time = timeval(tv_sec: Int(limit.components.seconds), tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            unsafe setsockopt(descriptor, SOL_SOCKET, option, &time, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    static func setReceiveBuffer(_ descriptor: CInt, _ byteCount: Int) {
        var count = CInt(clamping: byteCount)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &count, socklen_t(MemoryLayout<CInt>.size))
    }

    private static func withAddress(
        _ address: SocketAddress, _ call: (UnsafePointer<sockaddr>, socklen_t) -> CInt
    ) -> CInt {
        var storage = sockaddr_storage()
        let length = unsafe cweir_sockaddr_set(
            &storage, address.ip.family == .v6 ? 1 : 0, address.ip.high, address.ip.low, address.port)
        return unsafe withUnsafePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe call($0, length) == 0 ? 0 : errno
            }
        }
    }

    private static func address(
        _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> CInt
    ) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let code = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, &length) }
        }
        var isV6: CInt = 0
        var high: UInt64 = 0
        var low: UInt64 = 0
        var port: UInt16 = 0
        guard code == 0, unsafe cweir_sockaddr_get(&storage, &isV6, &high, &low, &port) == 0 else { return nil }
        let ip = isV6 == 0 ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : IPAddress(v6High: high, low: low)
        return SocketAddress(ip, port: port)
    }
}
