import FuzzHarness
import WeirWire

/// What a checked endpoint answers to a GET: the status line against itself, however it is cut, and against a second reading.
enum HTTPStatusTarget: FuzzTarget {
    static let name = "http-status"

    static func check(_ bytes: Span<UInt8>) -> String? {
        var random = FuzzRandom(of: bytes)
        let answer = readEveryWay(StatusReading(), bytes, &random)
        var whole = HTTPStatusParser()
        switch (whole.consume(bytes), answer) {
        case (.needMore, .needMore), (.refused, .refused): break
        case (.complete(let one), .accepted(let other, _)) where one == other: break
        default: fail("another answer in one piece")
        }
        switch answer {
        case .needMore:
            return "more"
        case .refused:
            return "refused"
        case .accepted(let status, let byteCount):
            require((200...599).contains(status), "status \(status)")
            let lines = [UInt8](bytes, first: byteCount).split(separator: 0x0a)
            guard let line = lines.last else { fail("accepted without a line") }
            require(line.starts(with: "HTTP/1.".utf8), "the last line is no status line")
            require(line.dropFirst(9).prefix(3).elementsEqual("\(status)".utf8), "another status in the last line")
            return "accepted"
        }
    }
}

/// What a checked endpoint answers to a ClientHello.
enum ServerHelloTarget: FuzzTarget {
    static let name = "server-hello"

    static func check(_ bytes: Span<UInt8>) -> String? {
        var random = FuzzRandom(of: bytes)
        let answer = readEveryWay(ServerHelloReading(), bytes, &random)
        var whole = ServerHelloRecogniser()
        switch (whole.consume(bytes), answer) {
        case (.needMore, .needMore), (.recognised, .accepted): break
        case (.refused(let one), .refused(let other)) where one == other: break
        default: fail("another answer in one piece")
        }
        switch answer {
        case .needMore: return "more"
        case .refused(let refusal): return "\(refusal)"
        case .accepted:
            require(bytes[0] == 22, "recognised in a record of another type")
            require(bytes.count >= 5 + 4 + 38, "recognised in \(bytes.count) bytes")
            return "recognised"
        }
    }
}

/// The status parser under fuzz. It does not say where the line ended, so bytes are fed one by one.
private struct StatusReading: Incremental {
    struct Refused: Equatable {}

    private var parser = HTTPStatusParser()

    mutating func feed(_ bytes: Span<UInt8>, at offset: Int) -> Reading<Int, Refused> {
        for index in bytes.indices {
            switch parser.consume(bytes.extracting(index..<index + 1)) {
            case .needMore: continue
            case .complete(let status): return .accepted(status, byteCount: offset + index + 1)
            case .refused: return .refused(Refused())
            }
        }
        return .needMore
    }

    static func same(_ one: Int, _ other: Int) -> Bool { one == other }
}

/// The recogniser under fuzz, likewise.
private struct ServerHelloReading: Incremental {
    private var recogniser = ServerHelloRecogniser()

    mutating func feed(_ bytes: Span<UInt8>, at offset: Int) -> Reading<Void, ServerHelloRefusal> {
        for index in bytes.indices {
            switch recogniser.consume(bytes.extracting(index..<index + 1)) {
            case .needMore: continue
            case .recognised: return .accepted((), byteCount: offset + index + 1)
            case .refused(let refusal): return .refused(refusal)
            }
        }
        return .needMore
    }

    static func same(_: Void, _: Void) -> Bool { true }
}
