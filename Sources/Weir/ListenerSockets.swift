import CWeir
import Glibc
import WeirModel
import WeirNet
import WeirSockets

/// The listening sockets of one listener, one per worker on the same address (SO_REUSEPORT): the kernel spreads
/// connections over them, and each stays with the worker that accepted it.
struct ListenerSockets {
    let descriptors: [Int32]
    /// With the real port.
    let address: SocketAddress

    /// `unsentByteCountMax`: what an accepted socket may hold that is not sent yet (TCP_NOTSENT_LOWAT); nil: as much as
    /// its send buffer takes.
    init(_ listener: Listener, workerCount: Int, unsentByteCountMax: Int32?) throws(Proxy.StartFailure) {
        // With SO_REUSEPORT a second process of the same user would quietly take half of the clients. A socket without
        // it finds out whether somebody listens here already.
        let taken = Self.trial(listener.address)
        guard taken == 0 else { throw .bind(listener: listener.name, address: listener.address, code: taken) }
        var bound: [Int32] = []
        var address = listener.address
        for _ in 0..<workerCount {
            let descriptor = Self.listen(address, backlog: Int32(clamping: listener.backlog))
            guard descriptor >= 0 else {
                for other in bound { Glibc.close(other) }
                throw .bind(listener: listener.name, address: address, code: -descriptor)
            }
            // Accepted sockets inherit it.
            if let unsentByteCountMax { cweir_set_unsent_limit(descriptor, unsentByteCountMax) }
            bound.append(descriptor)
            if address.port == 0 { address.port = Self.port(descriptor) }
        }
        descriptors = bound
        self.address = address
    }

    func close() {
        for descriptor in descriptors { Glibc.close(descriptor) }
    }

    private static func listen(_ address: SocketAddress, backlog: Int32) -> Int32 {
        var storage = sockaddr_storage()
        let length = storage.set(address)
        return unsafe cweir_listening_socket(&storage, length, backlog)
    }

    /// 0, or the errno of a bind without SO_REUSEPORT.
    private static func trial(_ address: SocketAddress) -> Int32 {
        if address.port == 0 { return 0 }
        var storage = sockaddr_storage()
        let length = storage.set(address)
        return -(unsafe cweir_try_bind(&storage, length))
    }

    private static func port(_ descriptor: Int32) -> UInt16 {
        guard let address = SocketNames.local(of: descriptor) else {
            preconditionFailure("a bound socket has an IP address")
        }
        return address.port
    }
}
