import FuzzHarness
import WeirNet
import WeirWire

/// CH-01...CH-38: the ClientHello parser against itself (however the bytes and the records are cut, whatever the limit),
/// against the rules for server names, and against a second reading of the message that shares no code with it.
enum ClientHelloTarget: FuzzTarget {
    static let name = "client-hello"

    static func check(_ bytes: Span<UInt8>) -> String? {
        var random = FuzzRandom(of: bytes)
        let answer = readEveryWay(HelloReading(), bytes, &random)
        if random.oneIn(4) { requireLimitOnlyLimits(bytes, answer) }
        switch answer {
        case .needMore:
            return "more"
        case .refused(let refusal):
            return refusal.label
        case .accepted(let hello, let byteCount):
            requireSound(hello, bytes.extracting(first: byteCount), &random)
            return hello.serverName.isNone ? "accepted_no_name" : "accepted"
        }
    }

    static func mutate(_ bytes: [UInt8], _ random: inout FuzzRandom) -> [UInt8]? {
        guard var hello = HelloShape(bytes) else { return nil }
        hello.mutate(&random)
        return hello.bytes
    }

    private static func requireSound(_ hello: ClientHello, _ bytes: Span<UInt8>, _ random: inout FuzzRandom) {
        require(hello.recordCount >= 1 && hello.recordCount <= ClientHelloParser.recordCountMax, "record count")
        let wireMax = ClientHelloParser.wireByteCountMax(byteCountMax: HelloReading.byteCountMax)
        require(hello.wireByteCount <= wireMax, "\(hello.wireByteCount) bytes of wire")

        guard let plain = PlainHello(bytes) else { fail("accepted, but not to a second reading") }
        require(plain.recordCount == hello.recordCount, "\(plain.recordCount) records to a second reading")
        require(plain.legacyVersion == hello.legacyVersion, "another legacy version to a second reading")
        require(plain.extensionTypes.contains(0xfe0d) == hello.sawECH, "ECH to a second reading")
        let nameCount = plain.extensionTypes.count { $0 == 0 }
        require(nameCount == (hello.serverName.isNone ? 0 : 1), "\(nameCount) server_name extensions")
        if !hello.serverName.isNone { requireCanonical(hello.serverName) }
        hello.withServerNameAsSent { sent in
            require(equal(sent, plain.serverName), "another name to a second reading")
            let canonical = try? ServerName(canonicalizing: sent)
            require(canonical ?? .none == hello.serverName, "the name as sent is another name")
        }
        require(hello.alpn.byteCount <= ALPNOffer.byteCountMax, "\(hello.alpn.byteCount) bytes of protocols")
        requireWholeNames(hello.alpn)
        if hello.isACMEChallenge { require(hello.alpn.byteCount == 11, "acme-tls/1 is not alone") }

        // CH-04: the same message in other records is the same hello.
        let recut = HelloShape.records(of: plain.message, lengths: HelloShape.recordLengths(&random))
        guard case .accepted(let again, let byteCount) = readWhole(HelloReading(), recut.span) else {
            fail("refused in other records")
        }
        require(byteCount == recut.count && HelloReading.sameMessage(hello, again), "another hello in other records")
    }

    /// CH-10: a smaller limit gives the same answer or refuses the size; a larger one changes nothing of what was not too large.
    private static func requireLimitOnlyLimits(_ bytes: Span<UInt8>, _ answer: Reading<ClientHello, HelloRefusal>) {
        if case .refused(.helloTooLarge) = readWhole(HelloReading(byteCountMax: 512), bytes) {
        } else {
            requireSame(HelloReading.self, answer, readWhole(HelloReading(byteCountMax: 512), bytes), "limit 512")
        }
        if case .refused(.helloTooLarge) = answer { return }
        requireSame(HelloReading.self, answer, readWhole(HelloReading(byteCountMax: 65536), bytes), "limit 65536")
    }

    private static func requireWholeNames(_ offer: ALPNOffer) {
        offer.withBytes { names in
            var index = 0
            while index < names.count {
                require(names[index] > 0, "an empty protocol name")
                index += 1 + Int(names[index])
            }
            require(index == names.count, "a protocol name cut off")
        }
    }
}

/// A ClientHello taken apart the plain way: the whole message first, then field by field. Written apart from the parser, and
/// only for messages that are whole and right.
private struct PlainHello {
    private(set) var message: [UInt8] = []
    private(set) var recordCount = 0
    private(set) var legacyVersion: UInt16 = 0
    private(set) var extensionTypes: [UInt16] = []
    /// Empty where there is none.
    private(set) var serverName: ArraySlice<UInt8> = []

    /// nil where anything is not where RFC 8446 §4.1.2 and RFC 6066 §3 have it.
    init?(_ wire: Span<UInt8>) {
        var index = 0
        while index < wire.count {
            guard index + 5 <= wire.count, wire[index] == 22, wire[index + 1] == 3 else { return nil }
            let length = Int(wire[index + 3]) << 8 | Int(wire[index + 4])
            guard length >= 1, length <= 16384 else { return nil }
            // The last record may hold more than the message, which is where `wire` ends.
            let end = min(index + 5 + length, wire.count)
            for offset in index + 5..<end { message.append(wire[offset]) }
            index = end
            recordCount += 1
        }
        var rest = message[...]
        guard Self.take(1, &rest)?.first == 1, let body = Self.takeVector(3, &rest), rest.isEmpty else { return nil }
        rest = body
        guard let version = Self.take(2, &rest), Self.take(32, &rest) != nil else { return nil }
        legacyVersion = UInt16(Self.number(version))
        guard let session = Self.takeVector(1, &rest), session.count <= 32 else { return nil }
        guard let suites = Self.takeVector(2, &rest), !suites.isEmpty, suites.count % 2 == 0 else { return nil }
        guard let methods = Self.takeVector(1, &rest), !methods.isEmpty else { return nil }
        if rest.isEmpty { return }
        guard var block = Self.takeVector(2, &rest), rest.isEmpty else { return nil }
        while !block.isEmpty {
            guard let type = Self.take(2, &block), let body = Self.takeVector(2, &block) else { return nil }
            extensionTypes.append(UInt16(Self.number(type)))
            guard extensionTypes.last == 0 else { continue }
            var rest = body
            guard var list = Self.takeVector(2, &rest), rest.isEmpty else { return nil }
            guard Self.take(1, &list)?.first == 0, let name = Self.takeVector(2, &list), list.isEmpty else {
                return nil
            }
            serverName = name
        }
    }

    private static func take(_ count: Int, _ bytes: inout ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        guard bytes.count >= count else { return nil }
        defer { bytes = bytes.dropFirst(count) }
        return bytes.prefix(count)
    }

    private static func takeVector(_ lengthByteCount: Int, _ bytes: inout ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        guard let length = take(lengthByteCount, &bytes) else { return nil }
        return take(number(length), &bytes)
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> Int { bytes.reduce(0) { $0 << 8 | Int($1) } }
}
