import Glibc
import Weir

/// The process that started this one to take over from it, and what it has handed over.
package struct Predecessor: Sendable {
    /// Where a process finds its end of the channel to the one before it.
    package static let variable = "WEIR_UPGRADE"

    package private(set) var sockets: [InheritedSocket] = []
    package private(set) var admin: ExclusiveSocket?
    private let channel: HandoverChannel

    /// nil: nobody did. Waits until everything is there.
    package static func find() throws(CommandFailure) -> Predecessor? {
        guard let text = environmentValue(variable) else { return nil }
        // A descriptor that is not ours to read would be a mistake in the environment.
        guard let descriptor = CInt(text), descriptor > 2, fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0 else {
            throw CommandFailure(.usage, ["weir: \(variable) is not for people: it names no descriptor"])
        }
        return try Predecessor(HandoverChannel(descriptor: descriptor))
    }

    package init(_ channel: HandoverChannel) throws(CommandFailure) {
        self.channel = channel
        var version: Int?
        while true {
            let arrival: HandoverChannel.Arrival
            do { arrival = try channel.receive() } catch {
                throw CommandFailure(.runTime, ["weir: the process before this one has gone"])
            }
            switch arrival.message {
            case .version(let number):
                version = number
            case .listener(let key, let isLent) where version == HandoverMessage.version:
                for descriptor in arrival.descriptors {
                    let maker: InheritedSocket.Maker = isLent ? .handedOn(key: key) : .predecessor(key: key)
                    guard let socket = InheritedSocket(descriptor: descriptor, maker: maker) else {
                        throw Self.misunderstood("a socket for \(key) that does not listen")
                    }
                    sockets.append(socket)
                }
            case .admin where version == HandoverMessage.version:
                admin = arrival.descriptors.first.flatMap(ExclusiveSocket.init(inheriting:))
            case .end where version == HandoverMessage.version:
                return
            case .listener, .admin, .end, .unused, .ready, nil:
                throw Self.misunderstood("what this release does not understand")
            }
        }
    }

    /// The socket for an admin endpoint on `address`; nil, and the socket closed, where it is on another.
    package func adminSocket(for address: SocketAddress?) -> ExclusiveSocket? {
        guard let admin else { return nil }
        if let address, admin.address.ip == address.ip, address.port == 0 || admin.address.port == address.port {
            return admin
        }
        admin.close()
        return nil
    }

    /// This process serves; the one before may end. Where it has ended already, nobody hears this. Waits until it has
    /// let go of the admin endpoint's socket, on which only one process may accept.
    package func takeLeave(unused keys: [String]) {
        for key in keys { _ = channel.send(.unused(key: key)) }
        _ = channel.send(.ready)
        // It closes its end then, at the latest by ending.
        wait(for: [channel.descriptor], milliseconds: 5000)
        channel.close()
    }

    private static func misunderstood(_ what: String) -> CommandFailure {
        CommandFailure(.runTime, ["weir: the process before this one has handed over \(what)"])
    }
}

/// The value of an environment variable; nil where it is not set.
package func environmentValue(_ name: String) -> String? {
    guard let text = unsafe getenv(name) else { return nil }
    return unsafe String(cString: text)
}
