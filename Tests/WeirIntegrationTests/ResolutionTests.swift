import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// Dynamic forward: the server name is looked up at a DNS server, checked, and connected to.
@Suite struct ResolutionTests {
    private let loopback = CIDR(IPAddress(127, 0, 0, 0), prefixLength: 8)

    @Test func aNameIsLookedUpOnceAndConnectedTo() throws {
        let server = try DNSServer()
        defer { server.stop() }
        server.script("good.test", addresses: [.v4Loopback])
        let origin = try TestOrigin.answering("found")
        let proxy = try Proxy.start(configuration(server, port: origin.address.port))
        defer { proxy.stop() }
        for _ in 0..<20 { #expect(try proxy.textAnswer(to: "Good.Test.") == "found") }
        #expect(server.queryCount("good.test", .a) == 1)
        #expect(try proxy.answer(to: "missing.test") == alert(112))
        proxy.expectClosed(1, "upstream_dns_no_such_name")
    }

    /// RFC 8305: IPv6 first, IPv4 where it fails.
    @Test func bothFamiliesAreTried() throws {
        let server = try DNSServer()
        defer { server.stop() }
        server.script("both.test", addresses: [.v4Loopback, .v6Loopback])
        server.script("four.test", addresses: [.v4Loopback, .v6Loopback])
        let v6 = try TestOrigin.answering("v6", on: .v6Loopback)
        let v4 = try TestOrigin.answering("v4")
        let forwards = Configuration.listening(.forward(port: .fixed(v6.address.port))).adjusted {
            $0.listeners.append(.local("second", [.forward(port: .fixed(v4.address.port))]))
            $0.resolver.servers = [server.address]
            $0.destinations.allow = [.init(loopback), .init(CIDR(.v6Loopback, prefixLength: 128))]
        }
        let proxy = try Proxy.start(forwards)
        defer { proxy.stop() }
        #expect(try proxy.textAnswer(to: "both.test") == "v6")
        #expect(try proxy.textAnswer(to: "four.test", 1) == "v4", "nobody listens on that port of ::1")
    }

    @Test func theNextAddressIsTriedWhereOneRefuses() throws {
        let server = try DNSServer()
        defer { server.stop() }
        // Nobody listens on the first two.
        server.script("three.test", addresses: [IPAddress(127, 0, 0, 2), IPAddress(127, 0, 0, 3), .v4Loopback])
        let origin = try TestOrigin.answering("found")
        let proxy = try Proxy.start(configuration(server, port: origin.address.port))
        defer { proxy.stop() }
        #expect(try proxy.textAnswer(to: "three.test") == "found")
    }

    @Test func anOriginThatRefusesIsReported() throws {
        let server = try DNSServer()
        defer { server.stop() }
        server.script("closed.test", addresses: [.v4Loopback])
        let proxy = try Proxy.start(configuration(server, port: try refusingAddress().port))
        defer { proxy.stop() }
        #expect(try proxy.answer(to: "closed.test") == alert(80))
        proxy.expectClosed(1, "upstream_connect_refused")
    }

    /// T-02: without an exemption no name leads into this machine, its networks or a metadata service.
    @Test(arguments: [
        ("loopback.test", IPAddress.v4Loopback, "loopback"), ("private.test", IPAddress(10, 0, 0, 1), "private"),
        ("metadata.test", IPAddress(169, 254, 169, 254), "metadata"), ("loopback6.test", .v6Loopback, "loopback"),
        ("mapped.test", IPAddress.v4Loopback.mapped, "loopback"),
    ])
    func namesThatLeadInsideAreRefused(name: String, address: IPAddress, rule: String) throws {
        let server = try DNSServer()
        defer { server.stop() }
        server.script(name, addresses: [address])
        let origin = try TestOrigin.echo()
        let open = configuration(server, port: origin.address.port)
        let proxy = try Proxy.start(open.adjusted { $0.destinations.allow = [] })
        defer { proxy.stop() }
        #expect(try proxy.answer(to: name) == alert(49))
        #expect(proxy.metric("weir_guard_denied_total", "rule=\"\(rule)\"") == 1)
        proxy.expectClosed(1, "local_destination_denied")
        #expect(origin.acceptedCount == 0)
    }

    /// T-07: although the address is exempt.
    @Test func aNameThatLeadsBackToAListenerIsRefused() throws {
        let server = try DNSServer()
        defer { server.stop() }
        server.script("self.test", addresses: [.v4Loopback])
        let own = Configuration.listening(.forward(port: .listener)).adjusted {
            $0.resolver.servers = [server.address]
            $0.destinations.allow = [.init(loopback)]
        }
        let proxy = try Proxy.start(own)
        defer { proxy.stop() }
        #expect(try proxy.answer(to: "self.test") == alert(49))
        #expect(proxy.metric("weir_accepted_connections_total") == 1)
        #expect(proxy.metric("weir_guard_denied_total", "rule=\"own_listener\"") == 1)
    }

    /// T-03: a name that answers a good address first and a forbidden one later; no answer lives longer than its check.
    @Test func rebindingANameDoesNotLeadInside() throws {
        let server = try DNSServer()
        defer { server.stop() }
        let good = IPAddress(127, 0, 0, 9)
        server.script("flip.test", .a, .records([.address(good, ttl: 0)]), .records([.address(.v4Loopback, ttl: 0)]))
        server.script("flip.test", .aaaa, .records([]))
        server.script("mixed.test", addresses: [.v4Loopback, good])
        let outside = try TestOrigin.answering("outside", on: good)
        let inside = try TestOrigin.answering("inside", port: outside.address.port)
        let configuration = configuration(server, port: outside.address.port).adjusted {
            $0.destinations.allow = [.init(CIDR(good, prefixLength: 32))]
            $0.resolver.ttlMin = .zero
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try proxy.textAnswer(to: "flip.test") == "outside")
        try eventually("the second answer is used, and refused") {
            let answer = try proxy.answer(to: "flip.test")
            #expect(answer == alert(49) || answer == Array("outside".utf8))
            return answer == alert(49)
        }
        #expect(try proxy.textAnswer(to: "mixed.test") == "outside", "of several addresses the good one")
        #expect(inside.acceptedCount == 0)
    }

    /// P-19.
    @Test func aDNSOutageLeavesKnownNamesAndOtherRoutesAlone() throws {
        let server = try DNSServer()
        defer { server.stop() }
        server.script("known.test", addresses: [.v4Loopback], ttl: 0)
        let origin = try TestOrigin.answering("found")
        let configuration = configuration(server, port: origin.address.port)
            .cluster("fixed", origin.address).adjusted {
                $0.main.routes.append(.to("fixed", "fixed.test"))
                $0.resolver.ttlMin = .zero
                $0.resolver.timeout = .milliseconds(200)
            }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try proxy.textAnswer(to: "known.test") == "found")
        server.setSilent(true)
        // Each of these may wait for the server first.
        for _ in 0..<3 { #expect(try proxy.textAnswer(to: "known.test") == "found") }
        try eventually("an answer past its time has served") {
            _ = try proxy.textAnswer(to: "known.test")
            return proxy.metric("weir_dns_stale_served_total") > 0
        }
        let waiting = try proxy.connect()
        try waiting.sendHello("unknown.test")
        #expect(try proxy.textAnswer(to: "fixed.test") == "found")
        #expect(try waiting.receiveAll() == alert(80))
        proxy.expectClosed(1, "upstream_dns_timeout")
        server.setSilent(false)
        server.script("late.test", addresses: [.v4Loopback])
        #expect(try proxy.textAnswer(to: "late.test") == "found", "the resolver is well again")
    }

    @Test func aNameInTheHostsFileNeedsNoServer() throws {
        let server = try DNSServer()
        defer { server.stop() }
        let origin = try TestOrigin.answering("found")
        let proxy = try Proxy.start(configuration(server, port: origin.address.port))
        defer { proxy.stop() }
        #expect(try proxy.textAnswer(to: "localhost") == "found")
        #expect(server.queryCount("localhost") == 0)
    }

    /// An endpoint may be a name too; what it resolves to is checked like any other.
    @Test func anEndpointsNameIsResolved() throws {
        let server = try DNSServer()
        defer { server.stop() }
        server.script("origin.internal", addresses: [.v4Loopback])
        let origin = try TestOrigin.answering("found")
        let endpoint = Endpoint(host: .name(try ServerName("origin.internal")), port: origin.address.port)
        let configuration = Configuration.listening(.to("named")).adjusted {
            $0.clusters = [Cluster(name: "named", endpoints: [endpoint])]
            $0.resolver.servers = [server.address]
            $0.destinations.allow = [.init(loopback)]
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try proxy.textAnswer(to: "whatever.test") == "found")
    }

    /// Any name, to `port` of loopback addresses, which are exempt from the guard.
    private func configuration(_ server: DNSServer, port: UInt16) -> Configuration {
        Configuration.listening(.forward(port: .fixed(port))).adjusted {
            $0.resolver.servers = [server.address]
            $0.destinations.allow = [.init(loopback)]
        }
    }
}
