import Glibc

/// Why a connection or a listener of a test could not do what it was asked to.
public enum TestFailure: Error, Equatable, CustomStringConvertible {
    /// Nothing happened for `TestConnection.patience`: what the test waits for does not come.
    case timedOut(String)
    /// Nobody listens there.
    case refused(String)
    /// The other end sent RST, perhaps before a connect had returned.
    case reset(String)
    /// The other end sent FIN when only `received` bytes had come.
    case ended(received: Int, expected: Int)
    /// Other bytes came than were expected, somewhere from this offset on.
    case differs(from: Int)
    /// A system call failed; `code` is an errno.
    case system(String, code: CInt)

    public var description: String {
        switch self {
        case .timedOut(let call): "\(call): nothing happened for \(TestConnection.patience)"
        case .refused(let call): "\(call): refused"
        case .reset(let call): "\(call): the other end reset the connection"
        case .ended(let received, let expected): "the other end finished after \(received) of \(expected) bytes"
        case .differs(let offset): "the bytes from offset \(offset) on are not the expected ones"
        case .system(let call, let code): "\(call): errno \(code)"
        }
    }

    /// The failure that an errno of `call` on a connection stands for.
    init(_ call: String, _ code: CInt) {
        switch code {
        case ECONNREFUSED: self = .refused(call)
        case ECONNRESET, ECONNABORTED, EPIPE: self = .reset(call)
        case EAGAIN, EINPROGRESS, ETIMEDOUT: self = .timedOut(call)
        default: self = .system(call, code: code)
        }
    }
}
