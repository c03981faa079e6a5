import Testing
import WeirNet
import WeirTelemetry

@Suite struct JSONLineTests {
    private func written(_ body: (inout JSONLine) -> Void) -> String {
        var line = JSONLine()
        line.begin()
        body(&line)
        line.end()
        return String(decoding: line.bytes, as: UTF8.self)
    }

    /// T-15: whatever a peer sends, the line is one line of valid JSON, and holds what was sent.
    @Test func everyByteOfAPeerSurvivesAsPrintableASCII() throws {
        for byte in UInt8.min...UInt8.max {
            let value: [UInt8] = [0x61, byte, 0x62]
            let text = written { $0.peerBytes("name", value.span) }
            #expect(text.utf8.dropLast().allSatisfy { (0x20..<0x7f).contains($0) })
            let object = try #require(StrictJSON.object(String(text.dropLast())), "byte \(byte): \(text)")
            #expect(object == ["name": .string([0x61, UInt32(byte), 0x62])])
        }
    }

    @Test func aTerminalSequenceIsDefused() {
        let bell: [UInt8] = [0x1b, 0x5d, 0x07, 0x9b]
        #expect(written { $0.peerBytes("n", bell.span) } == "{\"n\":\"\\u001b]\\u0007\\u009b\"}\n")
    }

    @Test func textKeepsItsUTF8AndLosesItsControls() {
        #expect(written { $0.text("n", "größe\u{7f}\n\"\\") } == "{\"n\":\"größe\\u007f\\u000a\\\"\\\\\"}\n")
    }

    @Test func noFieldsMakeAnEmptyObject() {
        #expect(written { _ in } == "{}\n")
    }

    @Test func linesStandBehindEachOther() {
        var line = JSONLine()
        for index in 0..<2 {
            line.begin()
            line.integer("a", UInt64(index))
            line.flag("b", true)
            line.end()
        }
        #expect(String(decoding: line.bytes, as: UTF8.self) == "{\"a\":0,\"b\":true}\n{\"a\":1,\"b\":true}\n")
        line.removeAll()
        #expect(line.bytes.isEmpty)
    }

    @Test(arguments: [(UInt64(0), "0"), (9, "9"), (10, "10"), (.max, "18446744073709551615")])
    func integersAreDecimal(value: UInt64, text: String) {
        #expect(written { $0.integer("n", value) } == "{\"n\":\(text)}\n")
    }

    @Test(arguments: [
        (UInt64(0), "0.000000"), (999, "0.000000"), (1000, "0.000001"), (1_000_000_000, "1.000000"),
        (61_001_500_000, "61.001500"), (.max, "18446744073.709551"),
    ])
    func durationsAreCutToTheMicrosecond(nanoseconds: UInt64, text: String) {
        #expect(written { $0.seconds("n", nanoseconds: nanoseconds) } == "{\"n\":\(text)}\n")
    }

    @Test func anIdentifierHasSixteenDigits() {
        #expect(written { $0.hexadecimal("n", 0x0123_4567_89ab_cdef) } == "{\"n\":\"0123456789abcdef\"}\n")
    }

    @Test(arguments: [
        (UInt64(0), "1970-01-01T00:00:00.000000Z"),
        (951_782_400_000_001_999, "2000-02-29T00:00:00.000001Z"),
        (951_868_799_999_999_999, "2000-02-29T23:59:59.999999Z"),
        (951_868_800_000_000_000, "2000-03-01T00:00:00.000000Z"),
        (1_735_689_599_000_000_000, "2024-12-31T23:59:59.000000Z"),
        (1_735_689_600_000_000_000, "2025-01-01T00:00:00.000000Z"),
        (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000Z"),
    ])
    func aMomentIsRFC3339(nanoseconds: UInt64, text: String) {
        #expect(written { $0.time("n", nanosecondsSince1970: nanoseconds) } == "{\"n\":\"\(text)\"}\n")
    }

    @Test func everyMomentOfALineIsItsOwn() {
        let text = written { line in
            for seconds in [UInt64(59), 60, 60, 59] { line.time("n", nanosecondsSince1970: seconds * 1_000_000_000) }
        }
        let times = ["00:00:59", "00:01:00", "00:01:00", "00:00:59"].map { "\"n\":\"1970-01-01T\($0).000000Z\"" }
        #expect(text == "{" + times.joined(separator: ",") + "}\n")
    }

    @Test(arguments: ["0.0.0.0:0", "203.0.113.254:65535", "[2001:db8::1]:443"])
    func anAddressReadsAsItsDescription(text: String) throws {
        let address = try #require(SocketAddress(text))
        #expect(written { $0.address("n", address) } == "{\"n\":\"\(text)\"}\n")
    }
}
