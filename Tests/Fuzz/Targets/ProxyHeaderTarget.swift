import FuzzHarness
import Glibc
import WeirNet
import WeirWire

/// PP-01...PP-28, PO-03, PO-04: the PROXY header parser against itself, against libc's reading of addresses and a second
/// reading of the block, and against our own encoder: what it writes of an accepted header reads as the same.
enum ProxyHeaderTarget: FuzzTarget {
    static let name = "proxy-header"

    static func check(_ bytes: Span<UInt8>) -> String? {
        var random = FuzzRandom(of: bytes)
        let answer = readEveryWay(ProxyReading(), bytes, &random)
        if random.oneIn(4) { requireOptionsOnlyWiden(bytes, answer) }
        switch answer {
        case .needMore:
            require(bytes.count < 16 + 4096, "wants more than a header has")
            return "more"
        case .refused(let refusal):
            return refusal.label
        case .accepted(let header, let byteCount):
            let header = header.value
            requireSound(header, bytes.extracting(first: byteCount))
            requireRoundTrip(header, checksum: random.oneIn(2))
            return "accepted_\(header.version)_\(header.command)_\(header.family)"
        }
    }

    /// PP-12, PP-20: what is refused for a limit or for IPv4 under TCP6 may be accepted without; nothing else changes.
    private static func requireOptionsOnlyWiden(
        _ bytes: Span<UInt8>, _ answer: Reading<ProxyReading.Value, ProxyRefusal>
    ) {
        let wide = readWhole(ProxyReading(byteCountMax: 65535, acceptIPv4InTCP6: true), bytes)
        switch answer {
        case .refused(.tooLong), .refused(.malformed):
            if case .refused(let refusal) = wide, case .refused(.malformed) = answer {
                // Read at last, the addresses may still be none that a host has.
                require(refusal == .malformed || refusal == .address, "\(refusal) with wider options")
            }
        default:
            requireSame(ProxyReading.self, answer, wide, "with wider options")
        }
        let narrow = readWhole(ProxyReading(byteCountMax: 64), bytes)
        if case .refused(.tooLong) = narrow { return }
        requireSame(ProxyReading.self, answer, narrow, "with a limit of 64")
    }

    private static func requireSound(_ header: ProxyHeader, _ bytes: Span<UInt8>) {
        require((header.source == nil) == (header.destination == nil), "one endpoint without the other")
        for address in [header.source, header.destination].compactMap({ $0 }) {
            require(address.ip.unmapped == address.ip, "a mapped address")
            let first = address.ip.byte(0)
            require(!address.ip.isUnspecified, "the unspecified address")
            if address.ip.family == .v4 {
                require(first >> 4 != 0xe && address.ip.low != 0xffff_ffff, "\(address) is no host's")
            } else {
                require(first != 0xff, "\(address) is no host's")
            }
            require(header.family == .inet || header.family == .inet6, "an address under \(header.family)")
            require(header.command == .proxy && header.transport != .unspecified, "an address under \(header.command)")
        }
        if header.duplicateAuthorityCount > 0 {
            require(!header.authority.isEmpty, "a second authority without a first")
        }
        switch header.version {
        case .v1: requireLine(header, bytes)
        case .v2: requireBlock(header, bytes)
        }
    }

    /// What libc reads in the line is what we read.
    private static func requireLine(_ header: ProxyHeader, _ bytes: Span<UInt8>) {
        require(bytes.count <= ProxyHeaderParser.v1ByteCountMax, "a line of \(bytes.count) bytes")
        var words: [String] = [""]
        for index in 0..<bytes.count - 2 {
            if bytes[index] == UInt8(ascii: " ") {
                words.append("")
            } else {
                words[words.count - 1].unicodeScalars.append(Unicode.Scalar(bytes[index]))
            }
        }
        require(words[0] == "PROXY", "a line that begins with \(words[0])")
        guard words[1] != "UNKNOWN" else {
            require(header.source == nil && header.family == .unspecified, "an endpoint in an UNKNOWN line")
            return
        }
        require(words.count == 6, "\(words.count) words")
        let isFour = words[1] == "TCP4"
        require(
            header.family == (isFour ? .inet : .inet6) && header.transport == .stream, "family of a \(words[1]) line")
        for (address, port, endpoint) in [
            (words[2], words[4], header.source), (words[3], words[5], header.destination),
        ] {
            guard let endpoint else { fail("no endpoint in \(words)") }
            guard let bytes = libcAddress(address, isFour ? AF_INET : AF_INET6) else { fail("\(address) to libc") }
            let ip = isFour ? endpoint.ip : endpoint.ip.mapped
            for index in bytes.indices { require(bytes[index] == ip.byte(index), "\(address) read as \(endpoint.ip)") }
            require(String(endpoint.port) == port, "port \(port) read as \(endpoint.port)")
        }
    }

