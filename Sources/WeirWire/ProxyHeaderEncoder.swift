import WeirNet

/// Writes the PROXY header that opens a connection to an upstream (HAProxy proxy-protocol.txt 3.4).
///
/// Version 2 is written in steps, so that no TLV has to be copied into a value first:
///
///     var header = ProxyHeaderEncoder.V2(source: client, destination: local, into: &output)
///     header.append(.authority, name, into: &output)
///     let byteCount = header.finish(checksum: true, into: &output)
package enum ProxyHeaderEncoder {
    /// Room for a v1 line, or for v2 with each of authority, ALPN, unique id and checksum once (706 bytes) and some custom
    /// TLVs or padding.
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

        fileprivate var rawValue: UInt8 {
            switch self {
            case .alpn: 0x01
            case .authority: 0x02
            case .uniqueID: 0x05
            case .custom(let type): type
            }
        }

        fileprivate func allows(byteCount: Int) -> Bool {
            switch self {
            case .alpn, .authority: byteCount >= 1 && byteCount <= 255
            case .uniqueID: byteCount <= 128
            case .custom(let type): type >= 0xe0 && type <= 0xef
            }
        }
    }

    // MARK: Version 1

    /// Writes a v1 line to the start of `output`, which has room for 107 bytes, and returns its length. Where the families
    /// differ both are written as IPv6. nil endpoints write `PROXY UNKNOWN`, for a connection whose own endpoints hold.
    package static func writeV1(
        source: SocketAddress?, destination: SocketAddress?, into output: inout MutableSpan<UInt8>
    ) -> Int {
        var text = TextWriter()
        guard let (source, destination) = oneFamily(source, destination) else {
            text.write("PROXY UNKNOWN\r\n", into: &output)
            return text.byteCount
        }
        text.write(source.ip.family == .v4 ? "PROXY TCP4 " : "PROXY TCP6 ", into: &output)
        text.write(source.ip, into: &output)
        text.write(" ", into: &output)
        text.write(destination.ip, into: &output)
        text.write(" ", into: &output)
        text.write(UInt(source.port), radix: 10, into: &output)
        text.write(" ", into: &output)
        text.write(UInt(destination.port), radix: 10, into: &output)
        text.write("\r\n", into: &output)
        return text.byteCount
    }

    /// nil where there are no endpoints. Having one without the other is a bug of the caller.
    private static func oneFamily(
        _ source: SocketAddress?, _ destination: SocketAddress?
    ) -> (SocketAddress, SocketAddress)? {
        guard let source, let destination else {
            precondition(source == nil && destination == nil, "one endpoint of a PROXY header is missing")
            return nil
        }
        if source.ip.family == destination.ip.family { return (source, destination) }
        return (
            SocketAddress(source.ip.mapped, port: source.port),
            SocketAddress(destination.ip.mapped, port: destination.port)
        )
    }

    // MARK: Version 2

    package struct V2: Sendable, BitwiseCopyable {
        /// Written so far, from the start of the output.
        package private(set) var byteCount = 0

        /// Starts a v2 header at the start of `output`. Where the families differ both are written as IPv6. nil endpoints
        /// write LOCAL: PROXY with an unspecified family would say the same, but HAProxy refuses it.
        package init(source: SocketAddress?, destination: SocketAddress?, into output: inout MutableSpan<UInt8>) {
            let signature: InlineArray<12, UInt8> = [
                0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a,
            ]
            for index in signature.indices { put(signature[index], into: &output) }
            guard let (source, destination) = oneFamily(source, destination) else {
                put(0x20, into: &output)
                put(0x00, into: &output)
                put16(0, into: &output)
                return
            }
            put(0x21, into: &output)
            put(source.ip.family == .v4 ? 0x11 : 0x21, into: &output)
            // The length; `finish` writes it.
            put16(0, into: &output)
            for index in 0..<source.ip.bitCount / 8 { put(source.ip.byte(index), into: &output) }
            for index in 0..<destination.ip.bitCount / 8 { put(destination.ip.byte(index), into: &output) }
            put16(source.port, into: &output)
            put16(destination.port, into: &output)
        }

        /// Adds one TLV. Traps where the value has a length that the type does not allow, or does not fit.
        package mutating func append(_ type: TLVType, _ value: Span<UInt8>, into output: inout MutableSpan<UInt8>) {
            precondition(type.allows(byteCount: value.count))
            put(type.rawValue, into: &output)
            put16(UInt16(value.count), into: &output)
            for index in value.indices { put(value[index], into: &output) }
        }

        /// Pads with NOOP to at least `byteCountMin` bytes in all (a NOOP takes three or more), adds the checksum if asked,
        /// and returns the length of the header.
        package consuming func finish(
            checksum: Bool = false, byteCountMin: Int = 0, into output: inout MutableSpan<UInt8>
        ) -> Int {
            let missing = byteCountMin - byteCount - (checksum ? 7 : 0)
            if missing > 0 {
                put(0x04, into: &output)
                put16(UInt16(max(missing - 3, 0)), into: &output)
                for _ in 0..<max(missing - 3, 0) { put(0, into: &output) }
            }
            if checksum {
                put(0x03, into: &output)
                put16(4, into: &output)
                put16(0, into: &output)
                put16(0, into: &output)
            }
            let length = UInt16(byteCount - 16)
            output[14] = UInt8(length >> 8)
            output[15] = UInt8(length & 0xff)
            if checksum {
                // Over the whole header with the sum's own field zero, so it is the last thing computed.
                var sum = CRC32C()
                for index in 0..<byteCount { sum.update(output[index]) }
                for index in 0..<4 {
                    output[byteCount - 4 + index] = UInt8(truncatingIfNeeded: sum.value >> UInt32(24 - 8 * index))
                }
            }
            return byteCount
        }

        private mutating func put(_ byte: UInt8, into output: inout MutableSpan<UInt8>) {
            output[byteCount] = byte
            byteCount += 1
        }

        private mutating func put16(_ value: UInt16, into output: inout MutableSpan<UInt8>) {
            put(UInt8(value >> 8), into: &output)
            put(UInt8(value & 0xff), into: &output)
        }
    }
}

