import Testing
import WeirNet
import WeirTesting
import WeirWire

/// The vectors carry the ids (CH-01...CH-36, PP-28) in their names; what is tested beside them names its id here.
@Suite struct ClientHelloParserTests {
    @Test(arguments: HelloVector.all)
    func answersAsTheVectorExpects(vector: HelloVector) {
        var parser = ClientHelloParser(byteCountMax: vector.byteCountMax)
        switch (parser.consume(vector.bytes.span), vector.expected) {
        case (.needMore, _):
            Issue.record("asked for more")
        case (.refused(let refusal), let expected):
            #expect(.refused(refusal) == expected)
        case (.complete(let hello), let expected):
            let found = HelloVector.Expectation.accepted(
                serverName: hello.serverName.isNone ? nil : "\(hello.serverName)", asSent: hello.nameAsSent,
                alpn: hello.alpn.names,
                sawECH: hello.sawECH)
            #expect(found == expected)
        }
    }

    /// CH-01, CH-04: segments may end anywhere, at any byte of the record layer and the message.
    @Test(arguments: HelloVector.all)
    func answersTheSameForEveryCut(vector: HelloVector) {
        #expect(cutThatChangesTheAnswer(ReplayedHello(byteCountMax: vector.byteCountMax), vector.bytes) == nil)
    }

    @Test(arguments: HelloVector.all)
    func answersTheSameForSingleBytes(vector: HelloVector) {
        let parser = ReplayedHello(byteCountMax: vector.byteCountMax)
        #expect(replayByByte(parser, vector.bytes).answer == replay(parser, vector.bytes))
    }

    /// CH-01, CH-36: a client that stops here or goes away has neither been accepted nor refused.
    @Test(arguments: HelloVector.all.filter(\.isAccepted))
    func everyPrefixOfAnAcceptedHelloAsksForMore(vector: HelloVector) {
        let (_, decidedAt) = replayByByte(ReplayedHello(byteCountMax: vector.byteCountMax), vector.bytes)
        #expect(decidedAt == vector.hello.count)
    }

    /// CH-26, CH-27: the hello ends where it ends, whatever follows in the same span.
    @Test(arguments: HelloVector.all.filter(\.isAccepted))
    func wireByteCountExcludesThePayload(vector: HelloVector) {
        var parser = ClientHelloParser(byteCountMax: vector.byteCountMax)
        guard case .complete(let hello) = parser.consume(vector.bytes.span) else {
            Issue.record("not accepted")
            return
        }
        #expect(hello.wireByteCount == vector.hello.count)
    }