    private static func libcAddress(_ text: String, _ family: CInt) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: family == AF_INET ? 4 : 16)
        return unsafe inet_pton(family, text, &bytes) == 1 ? bytes : nil
    }

    /// A second reading of a v2 block, written apart from the parser.
    private static func requireBlock(_ header: ProxyHeader, _ bytes: Span<UInt8>) {
        require(bytes.count == 16 + Int(bytes[14]) << 8 + Int(bytes[15]), "does not end where its length says")
        require(bytes[12] == (header.command == .proxy ? 0x21 : 0x20), "another command")
        guard header.command == .proxy, header.family != .unspecified else { return }
        require(bytes[13] == header.family.rawValue << 4 | header.transport.rawValue, "another family")
        let addressByteCount = header.family == .inet ? 4 : 16
        var index = 16 + (header.family == .unix ? 216 : 2 * addressByteCount + 4)
        if let source = header.source, let destination = header.destination {
            for offset in 0..<addressByteCount {
                let isFour = header.family == .inet
                require((isFour ? source.ip : source.ip.mapped).byte(offset) == bytes[16 + offset], "another source")
                let place = 16 + addressByteCount + offset
                require(
                    (isFour ? destination.ip : destination.ip.mapped).byte(offset) == bytes[place],
                    "another destination")
            }
            require(Int(source.port) == Int(bytes[index - 4]) << 8 | Int(bytes[index - 3]), "another source port")
            require(
                Int(destination.port) == Int(bytes[index - 2]) << 8 | Int(bytes[index - 1]), "another destination port")
        }
        var checksumAt: Int?
        // Of each the first.
        var authority: Range<Int>?
        var uniqueID: Range<Int>?
        var alpn: Range<Int>?
        var authorityCount = 0
        while index < bytes.count {
            require(index + 3 <= bytes.count, "\(bytes.count - index) stray bytes")
            let value = index + 3
            let end = value + Int(bytes[index + 1]) << 8 + Int(bytes[index + 2])
            require(end <= bytes.count, "a TLV longer than the header")
            switch bytes[index] {
            case 0x01: alpn = alpn ?? value..<end
            case 0x02:
                authority = authority ?? value..<end
                authorityCount += 1
            case 0x03: checksumAt = value
            case 0x05: uniqueID = uniqueID ?? value..<end
            default: break
            }
            index = end
        }
        require(header.alpn.withBytes { equal($0, bytes.extracting(alpn ?? 0..<0)) }, "another ALPN")
        require(header.authority.withBytes { equal($0, bytes.extracting(authority ?? 0..<0)) }, "another authority")
        require(header.uniqueID.withBytes { equal($0, bytes.extracting(uniqueID ?? 0..<0)) }, "another unique id")
        require(Int(header.duplicateAuthorityCount) == max(0, authorityCount - 1), "\(authorityCount) authorities")
        require(header.crcVerified == (checksumAt != nil), "a checksum that was not verified")
        if let checksumAt { requireChecksum(bytes, at: checksumAt) }
    }

    /// PP-22, bit by bit.
    private static func requireChecksum(_ bytes: Span<UInt8>, at place: Int) {
        var sent: UInt32 = 0
        for index in place..<place + 4 { sent = sent << 8 | UInt32(bytes[index]) }
        require(
            ProxyShape.crc32c(bytes.count) { (place..<place + 4).contains($0) ? 0 : bytes[$0] } == sent,
            "wrong checksum")
    }

    /// PO-03, PO-04: what we would tell the next hop of this header is what the next hop reads.
    private static func requireRoundTrip(_ header: ProxyHeader, checksum: Bool) {
        var output = InlineArray<1024, UInt8>(repeating: 0xa5)
        var span = output.mutableSpan
        let lineByteCount = ProxyHeaderEncoder.writeV1(
            source: header.source, destination: header.destination, into: &span)
        require(lineByteCount <= ProxyHeaderParser.v1ByteCountMax, "wrote a line of \(lineByteCount) bytes")
        requireSameEndpoints(header, output.span.extracting(first: lineByteCount), "v1")

        span = output.mutableSpan
        var encoder = ProxyHeaderEncoder.V2(source: header.source, destination: header.destination, into: &span)
        if !header.authority.isEmpty { header.authority.withBytes { encoder.append(.authority, $0, into: &span) } }
        if !header.alpn.isEmpty { header.alpn.withBytes { encoder.append(.alpn, $0, into: &span) } }
        header.uniqueID.withBytes { encoder.append(.uniqueID, $0, into: &span) }
        let byteCount = encoder.finish(checksum: checksum, into: &span)
        let read = requireSameEndpoints(header, output.span.extracting(first: byteCount), "v2")
        guard header.source != nil else { return }
        require(read.crcVerified == checksum, "the checksum we write")
        require(read.authority.withBytes { a in header.authority.withBytes { equal(a, $0) } }, "the authority we write")
        require(read.alpn.withBytes { a in header.alpn.withBytes { equal(a, $0) } }, "the ALPN we write")
        require(read.uniqueID.withBytes { a in header.uniqueID.withBytes { equal(a, $0) } }, "the unique id we write")
    }

    @discardableResult
    private static func requireSameEndpoints(_ header: ProxyHeader, _ bytes: Span<UInt8>, _ what: String) -> ProxyHeader
    {
        guard case .accepted(let read, let byteCount) = readWhole(ProxyReading(), bytes) else {
            fail("\(what) we write")
        }
        require(byteCount == bytes.count, "the length of the \(what) we write")
        require(read.value.source == header.source, "the source of the \(what) we write")
        require(read.value.destination == header.destination, "the destination of the \(what) we write")
        return read.value
    }

    static func mutate(_ bytes: [UInt8], _ random: inout FuzzRandom) -> [UInt8]? {
        guard var shape = ProxyShape(bytes) else { return nil }
        shape.mutate(&random)
        return shape.bytes
    }
}

