import CWeir
import Glibc
import WeirNet

/// The two ends of a connection, as the kernel names them.
package enum SocketNames {
    /// The other end; nil where the connection is gone.
    package static func peer(of descriptor: Int32) -> SocketAddress? {
        unsafe read { unsafe Glibc.getpeername(descriptor, $0, $1) }
    }

    /// This end.
    package static func local(of descriptor: Int32) -> SocketAddress? {
        unsafe read { unsafe Glibc.getsockname(descriptor, $0, $1) }
    }

    /// Where an accepted connection was bound before the packet filter led it here; this end where it did not, or where nobody
    /// remembers.
    package static func originalDestination(of descriptor: Int32) -> SocketAddress? {
        var storage = sockaddr_storage()
        let code = unsafe cweir_original_destination(descriptor, &storage)
        return code == 0 ? storage.address : nil
    }

    private static func read(
        _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let code = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, &length) }
        }
        return code == 0 ? storage.address : nil
    }
}

extension sockaddr_storage {
    /// nil where it is neither IPv4 nor IPv6.
    package var address: SocketAddress? {
        var isV6: Int32 = 0
        var high: UInt64 = 0
        var low: UInt64 = 0
        var port: UInt16 = 0
        let code = unsafe withUnsafePointer(to: self) { unsafe cweir_sockaddr_get($0, &isV6, &high, &low, &port) }
        guard code == 0 else { return nil }
        let ip = isV6 == 0 ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : IPAddress(v6High: high, low: low)
        return SocketAddress(ip, port: port)
    }

    /// Returns the length that calls want.
    package mutating func set(_ address: SocketAddress) -> socklen_t {
        unsafe cweir_sockaddr_set(
            &self, address.ip.family == .v6 ? 1 : 0, address.ip.high, address.ip.low, address.port)
    }
}
