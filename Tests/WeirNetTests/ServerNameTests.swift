import Testing
import WeirNet

/// T-06: canonicalised once, so that access rules, routes, DNS and logs see one value.
@Suite struct ServerNameTests {
    private func refusal(_ bytes: [UInt8]) -> ServerName.Refusal? {
        do {
            _ = try ServerName(canonicalizing: bytes.span)
            return nil
        } catch {
            return error
        }
    }

    private func refusal(_ text: String) -> ServerName.Refusal? { refusal(Array(text.utf8)) }

    @Test("CH-18: ASCII letters are lowered", arguments: ["EXAMPLE.COM", "eXaMpLe.cOm", "example.com"])
    func lettersAreLowered(text: String) throws {
        #expect(try ServerName(text).description == "example.com")
        #expect(try ServerName(text) == ServerName("example.com"))
    }

    @Test("CH-18: only the 26 letters are") func bytesNextToTheLettersAreNotTouched() {
        #expect(refusal("a@b") == .forbiddenByte)
        #expect(refusal("a[b") == .forbiddenByte)
        #expect(refusal("a`b") == .forbiddenByte)
        #expect(refusal("a{b") == .forbiddenByte)
    }

    @Test("CH-19: one trailing dot is dropped") func oneTrailingDotIsDropped() throws {
        #expect(try ServerName("example.com.").description == "example.com")
        #expect(try ServerName("example.com.") == ServerName("example.com"))
    }

    @Test("CH-19: empty labels are refused", arguments: [".", "..", "a..", ".a", "a..b", ".a.b.", "..a"])
    func emptyLabelsAreRefused(text: String) {
        #expect(refusal(text) == .emptyLabel)
    }

    @Test func noByteAtAllIsRefusedAsEmpty() {
        #expect(refusal("") == .empty)
    }

    @Test(
        "CH-20: what DNS allows is taken",
        arguments: [
            "_dmarc.example.com", "a_b.example", "3com.com", "9.example", "xn--bcher-kva.example", "-a-.example", "a",
            "4.3.2.in-addr.arpa", "0x7g", "1.2.3.4.example",
        ])
    func whatDNSAllowsIsTaken(text: String) throws {
        #expect(try ServerName(text).description == text)
    }

    @Test("CH-20: U-labels are refused") func bytesAboveASCIIAreRefused() {
        #expect(refusal("bücher.example") == .forbiddenByte)
        for byte in UInt8(0x80)...0xff { #expect(refusal([0x61, byte, 0x62]) == .forbiddenByte) }
    }

    @Test(
        "CH-21: whatever reads as an address is refused",
        arguments: [
            "127.0.0.1", "1.2.3.4.", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0x7f000001", "0X7F.1", "1", "0",
            "0x", "example.0x", "a.1", "example.com.1", "1.2.3.0x4",
        ])
    func numbersInTheLastLabelAreRefused(text: String) {
        #expect(refusal(text) == .addressLiteral)
    }

    @Test("CH-21: IPv6 in either spelling", arguments: ["::1", "[::1]", "[::1", "2001:db8::1", "[host]"])
    func addressesWithColonsAreRefused(text: String) {
        #expect(refusal(text) == .forbiddenByte)
    }

    @Test("CH-22: every byte but letters, digits, hyphen, underscore and dot is refused")
    func everyOtherByteIsRefused() {
        for byte in UInt8.min...UInt8.max {
            let isAllowed =
                (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
                || [0x2d, 0x2e, 0x5f].contains(byte)
            // Between two letters, at either end, and alone with a label behind.
            #expect((refusal([0x61, byte, 0x62]) == nil) == isAllowed, "byte \(byte)")
            if !isAllowed {
                #expect(refusal([byte, 0x61]) == .forbiddenByte)
                #expect(refusal([0x61, byte]) == .forbiddenByte)
            }
        }
    }

    @Test(
        "CH-22: the well-known tricks",
        arguments: [
            "a\0.example", "good.example\0.evil.example", "a b", "a%2eb", "a/b", "a:443", "*.example", "a\\b",
            "\u{1b}[31mred", "bell\u{07}", "a\r\nb",
        ])
    func trickBytesAreRefused(text: String) {
        #expect(refusal(text) == .forbiddenByte)
    }

    private func name(byteCount: Int) -> String {
        var labels: [String] = []
        var left = byteCount
        while left > 0 {
            let count = min(left, 63)
            // No rest of one: it would be a dot without a label.
            let taken = left - count == 1 ? count - 1 : count
            labels.append(String(repeating: "a", count: taken))
            left -= taken + 1
        }
        return labels.joined(separator: ".")
    }

    @Test("CH-23: 253 bytes are a name") func theLongestNameIsTaken() throws {
        let text = name(byteCount: 253)
        #expect(text.utf8.count == 253)
        #expect(try ServerName(text).byteCount == 253)
        #expect(try ServerName(text + ".").byteCount == 253)
    }

    @Test("CH-23: more are not", arguments: [254, 255, 256, 1000, 65535]) func longerNamesAreRefused(byteCount: Int) {
        let text = name(byteCount: byteCount)
        #expect(text.utf8.count == byteCount)
        #expect(refusal(text) == .tooLong)
    }

    @Test("CH-23: labels end at 63 bytes") func longLabelsAreRefused() throws {
        let label = String(repeating: "b", count: 63)
        #expect(try ServerName("\(label).\(label)").byteCount == 127)
        #expect(refusal("\(label)b.example") == .tooLong)
        #expect(refusal("example.\(label)b") == .tooLong)
        #expect(refusal("example.\(label)b.") == .tooLong)
    }

    @Test func noneEqualsOnlyItself() throws {
        #expect(ServerName.none.isNone)
        #expect(ServerName.none == .none)
        #expect(try ServerName("a") != .none)
        #expect(ServerName.none.description.isEmpty)
    }

    @Test func namesThatShareAPrefixDiffer() throws {
        #expect(try ServerName("example.co") != ServerName("example.com"))
        #expect(try Set([ServerName("A.example"), ServerName("a.example."), ServerName("b.example")]).count == 2)
    }
}
