import CWeir
import Glibc
import WeirModel
import WeirNet
import WeirSockets
import WeirTelemetry

/// A listening socket that somebody else has made: the process that this one replaces, or the service manager.
package struct InheritedSocket: Sendable {
    package enum Maker: Sendable, Equatable {
        /// The process before this one, for the listener with this key (`ListenerSockets.key`).
        case predecessor(key: String)
        /// The service manager, under this name. It keeps the socket, so whoever waits there when we end is not lost.
        case serviceManager(name: String)
        /// The service manager, for the listener with this key, by way of the process before this one.
        case handedOn(key: String)
    }

    package let descriptor: Int32
    package let maker: Maker
    /// Where it is bound.
    package let address: SocketAddress

    /// Takes the descriptor over; nil, and the descriptor closed, where it is no listening TCP socket on an IP address.
    package init?(descriptor: Int32, maker: Maker) {
        // A process before us may accept on it at this moment and expects what it has set; a service manager does not.
        var isBlocking = true
        if case .serviceManager = maker { isBlocking = cweir_make_blocking(descriptor) == 0 }
        guard isBlocking, cweir_adopt_listening_socket(descriptor, SOMAXCONN) == 0,
            let address = ListenerSockets.address(of: descriptor)
        else {
            Glibc.close(descriptor)
            return nil
        }
        self.descriptor = descriptor
        self.maker = maker
        self.address = address
    }

    var isServiceManagers: Bool {
        if case .predecessor = maker { false } else { true }
    }

    func belongs(to listener: Listener) -> Bool {
        switch maker {
        case .predecessor(let key), .handedOn(let key): key == ListenerSockets.key(listener)
        case .serviceManager: address == listener.address
        }
    }
}

/// The listening sockets of one listener, one per worker on the same address (SO_REUSEPORT): the kernel spreads
/// connections over them, and each stays with the worker that accepted it.
///
/// Inherited ones may be more than the workers, who then serve several each: one that was closed would take along
/// whoever is in its queue or in the middle of a handshake.
struct ListenerSockets {
    /// Descriptor `n` is for worker `n % workerCount`.
    let descriptors: [Int32]
    /// The descriptors from here on are copies of earlier ones.
    let socketCount: Int
    /// With the real port.
    let address: SocketAddress
    /// The service manager has them, too.
    let isServiceManagers: Bool
    /// Another process has some of them as well.
    private let isShared: Bool
    private let takesIPv4: Bool

    /// Where they are, for `freePlace`.
    var place: Place { Place(address: address, takesIPv4: takesIPv4) }

    /// Whose connections listening sockets take.
    struct Place {
        var address: SocketAddress
        /// On `[::]`: those to IPv4 addresses too.
        var takesIPv4: Bool

        /// Whether both have connections to one address, of which one, but not the other, stands for all.
        func isBeside(_ other: Place) -> Bool {
            guard address.port == other.address.port, address.ip.isUnspecified != other.address.ip.isUnspecified else {
                return false
            }
            let (wide, narrow) = address.ip.isUnspecified ? (self, other) : (other, self)
            return wide.address.ip.family == narrow.address.ip.family || wide.takesIPv4
        }
    }

    /// What makes a listener the same one after a reload or an upgrade: its address, or its name where the port is left
    /// to the kernel.
    static func key(_ listener: Listener) -> String {
        listener.socketKey
    }

    /// Where the listener can be bound; throws where somebody else listens there: with SO_REUSEPORT a second process of the
    /// same user would quietly take half of the clients. A socket without it finds out.
    ///
    /// `own`: where this process has sockets already. The one for all addresses of a port and those for single ones are in
    /// each other's way only without SO_REUSEPORT, and whoever else is at the port was found when the first was bound.
    static func freePlace(
        for listener: Listener, beside own: some Sequence<Place>
    ) throws(Proxy.StartFailure) -> SocketAddress {
        var wanted = listener.address
        var taken = Self.trial(wanted, takesIPv4: listener.takesIPv4)
        // All addresses are those that the machine has families for.
        if taken == EAFNOSUPPORT, listener.takesIPv4 {
            wanted = SocketAddress(.v4Any, port: wanted.port)
            taken = Self.trial(wanted, takesIPv4: false)
        }
        let place = Place(address: wanted, takesIPv4: listener.takesIPv4 && wanted.ip.family == .v6)
        if taken == EADDRINUSE, own.contains(where: { $0.isBeside(place) }) { taken = 0 }
        guard taken == 0 else { throw .bind(listener: listener.name, address: wanted, code: taken) }
        return wanted
    }

