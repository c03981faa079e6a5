import CWeir
import Glibc
import Weir

/// What two processes say to each other while one takes over from the other: a line each, some with descriptors.
///
///     old                              new
///     weir 1
///     listener own 0.0.0.0:443  [fds]
///     admin                     [fd]
///     end
///                                      unused 0.0.0.0:80
///                                      ready
///     (closes its end)
package enum HandoverMessage: Sendable, Equatable {
    /// First of all, so that a later release can tell what it is talking to.
    case version(Int)
    /// The sockets of a listener, by the key that both know it under. `lent`: they are the service manager's.
    case listener(key: String, isLent: Bool)
    /// The socket of the admin endpoint.
    case admin
    /// Nothing more comes.
    case end
    /// The new process has no use for this listener.
    case unused(key: String)
    /// The new process serves.
    case ready

    package static let version = 1

    package var text: String {
        switch self {
        case .version(let number): "weir \(number)"
        case .listener(let key, let isLent): "listener \(isLent ? "lent" : "own") \(key)"
        case .admin: "admin"
        case .end: "end"
        case .unused(let key): "unused \(key)"
        case .ready: "ready"
        }
    }

    /// nil: no message of this version.
    package init?(_ text: String) {
        let words = text.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
        switch words[0] {
        case "weir" where words.count == 2:
            guard let number = Int(words[1]) else { return nil }
            self = .version(number)
        case "listener" where words.count == 3 && (words[1] == "own" || words[1] == "lent"):
            self = .listener(key: words[2], isLent: words[1] == "lent")
        case "admin" where words.count == 1: self = .admin
        case "end" where words.count == 1: self = .end
        case "unused" where words.count > 1:
            self = .unused(key: words.dropFirst().joined(separator: " "))
        case "ready" where words.count == 1: self = .ready
        default: return nil
        }
    }
}

/// One end of the line between the two.
package struct HandoverChannel: Sendable {
    package struct Closed: Error, Sendable {}

    package struct Arrival: Sendable {
        /// nil: not understood.
        package let message: HandoverMessage?
        package let descriptors: [CInt]
    }

    /// Descriptors that one message may carry.
    package static let descriptorCountMax = Int(CWEIR_DESCRIPTOR_COUNT_MAX)

    package let descriptor: CInt

    package init(descriptor: CInt) { self.descriptor = descriptor }

    package static func pair() throws(CommandFailure) -> (here: HandoverChannel, there: HandoverChannel) {
        var ends: [CInt] = [-1, -1]
        let code = unsafe cweir_channel(&ends)
        guard code == 0 else { throw CommandFailure(.runTime, ["weir: socketpair: \(systemMessage(code))"]) }
        return (HandoverChannel(descriptor: ends[0]), HandoverChannel(descriptor: ends[1]))
    }

    /// Never waits: 0, EAGAIN where the other end has to read first, or another errno.
    package func send(_ message: HandoverMessage, _ descriptors: [CInt] = []) -> CInt {
        let bytes = Array(message.text.utf8)
        return unsafe cweir_channel_send(descriptor, bytes, bytes.count, descriptors, CInt(descriptors.count))
    }

    /// Waits for a message.
    package func receive() throws(Closed) -> Arrival {
        var bytes = [UInt8](repeating: 0, count: 4096)
        var descriptors = [CInt](repeating: -1, count: Self.descriptorCountMax)
        var count = CInt(descriptors.count)
        let length = unsafe cweir_channel_receive(descriptor, &bytes, bytes.count, &descriptors, &count)
        guard length != 0, length != Int(-ECONNRESET) else { throw Closed() }
        let message = length < 0 ? nil : HandoverMessage(String(decoding: bytes[..<length], as: UTF8.self))
        return Arrival(message: message, descriptors: Array(descriptors[..<Int(count)]))
    }

    package func close() { _ = Glibc.close(descriptor) }
}
