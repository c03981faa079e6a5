import Testing
import WeirNet

@Suite struct CIDRTests {
    @Test(arguments: [
        ("10.0.0.0/8", "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
        ("172.16.0.0/12", "172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"),
        ("192.0.2.128/25", "192.0.2.128", "192.0.2.255", "192.0.2.127", "192.0.3.0"),
        ("192.0.2.7/32", "192.0.2.7", "192.0.2.7", "192.0.2.6", "192.0.2.8"),
        ("192.0.2.7/31", "192.0.2.6", "192.0.2.7", "192.0.2.5", "192.0.2.8"),
        ("128.0.0.0/1", "128.0.0.0", "255.255.255.255", "127.255.255.255", "0.0.0.0"),
        ("fc00::/7", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fbff::", "fe00::"),
        ("2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff::", "2001:db9::"),
        ("2001:db8:0:1::/64", "2001:db8:0:1::", "2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8::", "2001:db8:0:2::"),
        (
            "2001:db8::8000:0:0:0/65", "2001:db8::8000:0:0:0", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8::7fff:0:0:0",
            "::"
        ),
        ("::1/128", "::1", "::1", "::", "::2"),
        ("::ffff:0:0/96", "::ffff:0.0.0.0", "::ffff:255.255.255.255", "::fffe:ffff:ffff", "::1:0:0:0"),
    ])
    func blockEndsWhereItsPrefixDoes(
        text: String, first: String, last: String, below: String, above: String
    ) throws {
        let block = try #require(CIDR(text))
        #expect(block.contains(try #require(IPAddress(first))))
        #expect(block.contains(try #require(IPAddress(last))))
        #expect(!block.contains(try #require(IPAddress(below))))
        #expect(!block.contains(try #require(IPAddress(above))))
    }

    @Test func lengthZeroIsTheWholeOfOneFamily() throws {
        let (v4, v6) = (try #require(CIDR("0.0.0.0/0")), try #require(CIDR("::/0")))
        #expect(v4.contains(IPAddress(255, 255, 255, 255)))
        #expect(!v4.contains(.v6Loopback))
        #expect(v6.contains(IPAddress(v6High: .max, low: .max)))
        #expect(!v6.contains(.v4Loopback))
    }

    @Test func bitsBehindThePrefixAreCleared() {
        #expect(CIDR("10.1.2.3/8")?.description == "10.0.0.0/8")
        #expect(CIDR("2001:db8:ffff::1/33") == CIDR("2001:db8:8000::/33"))
    }

    @Test func anAddressAloneIsABlockOfOne() {
        #expect(CIDR("192.0.2.1")?.prefixLength == 32)
        #expect(CIDR("2001:db8::1")?.prefixLength == 128)
    }

    @Test(arguments: [
        "", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/ 8", "10.0.0.0/8 ",
        "10.0.0.0/08", "10.0.0.0/00", "10.0.0.0/8/8", "10.0.0.0/255.0.0.0", "10.0.0/8", "10.0.0.0/99999999999999999999",
    ])
    func malformedBlocksAreRefused(text: String) {
        #expect(CIDR(text) == nil)
    }

    @Test func blocksOfMappedAddressesStandForIPv4() {
        #expect(CIDR("::ffff:10.0.0.0/104")?.unmapped == CIDR("10.0.0.0/8"))
        #expect(CIDR("::ffff:0:0/96")?.unmapped == CIDR("0.0.0.0/0"))
        #expect(CIDR("::ffff:0:0/95")?.unmapped == CIDR("::fffe:0:0/95"))
        #expect(CIDR("10.0.0.0/8")?.unmapped == CIDR("10.0.0.0/8"))
        #expect(CIDR("2001:db8::/100")?.unmapped == CIDR("2001:db8::/100"))
    }
}
