import Glibc
import WeirSession
import WeirTelemetry

// Each operation has one place where its errno becomes an outcome.

/// Why an accept failed.
enum AcceptFailure {
    case cancelled
    /// That one connection is lost; the next may be fine.
    case transient
    /// The next would fail as well; nil: for a reason unheard of.
    case shortage(Shortage?)

    init(_ code: Int32) {
        switch code {
        case ECANCELED: self = .cancelled
        // accept(2): errors of the new connection are passed on as its own.
        case ECONNABORTED, EINTR, EAGAIN, EPROTO, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, ENETDOWN, ENETUNREACH:
            self = .transient
        case EMFILE, ENFILE: self = .shortage(.descriptors)
        case ENOBUFS, ENOMEM: self = .shortage(.memory)
        // Whatever a kernel or a filter thinks of: without a pause it would spin.
        default: self = .shortage(nil)
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
    case EMFILE, ENFILE: .outOfDescriptors
    case ENOBUFS, ENOMEM: .outOfMemory
    default: .connectFailed
    }
}

extension CloseReason.Other {
    /// What a failed connect was short of.
    var shortage: Shortage? {
        switch self {
        case .outOfDescriptors: .descriptors
        case .outOfMemory: .memory
        case .outOfSourcePorts: .sourcePorts
        default: nil
        }
    }

    /// No other endpoint would have done better, and this one is none the worse. Source ports are short towards one.
    var isOwnShortage: Bool {
        switch self {
        case .outOfDescriptors, .outOfMemory, .resolverOverloaded: true
        default: false
        }
    }
}

/// What a failed receive, send or watch on an open connection says about it.
func relayFailure(_ code: Int32, _ side: Side) -> CloseReason.Other {
    switch code {
    case ECONNRESET, EPIPE, ECONNABORTED, ECONNREFUSED:
        side == .downstream ? .downstreamReset : .upstreamReset
    case ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN:
        side == .downstream ? .downstreamTimedOut : .upstreamTimedOut
    // EFAULT: a buffer's page could not be had, as where a control group is full and nobody is killed for it.
    case EBADF, ENOTSOCK, EINVAL:
        preconditionFailure("an operation on the \(side) socket failed with errno \(code)")
    default:
        .ioFailed
    }
}
