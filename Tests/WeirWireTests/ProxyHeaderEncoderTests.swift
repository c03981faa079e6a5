import Testing
import WeirNet
import WeirTesting
import WeirWire

@Suite struct ProxyHeaderEncoderTests {
    private static func v1(_ source: String?, _ destination: String?) -> String {
        var buffer = [UInt8](repeating: 0xaa, count: ProxyHeaderEncoder.byteCountMax)
        var span = buffer.mutableSpan
        let count = ProxyHeaderEncoder.writeV1(
            source: source.flatMap { SocketAddress($0) }, destination: destination.flatMap { SocketAddress($0) },
            into: &span)
        return String(decoding: buffer[..<count], as: UTF8.self)
    }

    private static func v2(
        _ source: String?, _ destination: String?, _ tlvs: [(ProxyHeaderEncoder.TLVType, [UInt8])] = [],
        checksum: Bool = false,
        byteCountMin: Int = 0
    ) -> [UInt8] {
        var buffer = [UInt8](repeating: 0xaa, count: ProxyHeaderEncoder.byteCountMax)
        var span = buffer.mutableSpan
        var header = ProxyHeaderEncoder.V2(
            source: source.flatMap { SocketAddress($0) }, destination: destination.flatMap { SocketAddress($0) },
            into: &span)
        for (type, value) in tlvs { header.append(type, value.span, into: &span) }
        let count = header.finish(checksum: checksum, byteCountMin: byteCountMin, into: &span)
        return Array(buffer[..<count])
    }

    private static func parsed(_ bytes: [UInt8]) -> ProxyHeader? {
        var parser = ProxyHeaderParser()
        guard case .complete(let header, let consumed) = parser.consume(bytes.span), consumed == bytes.count else {
            return nil
        }
        return header
    }

    /// PO-03.
    @Test func v1TextIsExact() {
        #expect(Self.v1("192.0.2.1:56324", "198.51.100.7:443") == "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n")
        #expect(Self.v1("[2001:db8::1]:1", "[2001:db8::2]:0") == "PROXY TCP6 2001:db8::1 2001:db8::2 1 0\r\n")
    }

    /// PO-03: mixed families are both written as mapped IPv6.
    @Test func v1WritesMixedFamiliesAsIPv6() {
        #expect(Self.v1("192.0.2.1:1", "[2001:db8::2]:2") == "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n")
        #expect(Self.v1("[2001:db8::2]:2", "192.0.2.1:1") == "PROXY TCP6 2001:db8::2 ::ffff:192.0.2.1 2 1\r\n")
    }

    /// PO-03: the longest line stays within what receivers take.
    @Test func longestV1LineFits() {
        let longest = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535"
        #expect(Self.v1(longest, longest).utf8.count == 104)
    }

    /// RFC 5952, as `IPAddress` writes it.
    @Test(arguments: [
        "2001:db8::1", "::1", "1::", "1::8", "1:0:0:4::8", "1:2:3:4:5:6:7:0", "0:2:3:4:5:6:7:8", "1:0:3:0:5:0:7:0",
        "fe80::1:0:0:1",
        "64:ff9b::102:304", "::ffff:1.2.3.4", "a:b:c:d:e:f:0:1", "1:2:3::", "::6:7:8",
    ])
    func v1WritesTheCanonicalText(text: String) throws {
        let ip = try #require(IPAddress(text))
        #expect(Self.v1("[\(text)]:7", "[2001:db8::2]:8") == "PROXY TCP6 \(ip) 2001:db8::2 7 8\r\n")
    }

    /// PO-05: no endpoints are UNKNOWN in v1 and LOCAL in v2, not PROXY of an unspecified family.
    @Test func noEndpointsAreLocal() {
        #expect(Self.v1(nil, nil) == "PROXY UNKNOWN\r\n")
        #expect(Self.v2(nil, nil) == ProxyHeaderBuilder.signature + [0x20, 0, 0, 0])
    }

