import Testing
import WeirNet
import WeirTesting
import WeirWire

/// The vectors carry the ids (PP-01...PP-28) in their names; what is tested beside them names its id here.
@Suite struct ProxyHeaderParserTests {
    private static func header(_ bytes: [UInt8]) -> ProxyHeader? {
        var parser = ProxyHeaderParser()
        guard case .complete(let header, _) = parser.consume(bytes.span) else { return nil }
        return header
    }

    private static func header(tlvs: [UInt8], checksum: ProxyHeaderBuilder.Checksum = .none) -> ProxyHeader? {
        header(ProxyHeaderBuilder(tlvs: tlvs, checksum: checksum).bytes)
    }

    @Test(arguments: ProxyVector.all)
    func answersAsTheVectorExpects(vector: ProxyVector) {
        var parser = ProxyHeaderParser(byteCountMax: vector.byteCountMax, acceptIPv4InTCP6: vector.acceptIPv4InTCP6)
        switch (parser.consume(vector.bytes.span), vector.expected) {
        case (.needMore, _):
            Issue.record("asked for more")
        case (.refused(let refusal), let expected):
            #expect(.refused(refusal) == expected)
        case (.complete(let header, let consumed), let expected):
            let found = ProxyVector.Expectation.accepted(
                header.command, source: header.source?.description, destination: header.destination?.description)
            #expect(found == expected)
            // PP-03, PP-16, PP-21, PP-28: what follows the header is payload.
            #expect(consumed == vector.header.count)
        }
    }

    /// PP-02. A header of 64 KiB is cut by the test for single bytes only.
    @Test(arguments: ProxyVector.all.filter { $0.bytes.count < 5000 })
    func answersTheSameForEveryCut(vector: ProxyVector) {
        #expect(cutThatChangesTheAnswer(ReplayedProxyHeader(vector), vector.bytes) == nil)
    }

    @Test(arguments: ProxyVector.all)
    func answersTheSameForSingleBytes(vector: ProxyVector) {
        let parser = ReplayedProxyHeader(vector)
        #expect(replayByByte(parser, vector.bytes).answer == replay(parser, vector.bytes))
    }

    /// PP-02, PP-04, PP-05: a peer that stalls, drips or goes away before the last byte has been given no answer, so the
    /// session's deadline and the socket's end decide.
    @Test(arguments: ProxyVector.all.filter(\.isAccepted))
    func everyPrefixOfAnAcceptedHeaderAsksForMore(vector: ProxyVector) {
        #expect(replayByByte(ReplayedProxyHeader(vector), vector.bytes).decidedAt == vector.header.count)
    }

    /// PP-01: the first byte that fits neither form decides.
    @Test func missingHeaderIsRefusedAtTheFirstWrongByte() {
        let forms = [Array("PROXY".utf8), ProxyHeaderBuilder.signature]
        for form in forms {
            for index in form.indices {
                var bytes = form
                bytes[index] ^= 0x80
                let (answer, decidedAt) = replayByByte(ReplayedProxyHeader(), bytes)
                #expect(answer == .refused("pp_missing") && decidedAt == index + 1, "byte \(index)")
            }
        }
    }

    /// PP-08: byte 107 decides, not a later one.
    @Test func endlessLineIsRefusedAtItsLimit() {
        let bytes = Array("PROXY UNKNOWN ".utf8) + [UInt8](repeating: 0x78, count: 300)
        #expect(replayByByte(ReplayedProxyHeader(), bytes).decidedAt == 107)
    }

    /// PP-14, PP-15, PP-19, PP-20: the 16 fixed bytes decide, nothing behind them is waited for.
    @Test(
        arguments: ProxyVector.all.filter {
            [.refused(.version), .refused(.command), .refused(.family), .refused(.length)].contains($0.expected)
                || $0.name.hasPrefix("PP-20") && $0.expected == .refused(.tooLong)
        })
    func fixedPartDecidesByItself(vector: ProxyVector) {
        #expect(replayByByte(ReplayedProxyHeader(), vector.bytes).decidedAt <= 16)
    }

