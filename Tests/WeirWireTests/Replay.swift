import WeirNet
import WeirTesting
import WeirWire

/// Where a stream is cut into the spans that a parser is given: each element starts a new span.
typealias Cuts = [Int]

/// What a parser answered to a whole stream, in a form that two ways of feeding it can be compared by.
enum Answer: Equatable {
    case needMore
    /// Every fact found, and the bytes of the stream that were taken.
    case accepted(String, byteCount: Int)
    case refused(String)
}

extension Answer {
    var isNeedMore: Bool { self == .needMore }
}

/// A parser under test: takes a span, answers when it knows.
protocol Replayed {
    mutating func answer(_ bytes: Span<UInt8>, consumedBefore: Int) -> Answer
}

/// Feeds `bytes` cut at `cuts`; stops at the first answer.
func replay(_ parser: some Replayed, _ bytes: [UInt8], cuts: Cuts = []) -> Answer {
    var parser = parser
    var start = 0
    for end in cuts + [bytes.count] {
        let answer = parser.answer(bytes.span.extracting(start..<end), consumedBefore: start)
        if !answer.isNeedMore { return answer }
        start = end
    }
    return .needMore
}

/// Feeds single bytes; `decidedAt` is how many it took to get an answer.
func replayByByte(_ parser: some Replayed, _ bytes: [UInt8]) -> (answer: Answer, decidedAt: Int) {
    var parser = parser
    for index in bytes.indices {
        let answer = parser.answer(bytes.span.extracting(index..<index + 1), consumedBefore: index)
        if !answer.isNeedMore { return (answer, index + 1) }
    }
    return (.needMore, bytes.count)
}

/// The cut that gave another answer than `bytes` in one span; nil where none does. Tries every place for one cut: the parser
/// is a value, so the state behind each prefix is reached once and copied.
func cutThatChangesTheAnswer(_ parser: some Replayed, _ bytes: [UInt8]) -> Int? {
    let expected = replay(parser, bytes)
    var prefix = parser
    for cut in bytes.indices {
        if cut > 0 {
            let answer = prefix.answer(bytes.span.extracting(cut - 1..<cut), consumedBefore: cut - 1)
            if !answer.isNeedMore { return answer == expected ? nil : cut }
        }
        var rest = prefix
        if rest.answer(bytes.span.extracting(cut..<bytes.count), consumedBefore: cut) != expected { return cut }
        // The same cut, with the bytes before it in one span.
        if replay(parser, bytes, cuts: [cut]) != expected { return cut }
    }
    return nil
}

/// The places where changing one byte to one of `values` gives different answers in one span and cut around the change.
func changesReadDifferentlyWhenCut(_ parser: some Replayed, _ bytes: [UInt8], values: (UInt8) -> [UInt8]) -> [Int] {
    var found: [Int] = []
    var changed = bytes
    for index in bytes.indices {
        for value in values(bytes[index]) {
            changed[index] = value
            if replay(parser, changed) != replay(parser, changed, cuts: [index, index + 1]) { found.append(index) }
        }
        changed[index] = bytes[index]
    }
    return found
}

/// Every other value of a byte.
func everyOtherValue(_ byte: UInt8) -> [UInt8] { (UInt8.min ... .max).filter { $0 != byte } }

/// Each bit flipped, and the extremes.
func fewOtherValues(_ byte: UInt8) -> [UInt8] {
    (0..<8).map { byte ^ 1 << UInt8($0) } + [0, 0xff, byte &+ 1, byte &- 1]
}

// MARK: The parsers

struct ReplayedHello: Replayed {
    var parser: ClientHelloParser

    init(byteCountMax: Int = 16384) { parser = ClientHelloParser(byteCountMax: byteCountMax) }