    /// PO-04: against bytes made elsewhere.
    @Test func v2BytesAreExact() {
        #expect(Self.v2("192.0.2.1:56324", "198.51.100.7:443") == ProxyHeaderBuilder().bytes)
        #expect(
            Self.v2("[2001:db8::1]:56324", "[2001:db8::2]:443")
                == ProxyHeaderBuilder(family: 0x21, addresses: ProxyHeaderBuilder.inet6).bytes)
        let tlvs = ProxyHeaderBuilder.tlv(2, Array("good.test".utf8))
        #expect(
            Self.v2("192.0.2.1:56324", "198.51.100.7:443", [(.authority, Array("good.test".utf8))], checksum: true)
                == ProxyHeaderBuilder(tlvs: tlvs, checksum: .right).bytes)
    }

    /// PO-03 for v2.
    @Test func v2WritesMixedFamiliesAsIPv6() {
        let header = Self.v2("192.0.2.1:1", "[2001:db8::2]:2")
        #expect(header[13] == 0x21 && header.count == 52)
        #expect(Array(header[16..<32]) == [UInt8](repeating: 0, count: 10) + [0xff, 0xff, 192, 0, 2, 1])
        #expect(Self.parsed(header)?.source == SocketAddress("192.0.2.1:1"))
    }

    /// PO-04: the length field counts addresses and all TLVs, and what is written is what is read.
    @Test func v2OptionsAreReadBack() {
        let bytes = Self.v2(
            "192.0.2.1:1", "198.51.100.7:2",
            [
                (.authority, Array("Good.Test.".utf8)), (.alpn, Array("h2".utf8)),
                (.uniqueID, [UInt8](repeating: 9, count: 128)),
                (.custom(0xe0), Array("static".utf8)), (.custom(0xef), []),
            ], checksum: true, byteCountMin: 512)
        let header = Self.parsed(bytes)
        #expect(bytes.count == 512)
        #expect(header?.authority.array == Array("Good.Test.".utf8))
        #expect(header?.alpn.array == Array("h2".utf8))
        #expect(header?.uniqueID.array == [UInt8](repeating: 9, count: 128))
        #expect(header?.crcVerified == true)
        #expect(header?.source == SocketAddress("192.0.2.1:1"))
    }

    /// PO-04: NOOP needs three bytes, so padding may overshoot by two.
    @Test func paddingReachesItsTarget() {
        for target in 0..<80 {
            let bytes = Self.v2("192.0.2.1:1", "198.51.100.7:2", byteCountMin: target)
            #expect(bytes.count >= target && bytes.count <= max(28, target + 2), "target \(target)")
            #expect(Self.parsed(bytes) != nil, "target \(target)")
        }
    }

    /// PO-01, PO-02: the header is whole in one span, and the same again for the next attempt.
    @Test func everyAttemptWritesTheSameHeader() {
        let tlvs: [(ProxyHeaderEncoder.TLVType, [UInt8])] = [(.authority, Array("good.test".utf8))]
        let first = Self.v2("192.0.2.1:1", "198.51.100.7:2", tlvs, checksum: true)
        #expect(Self.v2("192.0.2.1:1", "198.51.100.7:2", tlvs, checksum: true) == first)
        #expect(Self.parsed(first) != nil)
    }

    /// PO-06: a health check states nothing, or its own socket's addresses; both are read back.
    @Test func healthCheckHeadersAreValid() {
        #expect(Self.parsed(Self.v2(nil, nil))?.command == .local)
        #expect(Self.parsed(Self.v2("10.0.0.1:40000", "10.0.0.2:443"))?.source == SocketAddress("10.0.0.1:40000"))
        #expect(
            Self.parsed(Array(Self.v1("10.0.0.1:40000", "10.0.0.2:443").utf8))?.destination
                == SocketAddress("10.0.0.2:443"))
    }

    /// PO-07: a header made from a received one carries what was asked for, and never TLS facts.
    @Test func receivedTLVsAreDroppedUnlessAppended() throws {
        let received = try #require(Self.parsed(ProxyHeaderBuilder(tlvs: ProxyVector.everyTLV, checksum: .right).bytes))
        let sent = Self.v2(
            received.source?.description, received.destination?.description, [(.uniqueID, received.uniqueID.array)],
            checksum: true)
        let again = try #require(Self.parsed(sent))
        #expect(again.uniqueID.array == received.uniqueID.array)
        #expect(again.authority.isEmpty && again.alpn.isEmpty && again.ssl == nil && again.awsVPCEndpointID.isEmpty)
    }

    /// PO-08: the first client's address survives any number of hops, in either version.
    @Test func clientAddressSurvivesHops() throws {
        for (source, destination) in [
            ("192.0.2.1:1", "[2001:db8::2]:2"), ("[2001:db8::1]:1", "198.51.100.7:2"), ("192.0.2.1:1", "10.0.0.1:2"),
        ] {
            var bytes = Self.v2(source, destination)
            for hop in 0..<4 {
                let header = try #require(Self.parsed(bytes))
                #expect(header.source?.description == source && header.destination?.description == destination)
                bytes =
                    hop % 2 == 0
                    ? Array(Self.v1(header.source?.description, header.destination?.description).utf8)
                    : Self.v2(header.source?.description, header.destination?.description)
            }
        }
    }

    /// All TLVs at their longest fit into the stated room.
    @Test func byteCountMaxIsEnough() {
        let run = [UInt8](repeating: 0x61, count: 255)
        let bytes = Self.v2(
            "[2001:db8::1]:1", "[2001:db8::2]:2",
            [(.authority, run), (.alpn, run), (.uniqueID, Array(run.prefix(128)))], checksum: true)
        #expect(bytes.count == 706)
        #expect(Self.parsed(bytes) != nil)
    }
}
