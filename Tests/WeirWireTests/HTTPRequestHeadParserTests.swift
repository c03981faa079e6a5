import Testing
import WeirTesting
import WeirWire

@Suite struct HTTPRequestHeadParserTests {
    @Test(arguments: HTTPVector.all)
    func answersAsTheVectorExpects(vector: HTTPVector) {
        var parser = HTTPRequestHeadParser(byteCountMax: vector.byteCountMax)
        switch (parser.consume(vector.bytes.span), vector.expected) {
        case (.needMore, _):
            Issue.record("asked for more")
        case (.refused(let refusal), let expected):
            #expect(.refused(refusal) == expected)
        case (.complete(let head), let expected):
            #expect(.accepted(host: "\(head.host)", port: head.port) == expected)
            #expect(head.byteCount == vector.head.count)
        }
    }

    /// The long heads are cut by the test for single bytes only.
    @Test(arguments: HTTPVector.all.filter { $0.bytes.count < 5000 })
    func answersTheSameForEveryCut(vector: HTTPVector) {
        #expect(cutThatChangesTheAnswer(ReplayedRequestHead(byteCountMax: vector.byteCountMax), vector.bytes) == nil)
    }

    @Test(arguments: HTTPVector.all)
    func answersTheSameForSingleBytes(vector: HTTPVector) {
        let parser = ReplayedRequestHead(byteCountMax: vector.byteCountMax)
        #expect(replayByByte(parser, vector.bytes).answer == replay(parser, vector.bytes))
    }

    @Test(arguments: HTTPVector.all.filter(\.isAccepted))
    func everyPrefixOfAnAcceptedHeadAsksForMore(vector: HTTPVector) {
        let parser = ReplayedRequestHead(byteCountMax: vector.byteCountMax)
        #expect(replayByByte(parser, vector.bytes).decidedAt == vector.head.count)
    }

    @Test func headTooLargeIsRefusedAtTheLimit() {
        let bytes = Array("GET /".utf8) + [UInt8](repeating: 0x78, count: 20_000)
        #expect(replayByByte(ReplayedRequestHead(), bytes).decidedAt == 16_384)
        #expect(replayByByte(ReplayedRequestHead(byteCountMax: 100), bytes).decidedAt == 100)
    }

    @Test func everySingleByteChangeIsReadTheSameWhenCut() {
        let bytes = Array("GET http://good.test:80/x HTTP/1.1\r\nA: b\r\nHost: good.test\r\n\r\n".utf8)
        #expect(changesReadDifferentlyWhenCut(ReplayedRequestHead(), bytes, values: everyOtherValue).isEmpty)
    }

    /// T-06: no change of one byte makes another host of it without being a change of the host's bytes.
    @Test func hostComesFromItsOwnBytesOnly() {
        let bytes = Array("GET / HTTP/1.1\r\nA: b\r\nHost: good.test\r\n\r\n".utf8)
        let host = bytes.firstRange(of: Array("good.test".utf8))!
        for index in bytes.indices where !host.contains(index) {
            for value in everyOtherValue(bytes[index]) {
                var changed = bytes
                changed[index] = value
                var parser = HTTPRequestHeadParser()
                if case .complete(let head) = parser.consume(changed.span) {
                    // The blank before the host may become a first byte of it.
                    let isBlank = index == host.lowerBound - 1
                    #expect(isBlank || "\(head.host)" == "good.test", "byte \(index) is \(value)")
                }
            }
        }
    }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func noiseIsReadTheSameWhenCut(seed: UInt64) {
        var noise = Noise(state: seed)
        let vectors = HTTPVector.all.filter { $0.bytes.count < 1000 }
        for round in 0..<200 {
            let bytes = noise.damage(vectors[Int.random(in: vectors.indices, using: &noise)].bytes)
            let cuts = noise.cuts(bytes.count)
            let cut = replay(ReplayedRequestHead(), bytes, cuts: cuts)
            #expect(cut == replay(ReplayedRequestHead(), bytes), "seed \(seed), round \(round)")
        }
    }

    @Test func statusesAreThoseOfRefusedRequests() {
        #expect(HTTPRefusal.hostDuplicate.status == 400)
        #expect(HTTPRefusal.connectMethod.status == 405)
        #expect(HTTPRefusal.addressLiteral.status == 421)
        #expect(HTTPRefusal.headTooLarge.status == 431)
        #expect(HTTPRefusal.version.status == 505)
        #expect(HTTPRefusal.allCases.allSatisfy { 400...505 ~= $0.status })
    }
}

@Suite struct PreambleKindTests {
    @Test func firstByteTellsTLSFromHTTP() {
        #expect(PreambleKind(firstByte: 22) == .tls)
        for byte in UInt8(ascii: "A")...UInt8(ascii: "Z") { #expect(PreambleKind(firstByte: byte) == .http) }
    }

    /// SSLv2 and lower-case text are neither.
    @Test func otherFirstBytesAreUnknown() {
        for byte in UInt8.min ... .max where byte != 22 && !(0x41...0x5a ~= byte) {
            #expect(PreambleKind(firstByte: byte) == .unknown)
        }
    }
}