/// The PROXY header parser under fuzz.
private struct ProxyReading: Incremental {
    /// A header that says little about itself.
    struct Value: CustomStringConvertible {
        let value: ProxyHeader
        var description: String {
            "\(value.version) \(value.command) \(value.family) \(value.transport) \(String(describing: value.source)) "
                + "\(String(describing: value.destination)) authority \(value.authority.byteCount) bytes "
                + "+\(value.duplicateAuthorityCount), alpn \(value.alpn.byteCount), id \(value.uniqueID.byteCount), "
                + "vpc \(value.awsVPCEndpointID.byteCount), ssl \(String(describing: value.ssl)), crc \(value.crcVerified)"
        }
    }

    private var parser: ProxyHeaderParser

    init(byteCountMax: Int = 4096, acceptIPv4InTCP6: Bool = false) {
        parser = ProxyHeaderParser(byteCountMax: byteCountMax, acceptIPv4InTCP6: acceptIPv4InTCP6)
    }

    mutating func feed(_ bytes: Span<UInt8>, at offset: Int) -> Reading<Value, ProxyRefusal> {
        switch parser.consume(bytes) {
        case .needMore:
            return .needMore
        case .complete(let header, let consumed):
            require(consumed >= 1 && consumed <= bytes.count, "consumed \(consumed) of \(bytes.count)")
            return .accepted(Value(value: header), byteCount: offset + consumed)
        case .refused(let refusal):
            return .refused(refusal)
        }
    }

    static func same(_ one: Value, _ other: Value) -> Bool {
        let (a, b) = (one.value, other.value)
        return a.version == b.version && a.command == b.command && a.family == b.family && a.transport == b.transport
            && a.source == b.source && a.destination == b.destination
            && a.duplicateAuthorityCount == b.duplicateAuthorityCount && a.crcVerified == b.crcVerified
            && a.ssl?.clientFlags == b.ssl?.clientFlags && a.ssl?.verifyResult == b.ssl?.verifyResult
            && same(a.authority, b.authority) && same(a.alpn, b.alpn) && same(a.uniqueID, b.uniqueID)
            && same(a.awsVPCEndpointID, b.awsVPCEndpointID)
    }

    private static func same<let capacity: Int>(_ one: InlineBytes<capacity>, _ other: InlineBytes<capacity>) -> Bool {
        one.withBytes { a in other.withBytes { b in equal(a, b) } }
    }
}
