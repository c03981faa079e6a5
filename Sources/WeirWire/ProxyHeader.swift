import WeirNet

/// What a PROXY header says about the connection it precedes. A plain value without heap storage.
package struct ProxyHeader: Sendable, BitwiseCopyable {
    package enum Version: UInt8, Sendable, BitwiseCopyable {
        case v1 = 1
        case v2 = 2
    }

    package enum Command: UInt8, Sendable, BitwiseCopyable {
        /// The peer opened the connection for itself, a health check for example: its own endpoints hold.
        case local
        case proxy
    }

    package enum Family: UInt8, Sendable, BitwiseCopyable {
        /// v1 `UNKNOWN`, v2 AF_UNSPEC, or any family under LOCAL.
        case unspecified
        case inet
        case inet6
        case unix
    }

    package enum Transport: UInt8, Sendable, BitwiseCopyable {
        case unspecified
        case stream
        case datagram
    }

    package var version: Version
    package var command: Command
    /// As sent, for logs: `source` may be IPv4 under `inet6`.
    package var family: Family
    package var transport: Transport

    /// The client, and the address it connected to. Both or neither: nil under LOCAL, `UNKNOWN`, AF_UNSPEC, AF_UNIX and an
    /// unspecified transport, where the socket's own endpoints hold. Mapped IPv4 is unmapped: rules see one spelling.
    package var source: SocketAddress?
    package var destination: SocketAddress?

    /// PP2_TYPE_AUTHORITY, the first where several came: the host name the client asked for, any bytes.
    package var authority = InlineBytes<255>()
    /// PP2_TYPE_AUTHORITY beyond the first; stays at 65535.
    package var duplicateAuthorityCount: UInt16 = 0
    /// PP2_TYPE_ALPN: the protocol in use, any bytes.
    package var alpn = InlineBytes<255>()
    /// PP2_TYPE_UNIQUE_ID, any bytes.
    package var uniqueID = InlineBytes<128>()
    /// The endpoint id in an AWS TLV (0xEA, subtype 1), any bytes; empty where absent or longer.
    package var awsVPCEndpointID = InlineBytes<32>()
    /// PP2_TYPE_SSL.
    package var ssl: SSL?
    /// PP2_TYPE_CRC32C was there, and right.
    package var crcVerified = false

    package struct SSL: Sendable, BitwiseCopyable {
        /// PP2_CLIENT_SSL 1, PP2_CLIENT_CERT_CONN 2, PP2_CLIENT_CERT_SESS 4.
        package var clientFlags: UInt8
        /// 0: the client's certificate was verified.
        package var verifyResult: UInt32
    }

    init(version: Version, command: Command, family: Family, transport: Transport) {
        self.version = version
        self.command = command
        self.family = family
        self.transport = transport
    }
}