    /// PP-20, T-10.
    @Test func lengthLimitIsTheOneGiven() {
        var builder = ProxyHeaderBuilder(tlvs: ProxyHeaderBuilder.tlv(4, [UInt8](repeating: 0, count: 85)))
        #expect(!replay(ReplayedProxyHeader(byteCountMax: 100), builder.bytes).isRefused)
        builder.tlvs.append(0)
        #expect(replay(ReplayedProxyHeader(byteCountMax: 100), builder.bytes) == .refused("pp_too_long"))
    }

    /// PP-15, PP-18: family and transport are told for logs.
    @Test func familyAndTransportAreKept() {
        let unix = Self.header(ProxyHeaderBuilder(family: 0x32, addresses: ProxyHeaderBuilder.unix).bytes)
        #expect(unix?.family == .unix && unix?.transport == .datagram && unix?.source == nil)
        let udp = Self.header(ProxyHeaderBuilder(family: 0x12, addresses: ProxyHeaderBuilder.inet).bytes)
        #expect(udp?.family == .inet && udp?.transport == .datagram)
        let line = Self.header(Array("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n".utf8))
        #expect(line?.version == .v1 && line?.family == .inet6 && line?.transport == .stream)
    }

    /// PP-16, PP-17, PP-27: where the socket's own endpoints hold, the header gives none to judge by.
    @Test func ownEndpointsAreNeverReplaced() {
        for (command, family): (UInt8, UInt8) in [(0x20, 0x11), (0x20, 0x00), (0x21, 0x00), (0x21, 0x10)] {
            let header = Self.header(
                ProxyHeaderBuilder(command: command, family: family, addresses: ProxyHeaderBuilder.inet).bytes)
            #expect(header != nil && header?.source == nil && header?.destination == nil)
        }
    }

    /// PP-25: who may send a header is decided at accept, before a byte is read; the parser is told nothing of the peer
    /// and a header cannot change that: it has no field for it.
    @Test func headerStatesTheClientAndNotTheSender() {
        let header = Self.header(ProxyHeaderBuilder().bytes)
        #expect(header?.source == SocketAddress("192.0.2.1:56324"))
        #expect(header?.destination == SocketAddress("198.51.100.7:443"))
    }

    /// PP-22, PP-23.
    @Test func everyKnownTLVIsExposed() {
        let header = Self.header(tlvs: ProxyVector.everyTLV, checksum: .right)
        #expect(header?.alpn.array == Array("h2".utf8))
        #expect(header?.authority.array == Array("Good.test".utf8))
        #expect(header?.uniqueID.array == Array("unique".utf8))
        #expect(header?.ssl?.clientFlags == 5)
        #expect(header?.ssl?.verifyResult == 18)
        #expect(header?.awsVPCEndpointID.array == Array("vpce-08d2bf15fac5001c9".utf8))
        #expect(header?.crcVerified == true)
    }

    /// PP-22: without the TLV nothing is claimed.
    @Test func absentChecksumIsNotVerified() {
        #expect(Self.header(tlvs: ProxyVector.everyTLV)?.crcVerified == false)
    }

    /// PP-22: the sum covers the addresses, the transport, the type and the value of every TLV, and is compared whole.
    @Test func everyFlippedBitBreaksTheChecksum() {
        let bytes = ProxyHeaderBuilder(tlvs: ProxyHeaderBuilder.tlv(0xe0, Array("custom".utf8)), checksum: .right).bytes
        let addresses = 16..<28
        let custom = 28..<37
        // Flips in a length move the sum itself, and are not ours to foresee.
        let covered =
            Array(addresses) + [custom.lowerBound] + Array(custom.dropFirst(3)) + Array(bytes.count - 4..<bytes.count)
        for index in covered {
            for bit in 0..<8 {
                var changed = bytes
                changed[index] ^= 1 << UInt8(bit)
                #expect(replay(ReplayedProxyHeader(), changed).isRefused, "byte \(index), bit \(bit)")
            }
        }
        var datagram = bytes
        datagram[13] = 0x12
        #expect(replay(ReplayedProxyHeader(), datagram) == .refused("pp_crc"))
    }

