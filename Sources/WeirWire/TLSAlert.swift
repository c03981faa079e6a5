/// The fatal alerts (RFC 8446 §6, RFC 6066 §3) that a refused client is answered with.
package enum TLSAlert: UInt8, Sendable, BitwiseCopyable, CaseIterable {
    case unexpectedMessage = 10
    case recordOverflow = 22
    case illegalParameter = 47
    case accessDenied = 49
    case decodeError = 50
    /// RFC 8446 §6.2: a failure that is not the peer's: here, that the server could not be reached.
    case internalError = 80
    case unrecognizedName = 112

    /// The plaintext record that carries the alert: type 21, version 3.1 as before any negotiation, level fatal.
    package var record: InlineArray<7, UInt8> { [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, rawValue] }
}