    /// CH-04: cutting the message into records anywhere changes nothing but the record count.
    @Test func recordsMayEndAnywhere() {
        let builder = HelloBuilder(serverName: "Good.test", alpn: ["h2"])
        for cut in 1..<builder.message.count {
            var parser = ClientHelloParser(byteCountMax: 16384)
            guard case .complete(let hello) = parser.consume(builder.records(splitAt: [cut]).span) else {
                Issue.record("not accepted when cut at \(cut)")
                return
            }
            #expect(
                hello.nameAsSent == "Good.test" && hello.alpn.names == ["h2"] && hello.recordCount == 2, "cut at \(cut)"
            )
        }
    }

    /// CH-06: no more than three bytes decide that a client does not speak TLS.
    @Test(arguments: HelloVector.all.filter { $0.expected == .refused(.notTLS) || $0.expected == .refused(.sslv2) })
    func otherProtocolsAreKnownWithinThreeBytes(vector: HelloVector) {
        #expect(replayByByte(ReplayedHello(), vector.bytes).decidedAt <= 3)
    }

    /// CH-06: only a handshake record of major version 3 can go on, and the top bit for SSLv2.
    @Test func everyFirstByteButTwentyTwoIsNotTLS() {
        for first in UInt8.min ... .max where first != 22 {
            let bytes: [UInt8] = [first, 0, 0]
            #expect(replay(ReplayedHello(), bytes) == .refused("not_tls"), "first byte \(first)")
        }
    }

    /// CH-09.
    @Test func everyMessageTypeButOneIsRefused() {
        for type in UInt8.min ... .max where type != 1 {
            var builder = HelloBuilder()
            builder.messageType = type
            #expect(replay(ReplayedHello(), builder.records()) == .refused("not_client_hello"), "type \(type)")
        }
    }

    /// CH-10: refused as soon as the length is known, which is byte 9.
    @Test func tooLongAHelloIsRefusedByItsHeader() {
        let bytes = HelloBuilder().padded(toMessageByteCount: 16_385).records(splitAt: [16_000])
        let (answer, decidedAt) = replayByByte(ReplayedHello(), bytes)
        #expect(answer == .refused("hello_too_large"))
        #expect(decidedAt == 9)
    }

    /// CH-11, T-05: a hello whose tail is cut by its own length is not accepted for the name at its front.
    @Test func everyShorterMessageLengthIsRefused() {
        let right = HelloBuilder(extensions: [.serverName("good.test"), .alpn(["h2"])])
        for length in 0..<right.message.count - 4 {
            var builder = right
            builder.messageLength = length
            let answer = replay(ReplayedHello(), builder.records())
            // A message may end behind its compression methods: then it is a hello without extensions.
            let endsBehindMethods = length == 2 + 32 + 33 + 14 + 2
            #expect(endsBehindMethods ? answer != .needMore : answer.isRefused, "length \(length)")
        }
    }

    /// CH-11, CH-13, CH-17: no length inside the hello can be off by one, whatever it counts.
    @Test func everyLengthIsChecked() {
        let name = HelloBuilder.Extension.serverName("good.test")
        let bytes = HelloBuilder(extensions: [name]).records()
        // Message length, session id, suites, methods, block, extension, list, name.
        let fixed = 9 + 2 + 32
        let block = fixed + 1 + 32 + 2 + 12 + 1 + 1
        for offset in [8, fixed, fixed + 34, fixed + 47, block + 1, block + 5, block + 7, block + 10] {
            for change: UInt8 in [1, 255] {
                var changed = bytes
                changed[offset] &+= change
                // A longer message waits for bytes that the record does not have; all else is refused.
                changed += HelloBuilder.record([UInt8](repeating: 0, count: 300))
                #expect(
                    replay(ReplayedHello(), changed).isRefused, "byte \(offset) changed by \(Int8(bitPattern: change))")
            }
        }
    }

    /// CH-20...CH-23, T-06: a name is refused exactly where `ServerName` refuses it.
    @Test func namesAreJudgedByServerNameAlone() {
        for byte in UInt8.min ... .max {
            for name in [[byte], [byte, 0x61], [0x61, byte], [0x61, byte, 0x61], [0x61, 0x2e, byte]] {
                let bytes = HelloBuilder(extensions: [.serverName(bytes: name)]).records()
                var parser = ClientHelloParser(byteCountMax: 16384)
                let progress = parser.consume(bytes.span)
                if let canonical = try? ServerName(canonicalizing: name.span) {
                    guard case .complete(let hello) = progress else {
                        Issue.record("refused \(name)")
                        continue
                    }
                    #expect(hello.serverName == canonical)
                    #expect(hello.withServerNameAsSent { array($0) } == name)
                } else {
                    guard case .refused(let refusal) = progress else {
                        Issue.record("accepted \(name)")
                        continue
                    }
                    #expect(refusal.alert == .unrecognizedName)
                }
            }
        }
    }

    /// CH-25.
    @Test func encryptedHelloIsSeenWhereverItStands() {
        let others = [HelloBuilder.Extension.serverName("outer.test"), .postQuantumKeyShare]
        for index in 0...others.count {
            var extensions = others
            extensions.insert(.encryptedClientHello, at: index)
            var parser = ClientHelloParser(byteCountMax: 16384)
            guard case .complete(let hello) = parser.consume(HelloBuilder(extensions: extensions).records().span) else {
                Issue.record("not accepted")
                return
            }
            #expect(hello.sawECH)
        }
    }

    /// CH-34: what does not fit is said to be missing.
    @Test func droppedProtocolsAreNoted() {
        let long = String(repeating: "p", count: 255)
        for (names, isTruncated) in [(["h2", long], true), ([long], false), (["h2"], false)] {
            var parser = ClientHelloParser(byteCountMax: 16384)
            guard case .complete(let hello) = parser.consume(HelloBuilder(alpn: names).records().span) else {
                Issue.record("not accepted")
                return
            }
            #expect(hello.alpn.isTruncated == isTruncated)
        }
    }

    /// CH-35.
    @Test func acmeChallengeIsTheOnlyProtocol() {
        for (names, expected) in [
            (["acme-tls/1"], true), (["h2", "acme-tls/1"], false), (["acme-tls/2"], false), ([], false),
        ] {
            var parser = ClientHelloParser(byteCountMax: 16384)
            guard case .complete(let hello) = parser.consume(HelloBuilder(alpn: names).records().span) else {
                Issue.record("not accepted")
                return
            }
            #expect(hello.isACMEChallenge == expected, "\(names)")
        }
    }

    @Test(arguments: [
        HelloBuilder(serverName: "Good.test", alpn: ["h2"]).records(splitAt: [60]), CapturedHello.openSSLTLS12.bytes,
    ])
    func everySingleByteChangeIsReadTheSameWhenCut(bytes: [UInt8]) {
        #expect(changesReadDifferentlyWhenCut(ReplayedHello(), bytes, values: everyOtherValue).isEmpty)
    }

    @Test(arguments: CapturedHello.allCases)
    func changedBytesOfACapturedHelloAreReadTheSameWhenCut(hello: CapturedHello) {
        #expect(changesReadDifferentlyWhenCut(ReplayedHello(), hello.bytes, values: fewOtherValues).isEmpty)
    }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func noiseIsReadTheSameWhenCut(seed: UInt64) {
        var noise = Noise(state: seed)
        let vectors = HelloVector.all.filter { $0.bytes.count < 2000 }
        for round in 0..<200 {
            let bytes = noise.damage(vectors[Int.random(in: vectors.indices, using: &noise)].bytes)
            let cuts = noise.cuts(bytes.count)
            let cut = replay(ReplayedHello(), bytes, cuts: cuts)
            #expect(cut == replay(ReplayedHello(), bytes), "seed \(seed), round \(round)")
        }
    }

    /// A parser stays beside every connection that has not sent its preamble yet.
    @Test func parsersAreSmall() {
        #expect(MemoryLayout<ClientHelloParser>.size <= 900)
        #expect(MemoryLayout<ProxyHeaderParser>.size <= 1024)
        #expect(MemoryLayout<HTTPRequestHeadParser>.size <= 640)
    }

    @Test func wireByteCountMaxCoversEveryRecordHeader() {
        let bytes = HelloBuilder().padded(toMessageByteCount: 512).records(splitAt: Array(1..<512))
        #expect(ClientHelloParser.wireByteCountMax(byteCountMax: 512) == bytes.count)
    }
}

