import CAres
import Glibc

/// The socket calls that c-ares makes, ours for one reason: sending.
///
/// The kernel reports "port unreachable" once per socket, to whichever call comes next. Where that is the send of
/// another question, c-ares 1.18 moves that one on and leaves the question that was refused waiting for its timeout.
/// `send` therefore takes the report, sends all the same, and the next report meets a poll, which moves all questions on.
enum AresSockets {
    /// c-ares keeps the pointer: it lives as long as the process.
    @safe
    struct Table: @unchecked Sendable {
        let pointer: UnsafePointer<ares_socket_functions>
    }

    static let table: Table = {
        let functions = UnsafeMutablePointer<ares_socket_functions>.allocate(capacity: 1)
        unsafe functions.initialize(
            to: ares_socket_functions(
                asocket: { family, kind, proto, _ in
                    let flags = CInt(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
                    return socket(family, kind | flags, proto)
                },
                aclose: { descriptor, _ in close(descriptor) },
                aconnect: { descriptor, address, byteCount, _ in unsafe connect(descriptor, address, byteCount) },
                arecvfrom: { descriptor, buffer, byteCount, flags, source, sourceByteCount, _ in
                    unsafe recvfrom(descriptor, buffer, byteCount, flags, source, sourceByteCount)
                },
                asendv: { descriptor, vectors, count, _ in
                    var message = unsafe msghdr()
                    unsafe message.msg_iov = UnsafeMutablePointer(mutating: vectors)
                    unsafe message.msg_iovlen = Int(count)
                    let sent = unsafe sendmsg(descriptor, &message, CInt(MSG_NOSIGNAL))
                    if sent >= 0 || errno != ECONNREFUSED { return sent }
                    return unsafe sendmsg(descriptor, &message, CInt(MSG_NOSIGNAL))
                }))
        return unsafe Table(pointer: UnsafePointer(functions))
    }()
}
