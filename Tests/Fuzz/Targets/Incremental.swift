import FuzzHarness

/// What a parser answers to the bytes so far.
enum Reading<Accepted, Refusal: Equatable> {
    case needMore
    /// `byteCount`: how many bytes from the start of the stream belong to what was accepted.
    case accepted(Accepted, byteCount: Int)
    case refused(Refusal)
}

/// A parser that is fed as bytes arrive.
protocol Incremental {
    associatedtype Accepted
    associatedtype Refusal: Equatable

    /// `offset`: bytes of the stream that were fed before.
    mutating func feed(_ bytes: Span<UInt8>, at offset: Int) -> Reading<Accepted, Refusal>

    /// Equal in every fact that there is.
    static func same(_ one: Accepted, _ other: Accepted) -> Bool
}

/// Feeds the whole of `bytes` at once.
func readWhole<Parser: Incremental>(_ parser: Parser, _ bytes: Span<UInt8>) -> Reading<Parser.Accepted, Parser.Refusal>
{
    var parser = parser
    return parser.feed(bytes, at: 0)
}

/// Feeds `bytes` in pieces whose lengths `random` decides: mostly short, now and then empty.
func readInPieces<Parser: Incremental>(
    _ parser: Parser, _ bytes: Span<UInt8>, _ random: inout FuzzRandom
) -> Reading<Parser.Accepted, Parser.Refusal> {
    var parser = parser
    var start = 0
    let lengthMax = 1 + random.below(random.oneIn(2) ? 16 : bytes.count)
    while start < bytes.count {
        let end = min(bytes.count, start + random.below(lengthMax + 1))
        let answer = parser.feed(bytes.extracting(start..<end), at: start)
        if case .needMore = answer {} else { return answer }
        start = end
    }
    return .needMore
}

/// Feeds `bytes` one by one; `decidedAt` is how many it took.
func readByByte<Parser: Incremental>(
    _ parser: Parser, _ bytes: Span<UInt8>
) -> (answer: Reading<Parser.Accepted, Parser.Refusal>, decidedAt: Int) {
    var parser = parser
    for index in bytes.indices {
        let answer = parser.feed(bytes.extracting(index..<index + 1), at: index)
        if case .needMore = answer {} else { return (answer, index + 1) }
    }
    return (.needMore, bytes.count)
}

/// Ends the process where two ways of feeding the same bytes were answered differently.
func requireSame<Parser: Incremental>(
    _: Parser.Type, _ one: Reading<Parser.Accepted, Parser.Refusal>, _ other: Reading<Parser.Accepted, Parser.Refusal>,
    _ what: String
) {
    switch (one, other) {
    case (.needMore, .needMore):
        break
    case (.accepted(let a, let aCount), .accepted(let b, let bCount)):
        require(aCount == bCount, "\(what): ends at byte \(aCount) in one piece, at \(bCount) otherwise")
        require(Parser.same(a, b), "\(what): \(a) in one piece, \(b) otherwise")
    case (.refused(let a), .refused(let b)):
        require(a == b, "\(what): refused as \(a) in one piece, as \(b) otherwise")
    default:
        fail("\(what): \(one) in one piece, \(other) otherwise")
    }
}

/// Reads `bytes` at once and in pieces, some one by one, and asks that the answer is the same and comes when it must:
/// acceptance with the last byte that belongs to it, whatever follows; a refusal for good.
func readEveryWay<Parser: Incremental>(
    _ parser: Parser, _ bytes: Span<UInt8>, _ random: inout FuzzRandom
) -> Reading<Parser.Accepted, Parser.Refusal> {
    let whole = readWhole(parser, bytes)
    requireSame(Parser.self, whole, readInPieces(parser, bytes, &random), "in pieces")
    if case .accepted(_, let byteCount) = whole {
        require(byteCount >= 1 && byteCount <= bytes.count, "ends at byte \(byteCount) of \(bytes.count)")
        requireSame(Parser.self, whole, readWhole(parser, bytes.extracting(first: byteCount)), "without what follows")
        let cut = readWhole(parser, bytes.extracting(first: byteCount - 1))
        requireSame(Parser.self, .needMore, cut, "without its last byte")
    }
    // The dearest way, for some: it alone tells where a refusal came.
    if random.oneIn(8) {
        let (answer, decidedAt) = readByByte(parser, bytes)
        requireSame(Parser.self, whole, answer, "byte by byte")
        if case .refused = whole {
            let prefix = readWhole(parser, bytes.extracting(first: decidedAt))
            requireSame(Parser.self, whole, prefix, "up to the deciding byte")
        }
    }
    return whole
}
