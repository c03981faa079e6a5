import CWeir
import Glibc
import WeirIO

/// What the sockets of connections are given besides what the kernel gives them.
package struct ConnectionSettings: Sendable {
    /// nil: nothing bounds the kernel's buffers.
    private let budget: SocketBudget?
    /// Of accepted ones the listening socket's; nil: the machine's.
    private let congestion: CongestionControl?

    package init(budget: SocketBudget? = nil, congestion: CongestionControl? = nil) {
        self.budget = budget
        self.congestion = congestion
    }

    /// For a socket that is about to connect.
    package func apply(toConnecting descriptor: Int32, _ keepalive: Keepalive) {
        // It was tried at start; where it fails now, the connection is good all the same.
        if let congestion { _ = congestion.set(on: descriptor) }
        budget?.bound(connecting: descriptor)
        if !keepalive.isOff {
            cweir_set_keepalive(
                descriptor, Int32(keepalive.idle), Int32(keepalive.interval), Int32(keepalive.probes))
        }
    }

    /// For an accepted socket.
    package func apply(toAccepted descriptor: Int32) { budget?.bound(accepted: descriptor) }
}

/// A congestion control of the kernel's, by name (TCP_CONGESTION).
package struct CongestionControl: Sendable {
    package let name: String

    /// `name`: as in net.ipv4.tcp_available_congestion_control.
    package init(_ name: String) { self.name = name }

    /// 0, or an errno: ENOENT where the kernel has none of that name, EPERM where only the privileged may use it.
    /// Sockets that a listening one accepts inherit it.
    package func set(on descriptor: Int32) -> Int32 { unsafe -cweir_set_congestion_control(descriptor, name) }

    package func isSet(on descriptor: Int32) -> Bool { unsafe cweir_has_congestion_control(descriptor, name) != 0 }

    /// Whether the calling thread may use it: what `set` says of a socket of its own.
    package func trial() -> Int32 {
        let descriptor = cweir_connecting_socket(0)
        guard descriptor >= 0 else { return -descriptor }
        defer { close(descriptor) }
        return set(on: descriptor)
    }
}
