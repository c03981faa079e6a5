import WeirNet

package enum ProxyHeaderProgress: Sendable, BitwiseCopyable {
    case needMore
    /// `consumed`: how many bytes of the span just given belonged to the header. The rest is payload, not looked at.
    case complete(ProxyHeader, consumed: Int)
    case refused(ProxyRefusal)
}

/// Reads the PROXY header, version 1 or 2, that must open a connection (HAProxy proxy-protocol.txt 3.4), at any split.
///
///     v1   PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n                      at most 107 bytes
///     v2   signature[12] 2|command family|transport length<2> | addresses | TLVs: type length<2> value ...
///
/// Nothing is guessed: the first byte that fits neither form refuses the connection. Of what follows the addresses only the
/// TLVs that `ProxyHeader` names are kept; a network namespace (PP2_TYPE_NETNS) is passed over, never acted on.
package struct ProxyHeaderParser: Sendable, BitwiseCopyable {
    /// Section 2.1: the longest line, its CRLF included.
    package static let v1ByteCountMax = 107

    private enum Step: UInt8, BitwiseCopyable {
        case signature
        case v1Line
        case v2Version
        case v2Family
        case v2Length
        case v2Address
        case tlvHeader
        case value
        case sslSubHeader
        /// Bytes that mean nothing to us, up to the end of the block.
        case blockEnd
        case ended
    }

    /// Where the bytes of the current TLV go.
    private enum Value: UInt8, BitwiseCopyable {
        case skipped
        case authority
        case alpn
        case uniqueID
        case checksum
        case ssl
        case sslSub
        case awsSubtype
        case awsVPCEndpointID
    }

    private let byteCountMax: Int
    private let acceptIPv4InTCP6: Bool

    private var step = Step.signature
    private var value = Value.skipped
    /// Bytes of the v1 line or of the v2 signature so far.
    private var prefixByteCount: UInt8 = 0
    /// Collects numbers of up to 4 bytes, most significant first.
    private var field: UInt32 = 0
    private var fieldRemaining = 0
    /// Bytes of the v2 block behind the length field that have not been read.
    private var blockRemaining = 0
    /// Bytes of the current TLV's value that have not been read; inside PP2_TYPE_SSL those of the sub-TLV.
    private var valueRemaining = 0
    /// Bytes of PP2_TYPE_SSL that have not been read.
    private var sslRemaining = 0
    private var addressIndex = 0
    private var line = InlineArray<107, UInt8>(repeating: 0)
    private var checksum = CRC32C()
    private var sawChecksum = false
    private var sentChecksum: UInt32 = 0
    private var header = ProxyHeader(version: .v1, command: .proxy, family: .unspecified, transport: .unspecified)

    /// `byteCountMax`: the largest v2 length field taken, so a v2 header has at most 16 bytes more; 65535 takes all.
    /// `acceptIPv4InTCP6`: takes IPv4 text in a v1 `TCP6` line, which nginx sends for mapped addresses.
    package init(byteCountMax: Int = 4096, acceptIPv4InTCP6: Bool = false) {
        self.byteCountMax = byteCountMax
        self.acceptIPv4InTCP6 = acceptIPv4InTCP6
    }

    /// Reads on with the next bytes of the connection. Not to be called again after `.complete` or `.refused`.
    package mutating func consume(_ bytes: Span<UInt8>) -> ProxyHeaderProgress {
        precondition(step != .ended, "the header has been answered")
        _ = bytes
        return .needMore
    }
}
