import Testing
import WeirModel
import WeirNet
import WeirRouting

/// What names may resolve to. T-03: the guard is asked about each address of each answer, and the address it was asked
/// about is the one connected to, so what a later look at the name would say plays no part.
@Suite struct DestinationGuardTests {
    private func table(
        allow: [(String, ClosedRange<UInt16>?)] = [], deny: [(String, ClosedRange<UInt16>?)] = [], own: [String] = [],
        local: [String] = []
    ) -> RouteTable {
        var one = configuration([])
        one.destinations = DestinationPolicy(
            allow: allow.map { .init(block($0.0), ports: $0.1) }, deny: deny.map { .init(block($0.0), ports: $0.1) })
        return WeirRoutingTests.table(one, own: own, local: local)
    }

    private func verdict(
        _ table: RouteTable, _ address: String, port: UInt16 = 443, exemptLiteral: Bool = false,
        privateNames: Bool = false
    ) -> String {
        let verdict = table.view.destinationGuard.verdict(
            for: SocketAddress(ip(address), port: port), exemptLiteral: exemptLiteral,
            privateNames: privateNames)
        switch verdict {
        case .allowed: return "allowed"
        case .denied(let rule): return rule.label
        }
    }

    @Test(
        "T-02: names that may be private are let into private and shared networks and nowhere else",
        arguments: [
            ("10.0.0.1", "allowed"), ("172.16.0.1", "allowed"), ("192.168.0.1", "allowed"), ("100.64.0.1", "allowed"),
            ("fd00::1", "allowed"), ("::ffff:10.0.0.1", "allowed"), ("8.8.8.8", "allowed"),
            ("100.100.100.200", "metadata"), ("169.254.169.254", "metadata"), ("fd00:ec2::254", "metadata"),
            ("127.0.0.1", "loopback"), ("169.254.0.1", "link_local"), ("fe80::1", "link_local"),
            ("192.0.2.1", "documentation"), ("64:ff9b::a00:1", "nat64"),
        ])
    func privateNamesAreLetIntoPrivateNetworksOnly(address: String, expected: String) {
        #expect(verdict(table(), address, privateNames: true) == expected)
    }

    @Test func privateNamesAreNotLetWhereTheConfigurationDeniesOrWeListen() {
        let table = table(
            allow: [("64:ff9b::/96", nil)], deny: [("10.9.0.0/16", nil)], own: ["10.0.0.1:443"], local: ["10.0.0.1"])
        #expect(verdict(table, "10.9.0.1", privateNames: true) == "configured_deny")
        #expect(verdict(table, "10.0.0.1", privateNames: true) == "own_listener")
        // 10.0.0.2, behind a translator that is somebody else's.
        #expect(verdict(table, "64:ff9b::a00:2", privateNames: true) == "private")
    }

