import Testing
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

@Suite struct RouteMatchingTests {
    private func table(_ routes: Route...) -> RouteTable {
        WeirRoutingTests.table(configuration([listener("l", routes)]))
    }

    @Test("CH-37: a wildcard takes one or more labels, never the suffix itself")
    func aWildcardTakesOneOrMoreLabelsButNotItsSuffix() {
        let table = table(route("w", ["*.example.com"]))
        #expect(table.routeName("a.example.com") == "w")
        #expect(table.routeName("a.b.c.example.com") == "w")
        #expect(table.routeName("example.com") == nil)
        #expect(table.routeName("badexample.com") == nil)
        #expect(table.routeName("a.example.com.evil") == nil)
        #expect(table.routeName("example") == nil)
    }

    @Test("CH-37: exact before the longest suffix before any name before no constraint")
    func theMostSpecificPatternTakesIt() {
        let table = table(
            route("none"), route("any", ["*"]), route("short", ["*.com"]), route("long", ["*.example.com"]),
            route("exact", ["api.example.com"]))
        #expect(table.routeName("api.example.com") == "exact")
        #expect(table.routeName("x.api.example.com") == "long")
        #expect(table.routeName("www.example.com") == "long")
        #expect(table.routeName("example.com") == "short")
        #expect(table.routeName("other.com") == "short")
        #expect(table.routeName("com") == "any")
        #expect(table.routeName("example.org") == "any")
        #expect(table.routeName("") == "none")
    }

    @Test func oneNameMayBeExactAndASuffix() {
        let table = table(route("w", ["*.example.com"]), route("e", ["example.com"]))
        #expect(table.routeName("example.com") == "e")
        #expect(table.routeName("a.example.com") == "w")
    }

    @Test func amongEqualPatternsTheFirstWhoseConstraintsHoldTakesIt() {
        let table = table(
            route("ten", ["a.example"], clients: ["10.0.0.0/8"]), route("rest", ["a.example"]),
            route("never", ["a.example"]))
        #expect(table.routeName("a.example", client: "10.1.2.3") == "ten")
        #expect(table.routeName("a.example", client: "192.0.2.1") == "rest")
    }

    @Test func aFailedConstraintFallsThroughToLessSpecificPatterns() {
        let table = table(
            route("exact", ["a.b.example"], clients: ["10.0.0.1"]),
            route("long", ["*.b.example"], clients: ["10.0.0.2"]),
            route("short", ["*.example"], clients: ["10.0.0.3"]),
            route("any", ["*"], clients: ["10.0.0.4"]),
            route("none", clients: ["10.0.0.5"]))
        let taken = (1...6).map { table.routeName("a.b.example", client: "10.0.0.\($0)") }
        #expect(taken == ["exact", "long", "short", "any", "none", nil])
    }

    @Test func aConnectionWithoutANameMeetsOnlyRoutesWithoutNames() {
        let named = table(route("any", ["*"]), route("exact", ["a.example"]), route("w", ["*.example"]))
        #expect(named.routeName("") == nil)
        #expect(table(route("none"), route("any", ["*"])).routeName("") == "none")
    }

    @Test func aRouteTakesEachOfItsNames() {
        let table = table(route("r", ["a.example", "*.b.example", "c.example"]))
        #expect(["a.example", "x.b.example", "c.example"].map { table.routeName($0) } == ["r", "r", "r"])
        #expect(table.routeName("b.example") == nil)
    }

