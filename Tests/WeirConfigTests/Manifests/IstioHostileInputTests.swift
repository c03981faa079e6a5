import Testing
import WeirConfig

/// Manifests that are not what they should be.
@Suite struct IstioHostileInputTests {
    /// The same numbers every time (SplitMix64).
    private struct Numbers: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var mixed = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
            return mixed ^ (mixed >> 31)
        }
    }

    private static let values = [
        "", "null", "[]", "{}", "0", "-1", "65536", "99999999999999999999", "true", "\"\"", "\"*\"", "\"*.\"",
        "\"a b\"",
        "{ a: b }", "[ a ]", "[ [ ] ]", "outbound|0||", "outbound|||", "/", "1.2.3.4/33", "::", "\"\\u0000\"", "1h1h",
        "&a [ *a ]",
    ]

    @Test(arguments: 0..<8)
    func noLineChangedLeftOutOrRepeatedCrashesTheReader(seed: UInt64) {
        var numbers = Numbers(state: seed)
        let lines = IstioSample.all.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        for _ in 0..<60 {
            var changed = lines
            for _ in 0..<Int.random(in: 1...4, using: &numbers) {
                let index = Int.random(in: changed.indices, using: &numbers)
                switch Int.random(in: 0..<4, using: &numbers) {
                case 0:
                    changed.remove(at: index)
                case 1:
                    changed.insert(changed[index], at: index)
                case 2:
                    let key = changed[index].prefix { $0 != ":" }
                    changed[index] = "\(key): \(Self.values.randomElement(using: &numbers)!)"
                default:
                    let words = changed[index].split(separator: " ", omittingEmptySubsequences: false)
                    changed[index] = words.shuffled(using: &numbers).joined(separator: " ")
                }
            }
            let result = reading(changed.joined(separator: "\n"))
            #expect(result.configuration != nil || !result.errors.isEmpty)
        }
    }

    @Test func everyPrefixOfADocumentIsReadOrRefused() {
        let text = IstioSample.all
        for length in stride(from: 0, to: text.utf8.count, by: 97) {
            let result = reading(String(text.prefix(length)))
            #expect(result.configuration != nil || !result.errors.isEmpty)
        }
    }
}
