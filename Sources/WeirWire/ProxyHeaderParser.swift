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
        case firstByte
        case v1Line
        case v2Signature
        case v2Version
        case v2Family
        case v2Length
        /// The fixed address block of the family.
        case address
        case tlvHeader
        /// The value of a TLV.
        case value
        case sslSubHeader
        case sslSubValue
        /// The whole block of a connection whose own endpoints hold.
        case ignoredBlock
        case ended
    }

    /// What the bytes of the current TLV's value are.
    private enum Value: UInt8, BitwiseCopyable {
        case skipped
        case authority
        case alpn
        case uniqueID
        case checksum
        /// The client flags and the verify result.
        case ssl
        case awsSubtype
        case awsVPCEndpointID
    }

    private let byteCountMax: Int
    private let acceptIPv4InTCP6: Bool

    private var step = Step.firstByte
    private var value = Value.skipped
    /// Numbers, most significant byte first.
    private var field: UInt64 = 0
    /// Bytes of the current field, address, value or ignored block that have not been read.
    private var remaining = 0
    /// Bytes of the v2 block that stand behind those counted by `remaining` (and `sslRemaining`).
    private var blockRemaining = 0
    /// Bytes of PP2_TYPE_SSL that stand behind those counted by `remaining`.
    private var sslRemaining = 0
    /// The v1 line so far; under v2 the address block as far as it fits. `lineByteCount` bytes of it are read;
    /// while the v2 signature is read, they are counted only.
    private var line = InlineArray<107, UInt8>(repeating: 0)
    private var lineByteCount = 0
    private var familyByte: UInt8 = 0
    /// Whether the block has room for a checksum at all: most headers carry addresses only.
    private var countsChecksum = false
    private var checksum = CRC32C()
    private var sentChecksum: UInt32?
    private var sawAuthority = false
    private var sawALPN = false
    private var sawUniqueID = false
    /// What was read so far; the whole header once `consume` has answered `.complete`.
    package private(set) var header = ProxyHeader(
        version: .v1, command: .proxy, family: .unspecified, transport: .unspecified)

    /// `byteCountMax`: the largest v2 length field taken, so a v2 header has at most 16 bytes more; 65535 takes all.
    /// `acceptIPv4InTCP6`: takes IPv4 text in a v1 `TCP6` line, which nginx sends for mapped addresses.
    package init(byteCountMax: Int = 4096, acceptIPv4InTCP6: Bool = false) {
        self.byteCountMax = byteCountMax
        self.acceptIPv4InTCP6 = acceptIPv4InTCP6
    }

    /// Reads on with the next bytes of the connection. Not to be called again after `.complete` or `.refused`.
    package mutating func consume(_ bytes: Span<UInt8>) -> ProxyHeaderProgress {
        precondition(step != .ended, "the header has been answered")
        var index = 0
        while index < bytes.count {
            var refusal: ProxyRefusal?
            if step == .ignoredBlock {
                let count = min(remaining, bytes.count - index)
                remaining -= count
                index += count
                if remaining == 0 { step = .ended }
            } else {
                refusal = read(bytes[index])
                index += 1
            }
            if let refusal {
                step = .ended
                return .refused(refusal)
            }
            if step == .ended { return .complete(header, consumed: index) }
        }
        return .needMore
    }

    private mutating func read(_ byte: UInt8) -> ProxyRefusal? {
        switch step {
        case .firstByte:
            return readFirstByte(byte)
        case .v1Line:
            return readLine(byte)
        case .v2Signature:
            guard byte == Self.v2Signature[lineByteCount] else { return .missing }
            lineByteCount += 1
            if lineByteCount == Self.v2Signature.count { step = .v2Version }
            return nil
        case .v2Version:
            guard byte >> 4 == 2 else { return .version }
            guard let command = ProxyHeader.Command(rawValue: byte & 15) else { return .command }
            header.command = command
            step = .v2Family
            return nil
        case .v2Family:
            return readFamily(byte)
        case .v2Length:
            field = field << 8 | UInt64(byte)
            remaining -= 1
            return remaining == 0 ? blockBegins(byteCount: Int(field)) : nil
        case .address:
            count(byte)
            if lineByteCount < line.count {
                line[lineByteCount] = byte
                lineByteCount += 1
            }
            remaining -= 1
            return remaining == 0 ? addressEnds() : nil
        case .tlvHeader:
            count(byte)
            field = field << 8 | UInt64(byte)
            remaining -= 1
            return remaining == 0 ? valueBegins(type: UInt8(field >> 16), byteCount: Int(field & 0xffff)) : nil
        case .value:
            readValue(byte)
            remaining -= 1
            return remaining == 0 ? valueEnds() : nil
        case .sslSubHeader:
            count(byte)
            field = field << 8 | UInt64(byte)
            remaining -= 1
            return remaining == 0 ? sslSubValueBegins(byteCount: Int(field & 0xffff)) : nil
        case .sslSubValue:
            count(byte)
            remaining -= 1
            return remaining == 0 ? sslSubBegins() : nil
        case .ignoredBlock, .ended:
            preconditionFailure("no byte is read in this step")
        }
    }

    private mutating func readFirstByte(_ byte: UInt8) -> ProxyRefusal? {
        switch byte {
        case UInt8(ascii: "P"):
            step = .v1Line
            line[0] = byte
        case Self.v2Signature[0]:
            step = .v2Signature
            header.version = .v2
        default:
            return .missing
        }
        lineByteCount = 1
        return nil
    }

    // MARK: Version 1

    private mutating func readLine(_ byte: UInt8) -> ProxyRefusal? {
        let opening: InlineArray<5, UInt8> = [
            UInt8(ascii: "P"), UInt8(ascii: "R"), UInt8(ascii: "O"), UInt8(ascii: "X"), UInt8(ascii: "Y"),
        ]
        if lineByteCount < opening.count {
            guard byte == opening[lineByteCount] else { return .missing }
        } else if lineByteCount == opening.count {
            guard byte == UInt8(ascii: " ") else { return .malformed }
        }
        let followsCR = line[lineByteCount - 1] == UInt8(ascii: "\r")
        guard followsCR == (byte == UInt8(ascii: "\n")) else { return .malformed }
        line[lineByteCount] = byte
        lineByteCount += 1
        if followsCR { return lineEnds() }
        return lineByteCount == Self.v1ByteCountMax ? .tooLong : nil
    }

    /// The line has its CRLF.
    private mutating func lineEnds() -> ProxyRefusal? {
        guard let stated = endpointsOfLine() else { return .malformed }
        step = .ended
        header.family = stated.family
        guard let source = stated.source, let destination = stated.destination else { return nil }
        header.transport = .stream
        return endpoints(source, destination)
    }

    /// What a line of section 2.1 states; nil where it breaks the grammar.
    private func endpointsOfLine() -> (family: ProxyHeader.Family, source: SocketAddress?, destination: SocketAddress?)?
    {
        // Behind `PROXY` and a space, before CRLF.
        let text = line.span.extracting(6..<lineByteCount - 2)
        // Whatever follows UNKNOWN MUST be ignored.
        if Self.starts(text, with: "UNKNOWN"), text.count == 7 || text[7] == UInt8(ascii: " ") {
            return (.unspecified, nil, nil)
        }
        let family: ProxyHeader.Family
        if Self.starts(text, with: "TCP4 ") {
            family = .inet
        } else if Self.starts(text, with: "TCP6 ") {
            family = .inet6
        } else {
            return nil
        }
        var index = 5
        guard
            let sourceText = Self.nextField(text, &index),
            let destinationText = Self.nextField(text, &index),
            let sourcePortText = Self.nextField(text, &index),
            let destinationPortText = Self.nextField(text, &index),
            index == text.count + 1,
            let source = address(text.extracting(sourceText), of: family),
            let destination = address(text.extracting(destinationText), of: family),
            let sourcePort = Self.port(text.extracting(sourcePortText)),
            let destinationPort = Self.port(text.extracting(destinationPortText))
        else { return nil }
        return (family, SocketAddress(source, port: sourcePort), SocketAddress(destination, port: destinationPort))
    }

    private func address(_ text: Span<UInt8>, of family: ProxyHeader.Family) -> IPAddress? {
        guard let ip = IPAddress(ascii: text) else { return nil }
        switch (family, ip.family) {
        case (.inet, .v4), (.inet6, .v6): return ip
        case (.inet6, .v4): return acceptIPv4InTCP6 ? ip : nil
        default: return nil
        }
    }

    private static func starts(_ text: Span<UInt8>, with prefix: String) -> Bool {
        guard text.count >= prefix.utf8.count else { return false }
        var index = 0
        for byte in prefix.utf8 {
            guard text[index] == byte else { return false }
            index += 1
        }
        return true
    }

    /// The bytes from `index` to the next space or the end, at least one. `index` moves behind that space.
    private static func nextField(_ text: Span<UInt8>, _ index: inout Int) -> Range<Int>? {
        let start = index
        while index < text.count, text[index] != UInt8(ascii: " ") { index += 1 }
        guard index > start else { return nil }
        defer { index += 1 }
        return start..<index
    }

    /// 0...65535 in decimal, without leading zeros.
    private static func port(_ text: Span<UInt8>) -> UInt16? {
        guard text.count <= 5, text.count == 1 || text[0] != UInt8(ascii: "0") else { return nil }
        var value = 0
        for index in text.indices {
            let byte = text[index]
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
            value = value * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return UInt16(exactly: value)
    }

    // MARK: Version 2

    private static let v2Signature: InlineArray<12, UInt8> = [
        0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a,
    ]

    private mutating func readFamily(_ byte: UInt8) -> ProxyRefusal? {
        // Section 2.2: under LOCAL the family is ignored, whatever it says.
        if header.command == .proxy {
            guard let family = ProxyHeader.Family(rawValue: byte >> 4) else { return .family }
            guard let transport = ProxyHeader.Transport(rawValue: byte & 15) else { return .family }
            header.family = family
            header.transport = transport
        }
        familyByte = byte
        read(.v2Length, byteCount: 2)
        return nil
    }

    private mutating func read(_ next: Step, byteCount: Int) {
        step = next
        field = 0
        remaining = byteCount
    }

    private mutating func blockBegins(byteCount: Int) -> ProxyRefusal? {
        guard byteCount <= byteCountMax else { return .tooLong }
        let addressByteCount: Int
        switch header.family {
        case .unspecified:
            // Nothing in the block can be trusted to be where it should be: it is passed over as a whole.
            read(.ignoredBlock, byteCount: byteCount)
            if byteCount == 0 { step = .ended }
            return nil
        case .inet: addressByteCount = 12
        case .inet6: addressByteCount = 36
        case .unix: addressByteCount = 216
        }
        guard byteCount >= addressByteCount else { return .length }
        blockRemaining = byteCount - addressByteCount
        if blockRemaining > 0 {
            countsChecksum = true
            for index in Self.v2Signature.indices { count(Self.v2Signature[index]) }
            count(0x20 | header.command.rawValue)
            count(familyByte)
            count(UInt8(byteCount >> 8))
            count(UInt8(byteCount & 0xff))
        }
        lineByteCount = 0
        read(.address, byteCount: addressByteCount)
        return nil
    }

    private mutating func count(_ byte: UInt8) {
        if countsChecksum { checksum.update(byte) }
    }

    private mutating func addressEnds() -> ProxyRefusal? {
        var refusal: ProxyRefusal?
        if header.transport != .unspecified {
            switch header.family {
            case .inet:
                refusal = endpoints(
                    SocketAddress(
                        IPAddress(v4: UInt32(number(at: 0, byteCount: 4))), port: UInt16(number(at: 8, byteCount: 2))),
                    SocketAddress(
                        IPAddress(v4: UInt32(number(at: 4, byteCount: 4))), port: UInt16(number(at: 10, byteCount: 2))))
            case .inet6:
                refusal = endpoints(
                    SocketAddress(ip6(at: 0), port: UInt16(number(at: 32, byteCount: 2))),
                    SocketAddress(ip6(at: 16), port: UInt16(number(at: 34, byteCount: 2))))
            case .unix, .unspecified:
                break
            }
        }
        return refusal ?? tlvBegins()
    }

    private func ip6(at start: Int) -> IPAddress {
        IPAddress(v6High: number(at: start, byteCount: 8), low: number(at: start + 8, byteCount: 8))
    }

    /// A big-endian number in the address block.
    private func number(at start: Int, byteCount: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in start..<start + byteCount { value = value << 8 | UInt64(line[index]) }
        return value
    }

    /// Both ends in the one spelling that rules see; no host has an unspecified, broadcast or multicast address.
    private mutating func endpoints(_ source: SocketAddress, _ destination: SocketAddress) -> ProxyRefusal? {
        let sourceIP = source.ip.unmapped
        let destinationIP = destination.ip.unmapped
        guard Self.isUnicast(sourceIP), Self.isUnicast(destinationIP) else { return .address }
        header.source = SocketAddress(sourceIP, port: source.port)
        header.destination = SocketAddress(destinationIP, port: destination.port)
        return nil
    }

    private static func isUnicast(_ ip: IPAddress) -> Bool {
        if ip.isUnspecified { return false }
        switch ip.family {
        case .v4: return ip.low >> 28 != 0xe && ip.low != 0xffff_ffff
        case .v6: return ip.high >> 56 != 0xff
        }
    }

    // MARK: TLVs (section 2.2)

    private mutating func tlvBegins() -> ProxyRefusal? {
        if blockRemaining == 0 { return blockEnds() }
        guard blockRemaining >= 3 else { return .tlv }
        blockRemaining -= 3
        read(.tlvHeader, byteCount: 3)
        return nil
    }

    private mutating func valueBegins(type: UInt8, byteCount: Int) -> ProxyRefusal? {
        guard byteCount <= blockRemaining else { return .tlv }
        blockRemaining -= byteCount
        read(.value, byteCount: byteCount)
        value = .skipped
        switch type {
        case 0x01:
            guard byteCount <= 255 else { return .tlv }
            if !sawALPN { value = .alpn }
            sawALPN = true
        case 0x02:
            guard byteCount >= 1, byteCount <= 255 else { return .tlv }
            if !sawAuthority {
                value = .authority
            } else if header.duplicateAuthorityCount < .max {
                header.duplicateAuthorityCount += 1
            }
            sawAuthority = true
        case 0x03:
            guard byteCount == 4, sentChecksum == nil else { return .checksum }
            value = .checksum
        case 0x05:
            guard byteCount <= 128 else { return .tlv }
            if !sawUniqueID { value = .uniqueID }
            sawUniqueID = true
        case 0x20:
            guard byteCount >= 5 else { return .tlv }
            value = .ssl
            remaining = 5
            sslRemaining = byteCount - 5
        case 0xea:
            // One byte of subtype, then the id.
            if byteCount >= 2, byteCount <= 33 { value = .awsSubtype }
        default:
            break
        }
        return remaining == 0 ? tlvBegins() : nil
    }

    private mutating func readValue(_ byte: UInt8) {
        switch value {
        case .skipped:
            break
        case .authority:
            header.authority.append(byte)
        case .alpn:
            header.alpn.append(byte)
        case .uniqueID:
            header.uniqueID.append(byte)
        case .checksum:
            field = field << 8 | UInt64(byte)
            // The sum was taken with its own field set to zero.
            count(0)
            return
        case .ssl:
            field = field << 8 | UInt64(byte)
        case .awsSubtype:
            value = byte == 1 && header.awsVPCEndpointID.isEmpty ? .awsVPCEndpointID : .skipped
        case .awsVPCEndpointID:
            header.awsVPCEndpointID.append(byte)
        }
        count(byte)
    }

    private mutating func valueEnds() -> ProxyRefusal? {
        switch value {
        case .checksum:
            sentChecksum = UInt32(truncatingIfNeeded: field)
        case .ssl:
            if header.ssl == nil {
                header.ssl = ProxyHeader.SSL(
                    clientFlags: UInt8(truncatingIfNeeded: field >> 32), verifyResult: UInt32(truncatingIfNeeded: field)
                )
            }
            return sslSubBegins()
        case .skipped, .authority, .alpn, .uniqueID, .awsSubtype, .awsVPCEndpointID:
            break
        }
        return tlvBegins()
    }

    private mutating func sslSubBegins() -> ProxyRefusal? {
        if sslRemaining == 0 { return tlvBegins() }
        guard sslRemaining >= 3 else { return .tlv }
        sslRemaining -= 3
        read(.sslSubHeader, byteCount: 3)
        return nil
    }

    private mutating func sslSubValueBegins(byteCount: Int) -> ProxyRefusal? {
        guard byteCount <= sslRemaining else { return .tlv }
        sslRemaining -= byteCount
        read(.sslSubValue, byteCount: byteCount)
        return byteCount == 0 ? sslSubBegins() : nil
    }

    private mutating func blockEnds() -> ProxyRefusal? {
        if let sentChecksum {
            guard sentChecksum == checksum.value else { return .checksum }
            header.crcVerified = true
        }
        step = .ended
        return nil
    }
}
