import Testing
import WeirNet

@Suite struct IPAddressTests {
    /// RFC 5952: every spelling of one address is written in one form.
    @Test(arguments: [
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"),
        ("2001:db8::1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("2001:DB8:AAAA:BBBB:CCCC:DDDD:EEEE:AAAA", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:aaaa"),
        ("2001:db8::0:1", "2001:db8::1"),
        ("0:0:0:0:0:0:0:0", "::"),
        ("::", "::"),
        ("::1", "::1"),
        ("1::", "1::"),
        ("fe80:0:0:0:0:0:0:0", "fe80::"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
        ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
        ("::FFFF:102:304", "::ffff:1.2.3.4"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
        ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"),
        ("255.255.255.255", "255.255.255.255"),
        ("0.0.0.0", "0.0.0.0"),
    ])
    func everySpellingIsWrittenInTheCanonicalForm(text: String, canonical: String) {
        #expect(IPAddress(text)?.description == canonical)
    }

    /// CH-21 and T-06: spellings that other readers take for an address, or for another address.
    @Test(arguments: [
        "", ".", "1", "1.2", "1.2.3", "1.2.3.", ".1.2.3", "1.2.3.4.", "1.2.3.4.5", "01.2.3.4", "1.2.3.04", "1.2.3.00",
        "256.1.1.1", "1.2.3.256", "1.2.3.1000", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "127.1", " 1.2.3.4",
        "1.2.3.4 ", "1.2.3.4\n", "1.2.3.-4", "1.2.3.+4", "1,2,3,4", "١.٢.٣.٤",
    ])
    func looseIPv4SpellingsAreRefused(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test(arguments: [
        ":", ":::", "1:", ":1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8:", ":1:2:3:4:5:6:7:8",
        "1::2::3", "::1::", "1:2:3:4:5:6:7:8::", "1:2:3:4::5:6:7:8", "12345::", "::g", "fe80::1%eth0", "fe80::1%2",
        "[::1]", "::1/64", "::1.2.3", "::01.2.3.4", "::1.2.3.4.5", "::256.1.1.1", "1.2.3.4::", "::1.2.3.4:5",
        "1:2:3:4:5:6:7:1.2.3.4", "::2:3:4:5:6:7:1.2.3.4", "::abcd.1.2.3", "::ffff:1.2.3.4 ", "0:0:0:0:0:ffff:1.2.3",
    ])
    func malformedIPv6IsRefused(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test func anEmbeddedIPv4TailFillsTheLastTwoGroups() {
        #expect(IPAddress("::1.2.3.4") == IPAddress(v6High: 0, low: 0x0102_0304))
        #expect(IPAddress("1::2:3:4:5:1.2.3.4") == IPAddress("1:0:2:3:4:5:102:304"))
    }

    @Test func mappedAddressesUnmapAndMapBack() throws {
        let mapped = try #require(IPAddress("::ffff:192.0.2.7"))
        #expect(mapped.family == .v6)
        #expect(mapped.unmapped == IPAddress(192, 0, 2, 7))
        #expect(IPAddress(192, 0, 2, 7).mapped == mapped)
        #expect(mapped.mapped == mapped)
    }

    @Test(arguments: ["::1.2.3.4", "::fffe:1.2.3.4", "::1:ffff:1.2.3.4", "64:ff9b::1.2.3.4", "::"])
    func otherAddressesThatCarryIPv4AreNotMapped(text: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.unmapped == address)
    }

    @Test func bytesAreInNetworkOrder() throws {
        let v4 = IPAddress(1, 2, 3, 4)
        #expect((0..<4).map { v4.byte($0) } == [1, 2, 3, 4])
        let v6 = try #require(IPAddress("102:304:506:708:90a:b0c:d0e:f10"))
        #expect((0..<16).map { v6.byte($0) } == Array(1...16))
    }

    @Test func familiesAreNeverEqual() {
        #expect(IPAddress.v4Any != IPAddress.v6Any)
        #expect(IPAddress.v4Any.isUnspecified)
        #expect(IPAddress.v6Any.isUnspecified)
        #expect(!IPAddress.v6Loopback.isUnspecified)
    }

    /// Written and read again, an address is itself: every pattern of zero and non-zero groups.
    @Test func everyPatternOfZeroGroupsSurvivesTheRoundTrip() {
        for pattern in 0..<256 {
            var words: (UInt64, UInt64) = (0, 0)
            for group in 0..<8 where pattern & 1 << group != 0 {
                let value = UInt64(0x1000 + group)
                if group < 4 {
                    words.0 |= value << UInt64(48 - 16 * group)
                } else {
                    words.1 |= value << UInt64(48 - 16 * (group - 4))
                }
            }
            let address = IPAddress(v6High: words.0, low: words.1)
            #expect(IPAddress(address.description) == address)
        }
    }
}