/// Appends text to a span.
private struct TextWriter: BitwiseCopyable {
    private(set) var byteCount = 0

    mutating func write(_ byte: UInt8, into output: inout MutableSpan<UInt8>) {
        output[byteCount] = byte
        byteCount += 1
    }

    mutating func write(_ text: String, into output: inout MutableSpan<UInt8>) {
        for byte in text.utf8 { write(byte, into: &output) }
    }

    /// Without leading zeros; letters in lower case.
    mutating func write(_ value: UInt, radix: UInt, into output: inout MutableSpan<UInt8>) {
        if value >= radix { write(value / radix, radix: radix, into: &output) }
        let digit = UInt8(value % radix)
        write(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10, into: &output)
    }

    /// Dotted decimal, or RFC 5952; mapped IPv4 with its last four bytes in decimal (RFC 5952 §5).
    mutating func write(_ ip: IPAddress, into output: inout MutableSpan<UInt8>) {
        if ip.family == .v4 { return writeOctets(ip, into: &output) }
        if ip.unmapped.family == .v4 {
            write("::ffff:", into: &output)
            return writeOctets(ip.unmapped, into: &output)
        }
        let compressed = Self.longestZeroRun(ip)
        var group = 0
        while group < 8 {
            if group == compressed.lowerBound, !compressed.isEmpty {
                write("::", into: &output)
                group = compressed.upperBound
                continue
            }
            if group > 0, group != compressed.upperBound || compressed.isEmpty { write(":", into: &output) }
            write(Self.group(ip, group), radix: 16, into: &output)
            group += 1
        }
    }

    private mutating func writeOctets(_ ip: IPAddress, into output: inout MutableSpan<UInt8>) {
        for index in 0..<4 {
            if index > 0 { write(".", into: &output) }
            write(UInt(ip.byte(index)), radix: 10, into: &output)
        }
    }

    private static func group(_ ip: IPAddress, _ index: Int) -> UInt {
        UInt(ip.byte(2 * index)) << 8 | UInt(ip.byte(2 * index + 1))
    }

    /// The first longest run of two or more zero groups, else empty (RFC 5952 §4.2).
    private static func longestZeroRun(_ ip: IPAddress) -> Range<Int> {
        var best = 0..<0
        var start = 0
        while start < 8 {
            var end = start
            while end < 8, group(ip, end) == 0 { end += 1 }
            if end - start > best.count { best = start..<end }
            start = max(end, start + 1)
        }
        return best.count >= 2 ? best : 0..<0
    }
}