    @Test("T-06: a mapped client meets the rules of its IPv4 address") func mappedClientsAreUnmapped() {
        let table = table(route("ten", clients: ["10.0.0.0/8"]), route("six", clients: ["::/0"]))
        #expect(table.routeName("", client: "::ffff:10.0.0.1") == "ten")
        #expect(table.routeName("", client: "::ffff:11.0.0.1") == nil)
        #expect(table.routeName("", client: "2001:db8::1") == "six")
        #expect(
            WeirRoutingTests.table(configuration([listener("l", [route("m", clients: ["::ffff:10.0.0.0/104"])])]))
                .routeName("", client: "10.0.0.1") == "m")
    }

    @Test("CH-34: one of the listed protocols is offered") func protocolsAreComparedByteForByte() {
        let table = table(route("h2", ["*"], alpn: ["h2", "http/1.1"]), route("rest", ["*"]))
        #expect(table.routeName("a.example", alpn: offer("h2")) == "h2")
        #expect(table.routeName("a.example", alpn: offer("x", "http/1.1")) == "h2")
        #expect(table.routeName("a.example", alpn: offer("H2")) == "rest")
        #expect(table.routeName("a.example", alpn: offer("h2c")) == "rest")
        #expect(table.routeName("a.example", alpn: .none) == "rest")
    }

    @Test("CH-35: acme-tls/1 is taken only where it is offered alone") func validationsAreKnownByTheirOnlyProtocol() {
        let table = table(route("acme", ["*"], alpn: ["acme-tls/1"]), route("rest", ["*"]))
        #expect(table.routeName("a.example", alpn: offer("acme-tls/1")) == "acme")
        #expect(table.routeName("34.100.51.198.in-addr.arpa", alpn: offer("acme-tls/1")) == "acme")
        #expect(table.routeName("a.example", alpn: offer("acme-tls/1", "h2")) == "rest")
        #expect(table.routeName("a.example", alpn: offer("h2", "acme-tls/1")) == "rest")
        #expect(table.routeName("a.example", alpn: offer("acme-tls/1", "acme-tls/1")) == "rest")
    }

    @Test func clientsAndProtocolsMustBothHold() {
        let table = table(route("r", ["*"], clients: ["10.0.0.0/8"], alpn: ["h2"]))
        #expect(table.routeName("a.example", client: "10.0.0.1", alpn: offer("h2")) == "r")
        #expect(table.routeName("a.example", client: "11.0.0.1", alpn: offer("h2")) == nil)
        #expect(table.routeName("a.example", client: "10.0.0.1", alpn: offer("h3")) == nil)
    }

    @Test func listenersHaveTheirOwnNames() {
        let table = WeirRoutingTests.table(
            configuration([
                listener("a", [route("a1", ["x.example"]), route("a2", ["*.w.example"])]),
                listener("b", port: 444, [route("b1", ["x.example"])]),
            ]))
        #expect(table.routeName("x.example", listener: 0) == "a1")
        #expect(table.routeName("x.example", listener: 1) == "b1")
        #expect(table.routeName("a.w.example", listener: 1) == nil)
    }

    @Test func theLongestNamesAndSuffixesMatch() {
        let labels = Array(repeating: "a", count: 127)
        let name = labels.joined(separator: ".")
        let suffix = labels.dropFirst().joined(separator: ".")
        let table = table(route("w", ["*." + suffix]), route("s", ["*.a"]))
        #expect(name.utf8.count == 253)
        #expect(table.routeName(name) == "w")
        #expect(table.routeName(suffix) == "s")
    }

    /// Every name under every subset of patterns, against the rules written out plainly.
    @Test func everySubsetOfPatternsAgreesWithThePlainRules() {
        let patterns = ["a.b.c", "*.b.c", "*.c", "b.c", "*.a.b.c", "*", ""]
        let names = ["a.b.c", "x.b.c", "b.c", "c", "x.c", "x.a.b.c", "x.y.a.b.c", "a", "ab.c", ""]
        for subset in 0..<1 << patterns.count {
            let chosen = patterns.indices.filter { subset & 1 << $0 != 0 }.map { patterns[$0] }
            let table = WeirRoutingTests.table(
                configuration([listener("l", chosen.map { route($0, $0.isEmpty ? [] : [$0]) })]))
            for name in names {
                #expect(table.routeName(name) == plainMatch(name, chosen), "\(name) among \(chosen)")
            }
        }
    }

    private func plainMatch(_ name: String, _ patterns: [String]) -> String? {
        let suffixes = patterns.filter { $0.hasPrefix("*.") && name.hasSuffix($0.dropFirst()) }
        if !name.isEmpty, patterns.contains(name) { return name }
        if let longest = suffixes.max(by: { $0.utf8.count < $1.utf8.count }) { return longest }
        if !name.isEmpty, patterns.contains("*") { return "*" }
        return patterns.contains("") ? "" : nil
    }

    @Test("CH-37: the answer is the same among 3 and 100,000 routes") func theSizeOfTheTableChangesNothing() {
        let three = [route("exact", ["api.example.com"]), route("wild", ["*.example.com"]), route("any", ["*"])]
        let others = (0..<100_000).map { number in
            route("r\(number)", [number % 4 == 0 ? "*.w\(number).example.net" : "h\(number).example.net"])
        }
        let small = table3(three)
        let large = table3(Array(others[..<50_000]) + three + Array(others[50_000...]))
        for name in ["api.example.com", "x.example.com", "example.com", "h1.example.org", "com", "a.b.example.com", ""]
        {
            #expect(large.routeName(name) == small.routeName(name), "\(name)")
        }
        let misrouted = stride(from: 0, to: 100_000, by: 97).filter { number in
            let name = number % 4 == 0 ? "x.w\(number).example.net" : "h\(number).example.net"
            return large.routeName(name) != "r\(number)"
        }
        #expect(misrouted.isEmpty)
    }

    private func table3(_ routes: [Route]) -> RouteTable {
        WeirRoutingTests.table(configuration([listener("l", routes)]))
    }

    /// Names chosen for one key mean nothing for another; under every key the answers are the same.
    @Test(arguments: [0, 1, 2] as [UInt64]) func theKeyDecidesNothing(seed: UInt64) {
        let table = RouteTable(
            compiling: configuration([listener("l", [route("e", ["a.example"]), route("w", ["*.example"])])]),
            slots: ["l": 0], generation: 1, key: SipKey(low: seed, high: ~seed), metricIndex: { _ in 0 })
        #expect(["a.example", "b.example", "example"].map { table.routeName($0) } == ["e", "w", nil])
    }
}
