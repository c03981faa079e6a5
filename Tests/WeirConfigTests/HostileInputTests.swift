import Testing
import WeirConfig

/// Input that nobody wrote for us: it is refused with a message, and never ends the process.
@Suite struct HostileInputTests {
    @Test func deepYAMLIsRefused() {
        for depth in [65, 1000, 50_000] {
            let result = reading("listeners: " + String(repeating: "[", count: depth))
            #expect(result.errors.first?.message.contains("nested deeper than 64 levels") == true)
        }
    }

    @Test func anAliasBombIsRefused() {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for level in 1...12 {
            let alias = "*a\(level - 1)"
            text += "a\(level): &a\(level) [\(Array(repeating: alias, count: 10).joined(separator: ", "))]\n"
        }
        #expect(reading(text).errors.first?.message == "more than 1000000 nodes, aliases written out")
    }

    @Test func deepNginxBlocksAreRefused() {
        let result = reading(String(repeating: "stream {\n", count: 10_000))
        #expect(result.errorLines == ["33:8 blocks nested deeper than 32 levels"])
    }

    @Test func variablesInARingAreRefused() {
        let result = reading(
            """
            stream {
                map $b $a { default $b; }
                map $a $b { default $a; }
                server { listen 443; ssl_preread on; proxy_pass $a; }
            }
            """)
        #expect(result.errors.contains { $0.message == "the variables refer to each other without end" })
    }

    @Test func zeroBytesAreNotText() {
        let result = ConfigReader.read(sources: [(name: "x", bytes: Array("workers: 1\n".utf8) + [0, 1, 2])])
        #expect(result.diagnostics.first?.description.hasPrefix("x:2:1: error: a zero byte") == true)
    }

    @Test func bytesThatAreNotUTF8AreRefusedInYAML() {
        let result = ConfigReader.read(sources: [(name: "x", bytes: Array("workers: 1\nlog: ".utf8) + [0xc3, 0x28])])
        #expect(result.configuration == nil)
        #expect(result.errors.first?.line == 2)
    }

    /// Seeded noise: bytes, and the words of both formats in any order.
    @Test(arguments: 0..<200)
    func noiseIsRefusedOrReadButNeverTraps(seed: UInt64) {
        var state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1
        func random(_ bound: Int) -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(bound))
        }
        let words = [
            "stream", "server", "listen", "443", "{", "}", ";", "proxy_pass", "$a", "${", "map", "\"", "'", "\\", "#",
            "\n", " ", "upstream", "listeners:", "- ", "[", "]", ": ", "&a", "*a", "routes", "to", "include", "/",
            "default", "hostnames", "~x", "*.", ".", "allow", "all", "=", "zone=", "resolver", "valid=", "\t", "é",
        ]
        var bytes: [UInt8] = []
        for _ in 0..<random(120) {
            if random(8) == 0 { bytes.append(UInt8(1 + random(255))) }
            bytes += Array(words[random(words.count)].utf8)
            if random(2) == 0 { bytes.append(UInt8(ascii: " ")) }
        }
        let result = ConfigReader.read(sources: [(name: "noise", bytes: bytes)])
        #expect(result.configuration != nil || !result.errors.isEmpty)
    }

    /// Each prefix of a file that uses everything: cut anywhere, it is read or refused.
    @Test(arguments: [NativeExampleTests.example, NginxSample.text])
    func everyPrefixIsReadOrRefused(text: String) {
        let bytes = Array(text.utf8)
        var unexplained: [Int] = []
        for end in 0...bytes.count {
            let result = ConfigReader.read(sources: [(name: "cut", bytes: Array(bytes[..<end]))])
            if result.configuration == nil, result.errors.isEmpty { unexplained.append(end) }
        }
        #expect(unexplained == [])
    }
}