    /// PP-22: the checksum TLV may stand before others.
    @Test func checksumMayStandFirst() {
        var bytes = ProxyHeaderBuilder(
            tlvs: ProxyHeaderBuilder.tlv(3, [0, 0, 0, 0]) + ProxyHeaderBuilder.tlv(2, [0x61])
        ).bytes
        let sum = ProxyHeaderBuilder.crc32c(bytes)
        for index in 0..<4 { bytes[16 + 12 + 3 + index] = UInt8(sum >> UInt32(24 - 8 * index) & 0xff) }
        #expect(Self.header(bytes)?.crcVerified == true)
        #expect(Self.header(bytes)?.authority.array == [0x61])
    }

    /// PP-24.
    @Test func firstAuthorityWins() {
        let tlv = ProxyHeaderBuilder.tlv
        let header = Self.header(
            tlvs: tlv(2, Array("first.test".utf8)) + tlv(2, Array("second.test".utf8))
                + tlv(2, Array("third.test".utf8)))
        #expect(header?.authority.array == Array("first.test".utf8))
        #expect(header?.duplicateAuthorityCount == 2)
    }

    @Test func endpointIdTooLongForUsIsLeftOut() {
        let header = Self.header(tlvs: ProxyHeaderBuilder.tlv(0xea, [1] + [UInt8](repeating: 0x61, count: 33)))
        #expect(header != nil && header?.awsVPCEndpointID.isEmpty == true)
    }

    @Test(arguments: [
        Array("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n".utf8),
        Array("PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 56324 443\r\n".utf8),
        ProxyHeaderBuilder().bytes, ProxyHeaderBuilder(family: 0x21, addresses: ProxyHeaderBuilder.inet6).bytes,
        ProxyHeaderBuilder(tlvs: ProxyVector.everyTLV, checksum: .right).bytes,
    ])
    func everySingleByteChangeIsReadTheSameWhenCut(bytes: [UInt8]) {
        #expect(changesReadDifferentlyWhenCut(ReplayedProxyHeader(), bytes, values: everyOtherValue).isEmpty)
    }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func noiseIsReadTheSameWhenCut(seed: UInt64) {
        var noise = Noise(state: seed)
        let vectors = ProxyVector.all.filter { $0.bytes.count < 1000 }
        for round in 0..<200 {
            let bytes = noise.damage(vectors[Int.random(in: vectors.indices, using: &noise)].bytes)
            let cuts = noise.cuts(bytes.count)
            let cut = replay(ReplayedProxyHeader(), bytes, cuts: cuts)
            #expect(cut == replay(ReplayedProxyHeader(), bytes), "seed \(seed), round \(round)")
        }
    }
}

@Suite struct CRC32CTests {
    private static func sum(_ bytes: [UInt8]) -> UInt32 {
        var sum = CRC32C()
        for byte in bytes { sum.update(byte) }
        return sum.value
    }

    /// RFC 3720 App. B.4 and the check value of the Castagnoli polynomial.
    @Test func publishedVectorsHold() {
        #expect(Self.sum(Array("123456789".utf8)) == 0xe306_9283)
        #expect(Self.sum([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
        #expect(Self.sum([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
        #expect(Self.sum([UInt8](0..<32)) == 0x46dd_794e)
    }

    @Test func agreesWithTheBitwiseForm() {
        var noise = Noise(state: 7)
        for count in 0..<100 {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &noise) }
            #expect(Self.sum(bytes) == ProxyHeaderBuilder.crc32c(bytes))
        }
    }
}