    /// The order in which listeners are bound: all addresses last, so that nobody comes to these who is meant to come to
    /// an address with a listener of its own.
    static func bindingOrder(_ listeners: [Listener]) -> [Int] {
        let indices = Array(listeners.indices)
        return indices.filter { !listeners[$0].address.ip.isUnspecified }
            + indices.filter { listeners[$0].address.ip.isUnspecified }
    }

    /// `place`: what `freePlace` says, for listeners without `inherited` sockets.
    /// `unsentByteCountMax`: what an accepted socket may hold that is not sent yet (TCP_NOTSENT_LOWAT); nil: as much as
    /// its send buffer takes.
    /// `congestion`, `steering`: of the whole process; nil: connections are spread by a hash. Sockets that somebody else
    /// serves as well get them from `takeOver`.
    /// `inherited`: all that belong to the listener. They are ours now, and closed where it throws.
    init(
        _ listener: Listener, at place: SocketAddress, workerCount: Int, unsentByteCountMax: Int32?,
        congestion: CongestionChoice = .system, steering: Steering? = nil, inherited: [InheritedSocket] = []
    ) throws(Proxy.StartFailure) {
        let backlog = Int32(clamping: listener.backlog)
        var bound = inherited.map(\.descriptor)
        for descriptor in bound { _ = cweir_adopt_listening_socket(descriptor, backlog) }
        var address = inherited.first?.address ?? place
        isServiceManagers = inherited.contains(where: \.isServiceManagers)
        // A socket of ours beside the service manager's would be closed at our end, with whoever waits there.
        while bound.count < workerCount && !isServiceManagers {
            let descriptor = Self.listen(address, backlog: backlog, takesIPv4: listener.takesIPv4)
            guard descriptor >= 0 else {
                // Another user than the one who made the inherited ones cannot join them.
                if !inherited.isEmpty { break }
                for other in bound { Glibc.close(other) }
                throw .bind(listener: listener.name, address: address, code: -descriptor)
            }
            bound.append(descriptor)
            if address.port == 0 { address.port = Self.address(of: descriptor)?.port ?? 0 }
        }
        // Accepted sockets inherit it.
        if let unsentByteCountMax { for descriptor in bound { cweir_set_unsent_limit(descriptor, unsentByteCountMax) } }
        isShared = !inherited.isEmpty
        takesIPv4 = listener.takesIPv4 && address.ip.family == .v6
        if !isShared {
            do throws(Proxy.StartFailure) {
                if let congestion = congestion.control {
                    let code = bound.lazy.map(congestion.set(on:)).first { $0 != 0 }
                    if let code { throw Self.refusal(of: congestion, code) }
                }
                let code = steering?.attach(to: bound[0]) ?? 0
                if code != 0 { throw .system(what: "steer listener \(listener.name) by CPU", code: code) }
            } catch {
                for descriptor in bound { Glibc.close(descriptor) }
                throw error
            }
        }
        socketCount = bound.count
        while bound.count < workerCount {
            let copy = cweir_duplicate(bound[bound.count % socketCount])
            guard copy >= 0 else {
                for other in bound { Glibc.close(other) }
                throw .system(what: "share the socket of listener \(listener.name)", code: -copy)
            }
            bound.append(copy)
        }
        descriptors = bound
        self.address = address
    }

    func close() {
        for descriptor in descriptors { Glibc.close(descriptor) }
    }

