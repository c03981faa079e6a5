import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// Where a connection goes, by real hellos and request heads.
@Suite struct RoutingTests {
    /// CH-18, CH-19, CH-37.
    @Test func exactNamesComeBeforeWildcardsAndThoseBeforeTheDefault() throws {
        let exact = try TestOrigin.answering("exact")
        let wildcard = try TestOrigin.answering("wildcard")
        let other = try TestOrigin.answering("default")
        let configuration = Configuration.listening(
            .to("other"), .to("wildcard", "*.good.test"), .to("exact", "api.good.test")
        ).cluster("exact", exact.address).cluster("wildcard", wildcard.address).cluster("other", other.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try proxy.textAnswer(to: "api.good.test") == "exact")
        #expect(try proxy.textAnswer(to: "API.Good.Test.") == "exact")
        #expect(try proxy.textAnswer(to: "www.good.test") == "wildcard")
        #expect(try proxy.textAnswer(to: "a.b.good.test") == "wildcard")
        #expect(try proxy.textAnswer(to: "good.test") == "default")
        #expect(try proxy.textAnswer(to: "elsewhere.test") == "default")
        #expect(try proxy.textAnswer(to: nil) == "default")
    }

    @Test func oneListenerServesTLSAndHTTPByTheSameNames() throws {
        let first = try TestOrigin.answering("first")
        let second = try TestOrigin.answering("second")
        let configuration = Configuration.listening(
            detect: [.tls, .http], .to("first", "one.test"), .to("second", "two.test")
        ).cluster("first", first.address).cluster("second", second.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try proxy.textAnswer(to: "one.test") == "first")
        #expect(try proxy.textAnswer(to: "two.test") == "second")
        #expect(try requestAnswer(proxy, host: "one.test") == "first")
        #expect(try requestAnswer(proxy, host: "Two.Test:8080") == "second")
        #expect(try requestAnswer(proxy, host: "three.test").hasPrefix("HTTP/1.1 421 "))
    }

    /// The origin gets every byte that the route was read from, in its own spelling, and what follows it.
    @Test func theHelloArrivesAsItWasSent() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin", "good.test")).cluster("origin", origin.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let client = try proxy.connect()
        let hello = try client.sendHello("GOOD.test")
        try client.send("early data")
        client.finish()
        #expect(try client.receiveAll() == hello + Array("early data".utf8))
    }

    /// CH-01: every byte in a segment of its own.
    @Test func aHelloMayComeByteByByte() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin", "good.test")).cluster("origin", origin.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let client = try proxy.connect()
        let hello = HelloBuilder(serverName: "good.test").records()
        for byte in hello { try client.send([byte]) }
        #expect(try client.receive(exactly: hello.count) == hello)
    }

    /// RS-01.
    @Test func aServerThatSpeaksFirstIsHeardWhereNothingIsDetected() throws {
        let origin = try TestOrigin.greeting("220 mail.test\r\n")
        let configuration = Configuration.listening(detect: [], .to("origin")).cluster("origin", origin.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let client = try proxy.connect()
        #expect(try client.receive(exactly: 15) == Array("220 mail.test\r\n".utf8))
        try client.send("EHLO")
        client.finish()
        #expect(try client.receiveAll() == Array("EHLO".utf8))
    }

    /// CH-38.
    @Test func aNameWithoutARouteGetsTheAlertUnrecognizedName() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin", "good.test")).cluster("origin", origin.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try proxy.answer(to: "bad.test") == alert(112))
        #expect(try proxy.answer(to: nil) == alert(112))
        #expect(origin.acceptedCount == 0)
    }

    /// T-05: a default route is for hellos without a name, not for ones that are broken (CH-15: two server_names).
    @Test func aBrokenHelloDoesNotTakeTheDefaultRoute() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let client = try proxy.connect()
        try client.send(HelloBuilder(extensions: [.serverName("a.test"), .serverName("b.test")]).records())
        #expect(try client.receiveAll() == alert(47))
        #expect(origin.acceptedCount == 0)
    }

    @Test func everyDenialIsToldInTheClientsProtocol() throws {
        let configuration = Configuration.listening(
            detect: [.tls, .http], .deny(.unrecognizedName, "name.test"), .deny(.accessDenied, "access.test"),
            .deny(.close, "close.test"), .deny(.reset, "reset.test"))
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try proxy.answer(to: "name.test") == alert(112))
        #expect(try proxy.answer(to: "access.test") == alert(49))
        #expect(try proxy.answer(to: "close.test") == [])
        #expect(throws: TestFailure.reset("receive")) { try proxy.answer(to: "reset.test") }
        #expect(try requestAnswer(proxy, host: "name.test").hasPrefix("HTTP/1.1 421 "))
        #expect(try requestAnswer(proxy, host: "access.test").hasPrefix("HTTP/1.1 403 "))
        #expect(try requestAnswer(proxy, host: "close.test") == "")
        #expect(throws: TestFailure.reset("receive")) { try requestAnswer(proxy, host: "reset.test") }
        proxy.expectClosed(8, "local_route_denied")
    }

    /// T-01.
    @Test func aClientOutsideTheListedNetworksIsReset() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.main.clients = .allowing([CIDR(IPAddress(127, 0, 0, 9), prefixLength: 32)])
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        #expect(try proxy.endingOfSilence() == .reset)
        let welcome = try proxy.connect(from: IPAddress(127, 0, 0, 9))
        let hello = try welcome.sendHello("good.test")
        #expect(try welcome.receive(exactly: hello.count) == hello)
        proxy.expectClosed(1, "downstream_denied")
    }

    private func requestAnswer(_ proxy: Proxy, host: String) throws -> String {
        let client = try proxy.connect()
        try client.send("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n")
        return String(decoding: try client.receiveAll(), as: UTF8.self)
    }
}
