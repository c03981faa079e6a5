import Glibc
import WeirSession

// Each operation has one place where its errno becomes an outcome.

/// Why an accept failed.
enum AcceptFailure {
    case cancelled
    /// That one connection is lost; the next may be fine.
    case transient
    /// No descriptor or memory, or something unheard of: the next would fail as well.
    case shortage

    init(_ code: Int32) {
        switch code {
        case ECANCELED: self = .cancelled
        // accept(2): errors of the new connection are passed on as its own.
        case ECONNABORTED, EINTR, EAGAIN, EPROTO, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, ENETDOWN, ENETUNREACH:
            self = .transient
        // EMFILE, ENFILE, ENOBUFS, ENOMEM, and whatever a kernel or a filter thinks of: without a pause it would spin.
        default: self = .shortage
        }
    }
}

/// Why a connect failed, as a close reason.
func connectFailure(_ code: Int32) -> CloseReason.Other {
    switch code {
    case ECONNREFUSED: .connectRefused
    case ETIMEDOUT: .connectTimedOut
    case ECONNRESET: .connectReset
    case ENETUNREACH, EHOSTUNREACH, ENETDOWN, EHOSTDOWN, EACCES, EPERM: .connectUnreachable
    case EADDRNOTAVAIL, EADDRINUSE, EAGAIN: .outOfSourcePorts
    case EMFILE, ENFILE, ENOBUFS, ENOMEM: .outOfDescriptors
    default: .connectFailed
    }
}

/// What a failed receive, send or watch on an open connection says about it.
func relayFailure(_ code: Int32, _ side: Side) -> CloseReason.Other {
    switch code {
    case ECONNRESET, EPIPE, ECONNABORTED, ECONNREFUSED:
        side == .downstream ? .downstreamReset : .upstreamReset
    case ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN:
        side == .downstream ? .downstreamTimedOut : .upstreamTimedOut
    case EBADF, EFAULT, ENOTSOCK, EINVAL:
        preconditionFailure("an operation on the \(side) socket failed with errno \(code)")
    default:
        .ioFailed
    }
}
