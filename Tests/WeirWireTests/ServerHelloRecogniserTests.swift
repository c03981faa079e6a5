import Testing
import WeirNet
import WeirTesting
import WeirWire

struct ReplayedServerHello: Replayed {
    var recogniser = ServerHelloRecogniser()

    mutating func answer(_ bytes: Span<UInt8>, consumedBefore: Int) -> Answer {
        switch recogniser.consume(bytes) {
        case .needMore: .needMore
        case .recognised: .accepted("", byteCount: 0)
        case .refused(let refusal): .refused("\(refusal)")
        }
    }
}

/// UP-06.
@Suite struct ServerHelloRecogniserTests {
    /// A ServerHello as OpenSSL sends it: a session id, a suite, supported_versions, a key share.
    static func message(sessionByteCount: Int = 32, extensions: [UInt8] = [0, 6, 0, 43, 0, 2, 3, 4]) -> [UInt8] {
        let session = [UInt8](repeating: 7, count: sessionByteCount)
        let body =
            [3, 3] + [UInt8](0..<32) + [UInt8(sessionByteCount)] + session + [0x13, 0x01, 0] + extensions
        return [2, 0, 0, UInt8(body.count)] + body
    }

    private func answer(_ bytes: [UInt8]) -> Answer { replay(ReplayedServerHello(), bytes) }

    @Test(arguments: [0, 1, 32]) func everyCutOfAServerHelloIsRecognisedAtItsLastByte(sessionByteCount: Int) {
        let bytes = HelloBuilder.records(of: Self.message(sessionByteCount: sessionByteCount), version: 0x0303)
        #expect(cutThatChangesTheAnswer(ReplayedServerHello(), bytes) == nil)
        let (answer, decidedAt) = replayByByte(ReplayedServerHello(), bytes)
        #expect(answer == .accepted("", byteCount: 0))
        #expect(decidedAt == bytes.count)
    }

    @Test func everySplitIntoRecordsIsRecognised() {
        let message = Self.message()
        for cut in 1..<message.count {
            #expect(!answer(HelloBuilder.records(of: message, splitAt: [cut])).isNeedMore, "\(cut)")
        }
        let single = HelloBuilder.records(of: message, splitAt: Array(1..<message.count))
        #expect(answer(single) == .accepted("", byteCount: 0))
    }

    @Test func helloWithoutExtensionsIsRecognised() {
        let bytes = HelloBuilder.records(of: Self.message(sessionByteCount: 0, extensions: []))
        #expect(answer(bytes) == .accepted("", byteCount: 0))
    }

    @Test func whatFollowsInTheSameRecordIsNotLookedAt() {
        let bytes = HelloBuilder.records(of: Self.message() + [0xff, 0xff])
        #expect(answer(bytes) == .accepted("", byteCount: 0))
    }

    @Test func alertIsRefusedAsOne() { #expect(answer([21, 3, 3, 0, 2, 2, 40]) == .refused("alert")) }

    @Test(arguments: [
        Array("HTTP/1.1 400 Bad Request\r\n".utf8), Array("220 mail.example ESMTP\r\n".utf8), [22, 2, 0, 0, 50],
        // Empty and oversized records, another message, impossible lengths and versions.
        [22, 3, 3, 0, 0], [22, 3, 3, 0x40, 1], [22, 3, 3, 0, 60, 1], [22, 3, 3, 0, 60, 2, 0, 0, 37],
        [22, 3, 3, 0, 60, 2, 1, 0, 0], [22, 3, 3, 0, 60, 2, 0, 0, 50, 2, 0], [22, 3, 3, 0, 60, 2, 0, 0, 50, 3, 4],
        [23, 3, 3, 0, 60],
    ])
    func whatIsNoServerHelloIsRefused(bytes: [UInt8]) { #expect(answer(bytes) == .refused("malformed")) }

    @Test func sessionIDBeyondTheMessageIsRefused() {
        var message = Self.message(sessionByteCount: 0, extensions: [])
        message[38] = 1
        #expect(answer(HelloBuilder.records(of: message)) == .refused("malformed"))
        message = Self.message()
        message[38] = 33
        #expect(answer(HelloBuilder.records(of: message)) == .refused("malformed"))
    }

    @Test func everySingleByteChangeIsReadTheSameWhenCut() {
        let bytes = HelloBuilder.records(of: Self.message(), splitAt: [20])
        #expect(changesReadDifferentlyWhenCut(ReplayedServerHello(), bytes, values: fewOtherValues).isEmpty)
    }
}
