import Testing
import WeirWire

struct ReplayedStatus: Replayed {
    var parser = HTTPStatusParser(byteCountMax: 200)

    mutating func answer(_ bytes: Span<UInt8>, consumedBefore: Int) -> Answer {
        switch parser.consume(bytes) {
        case .needMore: .needMore
        case .complete(let status): .accepted("\(status)", byteCount: 0)
        case .refused: .refused("")
        }
    }
}

/// UP-06.
@Suite struct HTTPStatusParserTests {
    static let accepted: [(String, Int)] = [
        ("HTTP/1.1 200 OK\r\n", 200), ("HTTP/1.0 204 \r\n", 204), ("HTTP/1.1 503\r\n", 503), ("HTTP/1.1 301\n", 301),
        ("HTTP/1.1 404 Not  Found, at all\n", 404),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 599 x\r\n", 599),
        ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100\n\nHTTP/1.1 200 OK\r\n", 200),
    ]

    @Test(arguments: accepted)
    func everyCutOfAStatusLineIsReadAtItsEnd(text: String, status: Int) {
        let bytes = Array(text.utf8)
        #expect(cutThatChangesTheAnswer(ReplayedStatus(), bytes) == nil)
        let (answer, decidedAt) = replayByByte(ReplayedStatus(), bytes)
        #expect(answer == .accepted("\(status)", byteCount: 0))
        #expect(decidedAt == bytes.count)
    }

    @Test(arguments: [
        "HTTP/2 200 \r\n", "HTTP/1.2 200 OK\r\n", "http/1.1 200 OK\r\n", "HTTP/1.1  200 OK\r\n", "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 2000 OK\r\n", "HTTP/1.1 099 OK\r\n", "HTTP/1.1 600 OK\r\n", "HTTP/1.1 101 Switching Protocols\r\n",
        "HTTP/1.1 -20 OK\r\n", "\r\nHTTP/1.1 200 OK\r\n", "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n\r\nHTTP/1.1 200 OK\r\n",
    ])
    func whatIsNoStatusLineIsRefused(text: String) {
        #expect(replay(ReplayedStatus(), Array(text.utf8)) == .refused(""))
    }

    @Test func headWithoutAnEndIsRefusedAtTheLimit() {
        let reason = Array("HTTP/1.1 200 ".utf8) + [UInt8](repeating: 0x78, count: 500)
        #expect(replayByByte(ReplayedStatus(), reason).decidedAt == 200)
        let interim = Array("HTTP/1.1 100 x\r\n".utf8) + [UInt8](repeating: 0x78, count: 500)
        #expect(replayByByte(ReplayedStatus(), interim).decidedAt == 200)
    }

    @Test func everySingleByteChangeIsReadTheSameWhenCut() {
        let bytes = Array("HTTP/1.1 100 c\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n".utf8)
        #expect(changesReadDifferentlyWhenCut(ReplayedStatus(), bytes, values: fewOtherValues).isEmpty)
    }
}
