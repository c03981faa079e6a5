import CWeir
import Glibc
import WeirIO
import WeirNet

extension UringDriver {
    package func peerAddress(of socket: Socket) -> SocketAddress? {
        unsafe read { unsafe Glibc.getpeername(socket.rawValue, $0, $1) }
    }

    package func localAddress(of socket: Socket) -> SocketAddress? {
        unsafe read { unsafe Glibc.getsockname(socket.rawValue, $0, $1) }
    }

    private func read(
        _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let code = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, &length) }
        }
        guard code == 0 else { return nil }
        var isV6: Int32 = 0
        var high: UInt64 = 0
        var low: UInt64 = 0
        var port: UInt16 = 0
        guard unsafe cweir_sockaddr_get(&storage, &isV6, &high, &low, &port) == 0 else { return nil }
        let ip = isV6 == 0 ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : IPAddress(v6High: high, low: low)
        return SocketAddress(ip, port: port)
    }
}
