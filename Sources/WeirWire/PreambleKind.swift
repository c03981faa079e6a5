/// What the first byte of a connection can be the start of, for a port that takes TLS and HTTP.
package enum PreambleKind: UInt8, Sendable, BitwiseCopyable {
    case tls
    case http
    case unknown

    /// TLS records of type handshake start with 22; methods of HTTP are written in capitals (RFC 9110 §9.1).
    package init(firstByte: UInt8) {
        switch firstByte {
        case 22: self = .tls
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): self = .http
        default: self = .unknown
        }
    }
}
