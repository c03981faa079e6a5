import Testing
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

@Suite struct AddressRuleTests {
    /// A listener with rules written as `+block` and `-block`.
    private func table(_ rules: [String], otherwiseAllow: Bool = false) -> RouteTable {
        var one = listener("l", [route("r")])
        one.clients = ClientPolicy(
            rules: rules.map { .init(allow: $0.hasPrefix("+"), block: block(String($0.dropFirst()))) },
            otherwiseAllow: otherwiseAllow)
        return WeirRoutingTests.table(configuration([one]))
    }

    private func allows(_ table: RouteTable, _ client: String) -> Bool {
        table.view.allowsClient(listener: 0, ip(client))
    }

    /// T-01: what a listener takes unless it says otherwise.
    @Test(arguments: [
        ("127.0.0.1", true), ("126.255.255.255", false), ("10.255.255.255", true), ("11.0.0.0", false),
        ("172.15.255.255", false), ("172.16.0.0", true), ("172.31.255.255", true), ("172.32.0.0", false),
        ("192.168.0.1", true), ("192.169.0.0", false), ("8.8.8.8", false), ("0.0.0.0", false),
        ("255.255.255.255", false), ("::1", true), ("::2", false), ("fbff::", false), ("fc00::", true),
        ("fdff::1", true),
        ("fe00::", false), ("fe80::1", false), ("2001:db8::1", false), ("::ffff:10.0.0.1", true),
        ("::ffff:8.8.8.8", false),
    ])
    func theDefaultTakesPrivateClients(client: String, expected: Bool) {
        let table = WeirRoutingTests.table(configuration([listener("l", [route("r")])]))
        #expect(allows(table, client) == expected)
    }

    @Test func theFirstRuleThatContainsTheAddressDecides() {
        let narrowFirst = table(["-10.1.0.0/16", "+10.0.0.0/8"])
        #expect(
            ["10.0.0.1", "10.1.0.1", "10.2.0.1", "11.0.0.1"].map { allows(narrowFirst, $0) } == [
                true, false, true, false,
            ])
        let wideFirst = table(["+10.0.0.0/8", "-10.1.0.0/16"])
        #expect(["10.0.0.1", "10.1.0.1"].map { allows(wideFirst, $0) } == [true, true])
    }

    @Test func noRuleLeavesTheDefault() {
        #expect(allows(table([], otherwiseAllow: true), "203.0.113.1"))
        #expect(allows(table([], otherwiseAllow: true), "2001:db8::1"))
        #expect(!allows(table([]), "203.0.113.1"))
        #expect(!allows(table([]), "2001:db8::1"))
    }

    @Test func rulesOfOneFamilyLeaveTheOtherAlone() {
        let table = table(["-0.0.0.0/0"], otherwiseAllow: true)
        #expect(!allows(table, "0.0.0.0"))
        #expect(!allows(table, "255.255.255.255"))
        #expect(allows(table, "::"))
        let six = self.table(["-::/0"], otherwiseAllow: true)
        #expect(allows(six, "255.255.255.255"))
        #expect(!allows(six, "::"))
        #expect(!allows(six, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))
    }

    /// Random nested blocks, against the list walked in its order.
    @Test(arguments: 1...20 as ClosedRange<UInt64>) func anyListAgreesWithAWalkThroughIt(seed: UInt64) {
        var random = seed &* 0x9e37_79b9_7f4a_7c15
        func next(_ bound: UInt64) -> UInt64 {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (random >> 33) % bound
        }
        // Few bits vary, so that blocks nest and share their edges.
        func address() -> IPAddress {
            next(2) == 0
                ? IPAddress(v4: UInt32(next(16)) << 28 | UInt32(next(4)) << 20 | UInt32(next(8)))
                : IPAddress(v6High: next(4) << 62 | next(4), low: next(4) << 62 | next(4))
        }
        let rules = (0..<next(30)).map { _ in
            let base = address()
            let lengths = base.family == .v4 ? [0, 1, 4, 11, 12, 29, 31, 32] : [0, 1, 2, 63, 64, 65, 66, 127, 128]
            return ClientPolicy.Rule(
                allow: next(2) == 0, block: CIDR(base, prefixLength: lengths[Int(next(UInt64(lengths.count)))]))
        }
        let policy = ClientPolicy(rules: rules, otherwiseAllow: next(2) == 0)
        var one = listener("l", [route("r")])
        one.clients = policy
        let table = WeirRoutingTests.table(configuration([one]))
        var probes = (0..<300).map { _ in address() }
        for rule in rules {
            // The edges of each block and their neighbours.
            let base = rule.block.base
            if base.family == .v4 {
                let size = rule.block.prefixLength == 0 ? 0 : UInt32(1) << UInt32(32 - rule.block.prefixLength)
                for edge in [
                    UInt32(base.low), UInt32(base.low) &- 1, UInt32(base.low) &+ size, UInt32(base.low) &+ size &- 1,
                ] {
                    probes.append(IPAddress(v4: edge))
                }
            } else {
                probes += [base, IPAddress(v6High: base.low == 0 ? base.high &- 1 : base.high, low: base.low &- 1)]
            }
        }
        for probe in probes {
            let expected = rules.first { $0.block.contains(probe.unmapped) }?.allow ?? policy.otherwiseAllow
            #expect(table.view.allowsClient(listener: 0, probe) == expected, "\(probe) under \(rules)")
        }
    }

    @Test func onlyListedPeersAreBelieved() {
        var one = listener("l", [route("r")])
        one.acceptProxy = AcceptProxy(from: [block("10.1.0.0/16"), block("2001:db8::/32")])
        let table = WeirRoutingTests.table(configuration([one, listener("plain", port: 444, [route("r")])]))
        let peers = ["10.1.2.3", "::ffff:10.1.2.3", "10.2.0.0", "2001:db8::1", "2001:db9::"]
        #expect(peers.map { table.view.trustsProxyPeer(listener: 0, ip($0)) } == [true, true, false, true, false])
        #expect(!table.view.trustsProxyPeer(listener: 1, ip("10.1.2.3")))
    }

    @Test func limitsCountAnIPv4AddressOrASlash64() {
        func same(_ a: String, _ b: String) -> Bool {
            let (x, y) = (ip(a).limitKey, ip(b).limitKey)
            return x.high == y.high && x.low == y.low
        }
        #expect(same("192.0.2.1", "::ffff:192.0.2.1"))
        #expect(!same("192.0.2.1", "192.0.2.2"))
        #expect(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"))
        #expect(!same("2001:db8:1:2::1", "2001:db8:1:3::1"))
        #expect(!same("0.0.0.0", "::"))
    }
}