    mutating func answer(_ bytes: Span<UInt8>, consumedBefore: Int) -> Answer {
        switch parser.consume(bytes) {
        case .needMore: .needMore
        case .refused(let refusal): .refused(refusal.label)
        case .complete(let hello):
            .accepted(
                """
                \(hello.serverName) sent as \(hello.nameAsSent) alpn \(hello.alpn.names) \(hello.alpn.isTruncated) \
                ech \(hello.sawECH) version \(hello.legacyVersion) records \(hello.recordCount)
                """, byteCount: hello.wireByteCount)
        }
    }
}

struct ReplayedProxyHeader: Replayed {
    var parser: ProxyHeaderParser

    init(byteCountMax: Int = 4096, acceptIPv4InTCP6: Bool = false) {
        parser = ProxyHeaderParser(byteCountMax: byteCountMax, acceptIPv4InTCP6: acceptIPv4InTCP6)
    }

    init(_ vector: ProxyVector) {
        self.init(byteCountMax: vector.byteCountMax, acceptIPv4InTCP6: vector.acceptIPv4InTCP6)
    }

    mutating func answer(_ bytes: Span<UInt8>, consumedBefore: Int) -> Answer {
        switch parser.consume(bytes) {
        case .needMore: .needMore
        case .refused(let refusal): .refused(refusal.label)
        case .complete(let header, let consumed):
            .accepted(
                """
                \(header.version) \(header.command) \(header.family) \(header.transport) \
                \(header.source?.description ?? "-") \(header.destination?.description ?? "-") \
                \(header.authority.array) +\(header.duplicateAuthorityCount) \(header.alpn.array) \(header.uniqueID.array) \
                \(header.awsVPCEndpointID.array) \(header.ssl?.clientFlags ?? 0) \(header.ssl?.verifyResult ?? 0) \
                \(header.crcVerified)
                """, byteCount: consumedBefore + consumed)
        }
    }
}

struct ReplayedRequestHead: Replayed {
    var parser: HTTPRequestHeadParser

    init(byteCountMax: Int = 16384) { parser = HTTPRequestHeadParser(byteCountMax: byteCountMax) }

    mutating func answer(_ bytes: Span<UInt8>, consumedBefore: Int) -> Answer {
        switch parser.consume(bytes) {
        case .needMore: .needMore
        case .refused(let refusal): .refused(refusal.label)
        case .complete(let head): .accepted("\(head.host) \(head.port ?? 0)", byteCount: head.byteCount)
        }
    }
}

extension ClientHello {
    var nameAsSent: String { withServerNameAsSent { String(decoding: array($0), as: UTF8.self) } }
}

extension ALPNOffer {
    var names: [String] {
        let encoding = withBytes { array($0) }
        var names: [String] = []
        var index = 0
        while index < encoding.count {
            let end = index + 1 + Int(encoding[index])
            names.append(String(decoding: encoding[index + 1..<end], as: UTF8.self))
            index = end
        }
        return names
    }
}

extension InlineBytes {
    var array: [UInt8] { (0..<byteCount).map { self[$0] } }
}

func array(_ bytes: Span<UInt8>) -> [UInt8] { bytes.indices.map { bytes[$0] } }

/// SplitMix64: the same noise for the same seed everywhere.
struct Noise: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }

    /// `bytes` with some bytes changed, dropped, repeated or cut off.
    mutating func damage(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        for _ in 0...Int.random(in: 0..<4, using: &self) where !bytes.isEmpty {
            let index = Int.random(in: bytes.indices, using: &self)
            switch Int.random(in: 0..<5, using: &self) {
            case 0: bytes[index] = UInt8.random(in: 0...255, using: &self)
            case 1: bytes.remove(at: index)
            case 2: bytes.insert(UInt8.random(in: 0...255, using: &self), at: index)
            case 3: bytes.insert(contentsOf: bytes[index..<min(index + 20, bytes.count)], at: index)
            default: bytes.removeLast(bytes.count - index)
            }
        }
        return bytes
    }

    mutating func cuts(_ count: Int) -> Cuts {
        (0..<Int.random(in: 0..<6, using: &self)).map { _ in Int.random(in: 0...count, using: &self) }.sorted()
    }
}