    /// Both edges of every block, and the addresses beside them.
    @Test(
        "T-02: each block is refused from its first address to its last",
        arguments: [
            ("0.0.0.0", "unspecified"), ("0.255.255.255", "unspecified"), ("1.0.0.0", "allowed"),
            ("9.255.255.255", "allowed"), ("10.0.0.0", "private"), ("10.255.255.255", "private"),
            ("11.0.0.0", "allowed"),
            ("100.63.255.255", "allowed"), ("100.64.0.0", "cgnat"), ("100.127.255.255", "cgnat"),
            ("100.100.100.199", "cgnat"), ("100.100.100.200", "metadata"), ("100.100.100.201", "cgnat"),
            ("100.128.0.0", "allowed"), ("126.255.255.255", "allowed"), ("127.0.0.0", "loopback"),
            ("127.0.0.1", "loopback"), ("127.255.255.255", "loopback"), ("128.0.0.0", "allowed"),
            ("168.63.129.15", "allowed"), ("168.63.129.16", "metadata"), ("168.63.129.17", "allowed"),
            ("169.253.255.255", "allowed"), ("169.254.0.0", "link_local"), ("169.254.169.253", "link_local"),
            ("169.254.169.254", "metadata"), ("169.254.169.255", "link_local"), ("169.254.255.255", "link_local"),
            ("169.255.0.0", "allowed"), ("172.15.255.255", "allowed"), ("172.16.0.0", "private"),
            ("172.31.255.255", "private"), ("172.32.0.0", "allowed"), ("191.255.255.255", "allowed"),
            ("192.0.0.0", "ietf_protocol"), ("192.0.0.255", "ietf_protocol"), ("192.0.1.0", "allowed"),
            ("192.0.2.0", "documentation"), ("192.0.2.255", "documentation"), ("192.0.3.0", "allowed"),
            ("192.88.98.255", "allowed"), ("192.88.99.1", "six_to_four"), ("192.88.100.0", "allowed"),
            ("192.167.255.255", "allowed"), ("192.168.0.0", "private"), ("192.168.255.255", "private"),
            ("192.169.0.0", "allowed"), ("198.17.255.255", "allowed"), ("198.18.0.0", "benchmarking"),
            ("198.19.255.255", "benchmarking"), ("198.20.0.0", "allowed"), ("198.51.99.255", "allowed"),
            ("198.51.100.0", "documentation"), ("198.51.100.255", "documentation"), ("198.51.101.0", "allowed"),
            ("203.0.112.255", "allowed"), ("203.0.113.0", "documentation"), ("203.0.113.255", "documentation"),
            ("203.0.114.0", "allowed"), ("223.255.255.255", "allowed"), ("224.0.0.0", "multicast"),
            ("239.255.255.255", "multicast"), ("240.0.0.0", "reserved"), ("255.255.255.255", "reserved"),
            ("8.8.8.8", "allowed"), ("1.1.1.1", "allowed"),
        ])
    func everyIPv4BlockIsRefusedWithinItsEdges(address: String, expected: String) {
        #expect(verdict(table(), address) == expected)
    }

