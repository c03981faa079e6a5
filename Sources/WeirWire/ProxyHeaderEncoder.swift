import WeirNet

/// Writes the PROXY header that opens a connection to an upstream (HAProxy proxy-protocol.txt 3.4).
///
/// Version 2 is written in three steps, so that no TLV has to be copied into a value first:
///
///     var header = ProxyHeaderEncoder.V2(source: client, destination: local, into: &output)
///     header.append(.authority, name, into: &output)
///     let byteCount = header.finish(checksum: true, into: &output)
package enum ProxyHeaderEncoder {
    /// Room for either version with every TLV named in `TLVType` once (706 bytes), and some for custom ones and padding.
    package static let byteCountMax = 1024

    /// The TLVs that may be sent. There is none for TLS facts: we never saw them, so none can be forged.
    package enum TLVType: Sendable, BitwiseCopyable, Equatable {
        /// The server name as the client sent it: 1...255 bytes.
        case authority
        /// 1...255 bytes.
        case alpn
        /// At most 128 bytes.
        case uniqueID
        /// PP2_TYPE_MIN_CUSTOM...PP2_TYPE_MAX_CUSTOM: 0xE0...0xEF.
        case custom(UInt8)
    }

    /// Writes a v1 line to the start of `output` and returns its length. Where families differ both are written as IPv6.
    /// nil endpoints write `PROXY UNKNOWN`, for connections whose own endpoints hold (LOCAL).
    package static func writeV1(
        source: SocketAddress?, destination: SocketAddress?, into output: inout MutableSpan<UInt8>
    ) -> Int { 0 }

    package struct V2: Sendable, BitwiseCopyable {
        package private(set) var byteCount = 0

        /// Starts a v2 header at the start of `output`. Where families differ both are written as IPv6.
        /// nil endpoints write LOCAL without addresses.
        package init(source: SocketAddress?, destination: SocketAddress?, into output: inout MutableSpan<UInt8>) {}

        /// Adds one TLV. Traps where the value has a length that the type does not allow, or does not fit.
        package mutating func append(_ type: TLVType, _ value: Span<UInt8>, into output: inout MutableSpan<UInt8>) {}

        /// Pads with NOOP to at least `byteCountMin` bytes in all, adds the checksum, and returns the header's length.
        package consuming func finish(
            checksum: Bool = false, byteCountMin: Int = 0, into output: inout MutableSpan<UInt8>
        ) -> Int { byteCount }
    }
}