extension Answer {
    var isRefused: Bool {
        if case .refused = self { return true }
        return false
    }
}

@Suite struct HelloRefusalTests {
    /// CH-38: fatal, never a warning, in a record that any TLS client reads.
    @Test(arguments: TLSAlert.allCases)
    func alertRecordIsFatal(alert: TLSAlert) {
        #expect(array(alert.record.span) == [0x15, 3, 1, 0, 2, 2, alert.rawValue])
    }

    /// CH-07...CH-23, as the tables give them.
    @Test func alertsFollowTheStandards() {
        #expect(HelloRefusal.emptyRecord.alert?.rawValue == 10)
        #expect(HelloRefusal.recordOverflow.alert?.rawValue == 22)
        #expect(HelloRefusal.interleavedRecord.alert?.rawValue == 10)
        #expect(HelloRefusal.notClientHello.alert?.rawValue == 10)
        #expect(HelloRefusal.duplicateServerName.alert?.rawValue == 47)
        #expect(HelloRefusal.multipleHostNames.alert?.rawValue == 47)
        #expect(HelloRefusal.unknownNameType.alert?.rawValue == 50)
        #expect(HelloRefusal.serverNameLength.alert?.rawValue == 50)
        #expect(HelloRefusal.extensionsLength.alert?.rawValue == 50)
        #expect(HelloRefusal.serverNameForbiddenByte.alert?.rawValue == 112)
        #expect(HelloRefusal.serverNameAddressLiteral.alert?.rawValue == 112)
        #expect(HelloRefusal.allCases.filter { $0.alert == nil } == [.notTLS, .sslv2, .helloTooLarge, .tooManyRecords])
    }

    @Test func labelsAreDistinctAndPlain() {
        let labels =
            HelloRefusal.allCases.map(\.label) + ProxyRefusal.allCases.map(\.label) + HTTPRefusal.allCases.map(\.label)
        #expect(Set(labels).count == labels.count)
        #expect(labels.allSatisfy { $0.utf8.allSatisfy { $0 == 0x5f || 0x61...0x7a ~= $0 || 0x30...0x39 ~= $0 } })
    }

    /// CH-06, CH-30: only these may go to a route for other protocols; a broken hello never does (T-05).
    @Test func onlyOtherProtocolsMayTakeTheDefaultRoute() {
        #expect(HelloRefusal.allCases.filter(\.isOtherProtocol) == [.notTLS])
    }
}

@Suite struct ConformanceIdTests {
    /// CH-32 and CH-33's protocol modes are out of scope, CH-37 belongs to routing, CH-36 and CH-38 to tests above;
    /// PP-04, PP-05, PP-25 and PP-27 to the tests of the header parser.
    @Test func everyIdOfTheParsersHasAVector() {
        let names = (HelloVector.all.map(\.name) + ProxyVector.all.map(\.name)).joined(separator: " ")
        let hello = (1...35).filter { $0 != 32 }.map { "CH-" + ($0 < 10 ? "0" : "") + "\($0)" }
        let proxy = (1...28).filter { ![4, 5, 25, 27].contains($0) }.map { "PP-" + ($0 < 10 ? "0" : "") + "\($0)" }
        #expect((hello + proxy).filter { !names.contains($0) } == [])
    }
}