    @Test(
        "T-02: so is each block of IPv6",
        arguments: [
            ("::", "unspecified"), ("::1", "loopback"), ("::2", "ipv4_compatible"), ("::7f00:1", "ipv4_compatible"),
            ("::8.8.8.8", "ipv4_compatible"), ("::ffff:ffff", "ipv4_compatible"), ("::1:0:0", "reserved"),
            ("64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"), ("64:ff9b::", "nat64"),
            ("64:ff9b::8.8.8.8", "nat64"),
            ("64:ff9b::169.254.169.254", "nat64"), ("64:ff9b::ffff:ffff", "nat64"), ("64:ff9b::1:0:0", "reserved"),
            ("64:ff9b:1::", "nat64"), ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "nat64"), ("64:ff9b:2::", "reserved"),
            ("100::", "discard"), ("100::ffff:ffff:ffff:ffff", "discard"), ("1fff:ffff::", "reserved"),
            ("2000::", "allowed"), ("2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "allowed"), ("2001::", "teredo"),
            ("2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "teredo"), ("2001:1::", "allowed"), ("2001:2::1", "benchmarking"),
            ("2001:2:1::", "allowed"), ("2001:db7:ffff::", "allowed"), ("2001:db8::", "documentation"),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"), ("2001:db9::", "allowed"),
            ("2001:ffff::", "allowed"), ("2002::", "six_to_four"), ("2002:7f00:1::", "six_to_four"),
            ("2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "six_to_four"), ("2003::", "allowed"),
            ("2606:4700:4700::1111", "allowed"), ("3ffe:ffff::", "allowed"), ("3fff::", "documentation"),
            ("3fff:fff:ffff::", "documentation"), ("3fff:1000::", "allowed"), ("4000::", "reserved"),
            ("5f00::1", "reserved"), ("fbff:ffff::", "reserved"), ("fc00::", "ula"), ("fd00:ec2::253", "ula"),
            ("fd00:ec2::254", "metadata"), ("fd00:ec2::255", "ula"),
            ("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ula"), ("fe00::", "reserved"), ("fe7f:ffff::", "reserved"),
            ("fe80::", "link_local"), ("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link_local"),
            ("fec0::", "site_local"),
            ("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "site_local"), ("ff00::", "multicast"),
            ("ff02::1", "multicast"),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"),
        ])
    func everyIPv6BlockIsRefusedWithinItsEdges(address: String, expected: String) {
        #expect(verdict(table(), address) == expected)
    }

    @Test(
        "T-02: mapped addresses are judged as IPv4",
        arguments: [
            ("::ffff:127.0.0.1", "loopback"), ("::ffff:169.254.169.254", "metadata"), ("::ffff:10.0.0.1", "private"),
            ("::ffff:8.8.8.8", "allowed"), ("::ffff:0.0.0.0", "unspecified"),
        ])
    func mappedAddressesAreJudgedAsIPv4(address: String, expected: String) {
        #expect(verdict(table(), address) == expected)
    }

    @Test("T-02: exemptions name blocks and ports") func exemptionsNameBlocksAndPorts() {
        let table = table(allow: [("10.0.1.0/24", nil), ("10.0.0.1/32", 321...330), ("fd00::/8", 443...443)])
        #expect(verdict(table, "10.0.1.1", port: 1) == "allowed")
        #expect(verdict(table, "10.0.2.0", port: 1) == "private")
        #expect(
            [320, 321, 330, 331].map { verdict(table, "10.0.0.1", port: $0) } == [
                "private", "allowed", "allowed", "private",
            ])
        #expect(verdict(table, "10.0.0.2", port: 321) == "private")
        #expect(verdict(table, "::ffff:10.0.1.1", port: 1) == "allowed")
        #expect(verdict(table, "fd00::1", port: 443) == "allowed")
        #expect(verdict(table, "fd00::1", port: 80) == "ula")
    }

    @Test("T-02: deny beats allow, and public addresses too") func denyBeatsAllow() {
        let table = table(
            allow: [("10.0.0.0/8", nil)], deny: [("10.9.0.0/16", nil), ("1.1.1.1", nil), ("8.8.8.8", 321...321)])
        #expect(verdict(table, "10.8.0.1") == "allowed")
        #expect(verdict(table, "10.9.0.1") == "configured_deny")
        #expect(verdict(table, "::ffff:10.9.0.1") == "configured_deny")
        #expect(verdict(table, "1.1.1.1") == "configured_deny")
        #expect(verdict(table, "8.8.8.8", port: 321) == "configured_deny")
        #expect(verdict(table, "8.8.8.8", port: 320) == "allowed")
    }

    @Test func blocksOfMappedAddressesAreBlocksOfIPv4() {
        let table = table(deny: [("::ffff:8.8.8.0/120", nil), ("::ffff:1.1.1.1", 443...443)])
        #expect(verdict(table, "8.8.8.8") == "configured_deny")
        #expect(verdict(table, "1.1.1.1") == "configured_deny")
    }

    @Test("T-02: an exempted NAT64 prefix carries only what IPv4 may reach") func nat64CarriesOnlyWhatIPv4MayReach() {
        let table = table(allow: [("64:ff9b::/96", nil)], deny: [("1.1.1.1", nil)])
        #expect(verdict(table, "64:ff9b::8.8.8.8") == "allowed")
        #expect(verdict(table, "64:ff9b::127.0.0.1") == "loopback")
        #expect(verdict(table, "64:ff9b::169.254.169.254") == "metadata")
        #expect(verdict(table, "64:ff9b::10.0.0.1") == "private")
        #expect(verdict(table, "64:ff9b::1.1.1.1") == "configured_deny")
    }

    @Test func addressesTheConfigurationWritesAreGood() {
        let table = table(deny: [("10.9.0.0/16", nil)])
        #expect(verdict(table, "10.0.0.1", exemptLiteral: true) == "allowed")
        #expect(verdict(table, "10.9.0.1", exemptLiteral: true) == "allowed")
        #expect(verdict(table, "127.0.0.1", exemptLiteral: true) == "allowed")
    }

    @Test("T-07: an own listener is refused whatever else is said", arguments: [false, true])
    func ownListenersAreRefusedAlways(exemptLiteral: Bool) {
        let table = table(
            allow: [("0.0.0.0/0", nil), ("::/0", nil)], own: ["192.0.2.10:443", "[2001:db8::10]:443"])
        #expect(verdict(table, "192.0.2.10", exemptLiteral: exemptLiteral) == "own_listener")
        #expect(verdict(table, "::ffff:192.0.2.10", exemptLiteral: exemptLiteral) == "own_listener")
        #expect(verdict(table, "2001:db8::10", exemptLiteral: exemptLiteral) == "own_listener")
        #expect(verdict(table, "192.0.2.10", port: 444, exemptLiteral: exemptLiteral) == "allowed")
        #expect(verdict(table, "192.0.2.11", exemptLiteral: exemptLiteral) == "allowed")
        #expect(verdict(table, "64:ff9b::192.0.2.10", exemptLiteral: exemptLiteral) == "own_listener")
    }

    @Test("T-07: a wildcard listener is on every local address") func wildcardListenersAreOnEveryLocalAddress() {
        let table = table(
            allow: [("0.0.0.0/0", nil), ("::/0", nil)], own: ["0.0.0.0:443", "[::]:8443"],
            local: ["192.0.2.10", "2001:db8::10"])
        for address in ["192.0.2.10", "127.0.0.1", "127.9.9.9", "0.0.0.0"] {
            #expect(verdict(table, address, port: 443) == "own_listener", "\(address)")
            #expect(verdict(table, address, port: 8443) == "own_listener", "\(address) reaches [::] too")
            #expect(verdict(table, address, port: 444) == "allowed", "\(address)")
        }
        for address in ["2001:db8::10", "::1", "::"] {
            #expect(verdict(table, address, port: 8443) == "own_listener", "\(address)")
            #expect(verdict(table, address, port: 443) == "allowed", "\(address) does not reach 0.0.0.0")
        }
        #expect(verdict(table, "192.0.2.11", port: 443) == "allowed")
    }

    @Test("T-07: the unspecified address reaches a listener on loopback") func unspecifiedReachesLoopback() {
        let table = table(own: ["127.0.0.1:443", "[::1]:443"])
        #expect(verdict(table, "0.0.0.0") == "own_listener")
        #expect(verdict(table, "::") == "own_listener")
        #expect(verdict(table, "127.0.0.2") == "loopback")
    }

    @Test("T-07: new local addresses come in without a new compile") func ownAddressesAreReplaced() {
        let before = table(allow: [("0.0.0.0/0", nil)], own: ["0.0.0.0:443"])
        #expect(verdict(before, "192.0.2.10") == "allowed")
        let after = RouteTable(
            before, generation: 2, ownListeners: [socketAddress("0.0.0.0:443")], localAddresses: [ip("192.0.2.10")])
        #expect(verdict(after, "192.0.2.10") == "own_listener")
        #expect(verdict(before, "192.0.2.10") == "allowed")
        #expect(after.view.generation == 2)
    }

    @Test func aTableOutlivesTheOneItWasMadeFrom() {
        var first: RouteTable? = WeirRoutingTests.table(configuration([listener("l", [route("r", ["a.example"])])]))
        let second = first.map { RouteTable($0, generation: 2, ownListeners: [], localAddresses: []) }
        first = nil
        #expect(second?.routeName("a.example") == "r")
    }

    @Test func portZeroIsNoListenerYet() {
        #expect(verdict(table(allow: [("127.0.0.0/8", nil)], own: ["127.0.0.1:0"]), "127.0.0.1", port: 0) == "allowed")
    }

    @Test func everyRuleHasALabelOfItsOwn() {
        let labels = GuardRule.allCases.map(\.label)
        #expect(Set(labels).count == labels.count)
        #expect(
            labels.allSatisfy {
                $0.utf8.allSatisfy { $0 == 0x5f || (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) }
            })
    }
}
