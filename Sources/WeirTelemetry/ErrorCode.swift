import Glibc

/// The names of the errors that a socket meets.
package enum ErrorCode {
    /// `ECONNRESET` for 104; an errno that is not listed is given as its number, never folded away.
    package static func name(_ code: Int32) -> String {
        switch code {
        case EACCES: "EACCES"
        case EADDRINUSE: "EADDRINUSE"
        case EADDRNOTAVAIL: "EADDRNOTAVAIL"
        case EAFNOSUPPORT: "EAFNOSUPPORT"
        case EAGAIN: "EAGAIN"
        case EBADF: "EBADF"
        case ECANCELED: "ECANCELED"
        case ECONNABORTED: "ECONNABORTED"
        case ECONNREFUSED: "ECONNREFUSED"
        case ECONNRESET: "ECONNRESET"
        case EDQUOT: "EDQUOT"
        case EHOSTDOWN: "EHOSTDOWN"
        case EHOSTUNREACH: "EHOSTUNREACH"
        case EINTR: "EINTR"
        case EINVAL: "EINVAL"
        case EIO: "EIO"
        case EISDIR: "EISDIR"
        case EMFILE: "EMFILE"
        case ENETDOWN: "ENETDOWN"
        case ENETUNREACH: "ENETUNREACH"
        case ENFILE: "ENFILE"
        case ENOBUFS: "ENOBUFS"
        case ENOENT: "ENOENT"
        case ENOMEM: "ENOMEM"
        case ENOSPC: "ENOSPC"
        case ENOTCONN: "ENOTCONN"
        case ENXIO: "ENXIO"
        case EPERM: "EPERM"
        case EPIPE: "EPIPE"
        case EPROTO: "EPROTO"
        case EROFS: "EROFS"
        case ETIMEDOUT: "ETIMEDOUT"
        default: String(code)
        }
    }
}
