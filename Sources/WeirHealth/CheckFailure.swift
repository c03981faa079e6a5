import Glibc
import WeirUpstream

/// Why a check did not succeed.
package enum CheckFailure: UInt8, Sendable, BitwiseCopyable, CaseIterable {
    case refused
    /// Nothing, or too little, came in time; `connectTimedOut` while the connection was made.
    case timedOut
    case connectTimedOut
    case reset
    /// The endpoint ended the connection before it had answered.
    case closed
    case unreachable
    /// No local port, or not the source address, to connect from.
    case noSourcePort
    /// The endpoint's own address, or every address of its name that has a source, is refused by the guard.
    case destinationDenied
    case nameNotFound
    case nameHasNoAddress
    case resolverFailed
    case resolverTimedOut
    /// A TLS alert.
    case tlsAlert
    /// Bytes that are no answer of the protocol.
    case malformedAnswer
    /// An HTTP status that is not expected.
    case status
    case ioFailed
    // We were short of something; these say nothing of the endpoint.
    case outOfDescriptors
    case outOfMemory
    case resolverOverloaded

    /// The stable name in metrics and on the admin endpoint.
    package var label: StaticString {
        switch self {
        case .refused: "refused"
        case .timedOut: "timed_out"
        case .connectTimedOut: "connect_timed_out"
        case .reset: "reset"
        case .closed: "closed"
        case .unreachable: "unreachable"
        case .noSourcePort: "no_source_port"
        case .destinationDenied: "destination_denied"
        case .nameNotFound: "name_not_found"
        case .nameHasNoAddress: "name_has_no_address"
        case .resolverFailed: "resolver_failed"
        case .resolverTimedOut: "resolver_timed_out"
        case .tlsAlert: "tls_alert"
        case .malformedAnswer: "malformed_answer"
        case .status: "status"
        case .ioFailed: "io_failed"
        case .outOfDescriptors: "out_of_descriptors"
        case .outOfMemory: "out_of_memory"
        case .resolverOverloaded: "resolver_overloaded"
        }
    }

    /// No other endpoint would have done better.
    package var isOwnShortage: Bool {
        switch self {
        case .outOfDescriptors, .outOfMemory, .resolverOverloaded, .noSourcePort: true
        default: false
        }
    }

    /// What the errno of a connect, a send or a receive says.
    init(code: Int32) {
        switch code {
        case ECONNREFUSED: self = .refused
        case ETIMEDOUT: self = .timedOut
        case ECONNRESET, EPIPE, ECONNABORTED: self = .reset
        case ENETUNREACH, EHOSTUNREACH, ENETDOWN, EHOSTDOWN, EACCES, EPERM: self = .unreachable
        case EADDRNOTAVAIL, EADDRINUSE, EAGAIN: self = .noSourcePort
        case EMFILE, ENFILE: self = .outOfDescriptors
        case ENOBUFS, ENOMEM: self = .outOfMemory
        default: self = .ioFailed
        }
    }

    /// Why a name has no addresses; nil where it has.
    init?(_ status: AnswerStatus) {
        switch status {
        case .found: return nil
        case .noSuchName: self = .nameNotFound
        case .noAddress: self = .nameHasNoAddress
        case .serverFailure: self = .resolverFailed
        case .timedOut: self = .resolverTimedOut
        case .refusedTooMany, .cancelled: self = .resolverOverloaded
        }
    }
}
