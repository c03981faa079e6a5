import Testing
import WeirMemory

@Suite struct SipHashTests {
    /// The key of the reference vectors: bytes 0, 1, ... 15.
    private let key = SipKey(low: 0x0706_0504_0302_0100, high: 0x0f0e_0d0c_0b0a_0908)

    private func hash(_ bytes: [UInt8]) -> UInt64 {
        var hash = SipHash(key: key)
        for byte in bytes { hash.absorb(byte) }
        return hash.finished()
    }

    /// With a key of zero, what CPython's `hash` answers for these bytes under PYTHONHASHSEED=0.
    @Test(
        arguments: [
            ("a", 0x4074_48d2_b89b_1813), ("1234567", 0xa33d_6515_94fd_ae81), ("12345678", 0x3489_9824_3056_0a87),
            ("123456789", 0x0fbc_0f00_0796_5fcf), ("api.partner.example", 0x9051_bc48_0ba7_bc9b),
        ] as [(String, UInt64)])
    func agreesWithAnotherImplementation(text: String, expected: UInt64) {
        var hash = SipHash(key: SipKey(low: 0, high: 0))
        for byte in text.utf8 { hash.absorb(byte) }
        #expect(hash.finished() == expected)
    }

    @Test func wordsAndBytesHashAlikeAtEveryAlignment() {
        for lead in 0..<8 as Range<UInt8> {
            var words = SipHash(key: key)
            for byte in 0..<lead { words.absorb(byte) }
            words.absorb(0x1817_1615_1413_1211 as UInt64)
            words.absorb(0x99 as UInt8)
            let bytes = Array(0..<lead) + [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x99]
            #expect(words.finished() == hash(bytes))
        }
    }

    @Test func takingTheHashDoesNotEndTheFeeding() {
        var one = SipHash(key: key)
        for byte in Array("example".utf8) {
            one.absorb(byte)
            _ = one.finished()
        }
        #expect(one.finished() == hash(Array("example".utf8)))
    }

    @Test func lengthAndKeyTakePart() {
        #expect(hash([0]) != hash([0, 0]))
        #expect(hash([]) != hash([0]))
        #expect(SipHash(key: SipKey(low: 0, high: 0)).finished() != SipHash(key: SipKey(low: 0, high: 1)).finished())
    }
}