    /// Gives sockets that another process has as well what this one was told, once it serves: had it failed before, the
    /// other would go on with them as they were. Returns what to tell the operator.
    func takeOver(
        _ name: String, workerCount: Int, congestion: CongestionChoice, steering: Steering?
    ) -> [String] {
        guard isShared else { return [] }
        var notices: [String] = []
        let sockets = Array(descriptors.prefix(socketCount))
        if let congestion = congestion.control {
            let code = sockets.lazy.map(congestion.set(on:)).first { $0 != 0 }
            if let code { notices.append("listener \(name) keeps its congestion control: \(ErrorCode.name(code))") }
        } else if !isServiceManagers, let congestion = Self.systemCongestion {
            // One that is set stays when the machine's changes, so only where the process before chose another.
            for descriptor in sockets where !congestion.isSet(on: descriptor) { _ = congestion.set(on: descriptor) }
        }
        guard !isServiceManagers else {
            if steering != nil {
                notices.append("listener \(name) is not steered: its sockets are the service manager's")
            }
            return notices
        }
        // As many as workers, and in their order.
        if let steering, socketCount == workerCount {
            let code = steering.attach(to: sockets[0])
            if code != 0 { notices.append("listener \(name) is not steered: \(ErrorCode.name(code))") }
        } else {
            Steering.detach(from: sockets[0])
            if steering != nil {
                notices.append(
                    "listener \(name) is not steered: \(socketCount) sockets for \(workerCount) workers")
            }
        }
        return notices
    }

    private static func listen(_ address: SocketAddress, backlog: Int32, takesIPv4: Bool) -> Int32 {
        var storage = sockaddr_storage()
        let length = storage.set(address)
        return unsafe cweir_listening_socket(&storage, length, backlog, takesIPv4 ? 1 : 0)
    }

    /// That of the machine's new sockets; nil where it cannot be read.
    private static var systemCongestion: CongestionControl? {
        let text = HostFacts.text(ofFile: "/proc/sys/net/ipv4/tcp_congestion_control")
        return text.map { CongestionControl(HostFacts.firstLine($0)) }
    }

    static func refusal(of congestion: CongestionControl, _ code: Int32) -> Proxy.StartFailure {
        let advice =
            switch code {
            case ENOENT: " (net.ipv4.tcp_available_congestion_control lists what is loaded)"
            case EPERM: " (add it to net.ipv4.tcp_allowed_congestion_control)"
            default: ""
            }
        return .system(what: "use congestion control \(congestion.name)\(advice)", code: code)
    }

    /// 0, or the errno of a bind without SO_REUSEPORT.
    private static func trial(_ address: SocketAddress, takesIPv4: Bool) -> Int32 {
        if address.port == 0 { return 0 }
        var storage = sockaddr_storage()
        let length = storage.set(address)
        return -(unsafe cweir_try_bind(&storage, length, takesIPv4 ? 1 : 0))
    }

    /// nil where it is not bound to an IP address.
    static func address(of descriptor: Int32) -> SocketAddress? { SocketNames.local(of: descriptor) }
}

extension CongestionChoice {
    /// nil: that of the machine.
    var control: CongestionControl? { self == .system ? nil : CongestionControl(rawValue) }
}

/// A listening socket that no worker has, such as the admin endpoint's. It shares its address with nobody.
package struct ExclusiveSocket: Sendable {
    package struct Failure: Error, Sendable {
        /// An errno.
        package let code: Int32
    }

    package let descriptor: Int32
    /// With the real port.
    package let address: SocketAddress

    package init(listeningOn address: SocketAddress, backlog: Int32 = 64) throws(Failure) {
        var storage = sockaddr_storage()
        let length = storage.set(address)
        descriptor = unsafe cweir_exclusive_listening_socket(&storage, length, backlog)
        guard descriptor >= 0 else { throw Failure(code: -descriptor) }
        self.address = ListenerSockets.address(of: descriptor) ?? address
    }

    /// One that listens already; nil, and the descriptor closed, where it does not.
    package init?(inheriting descriptor: Int32) {
        guard let address = ListenerSockets.address(of: descriptor) else {
            Glibc.close(descriptor)
            return nil
        }
        self.descriptor = descriptor
        self.address = address
    }

    package func close() { Glibc.close(descriptor) }
}
