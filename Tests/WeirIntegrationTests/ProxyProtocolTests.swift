import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting
import WeirWire

/// PROXY headers taken from clients and sent to origins.
@Suite struct ProxyProtocolTests {
    private let everyLoopback = CIDR(IPAddress(127, 0, 0, 0), prefixLength: 8)

    // MARK: Taking them

    /// PP-25.
    @Test func aPeerThatIsNotTrustedIsResetBeforeItIsRead() throws {
        let configuration = Configuration.listening(.to("origin")).cluster("origin", try refusingAddress()).adjusted {
            $0.main.acceptProxy = AcceptProxy(from: [CIDR(IPAddress(127, 0, 0, 7), prefixLength: 32)])
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        // It has not sent a byte.
        #expect(try proxy.endingOfSilence() == .reset)
        proxy.expectClosed(1, "pp_untrusted")
    }

    /// PP-27: the peer 127.0.0.7 is trusted with a header but is no client; 192.0.2.1 is a client.
    @Test func trustIsForTheSocketsAddressAndAdmissionForTheHeaders() throws {
        let origin = try TestListener()
        let peer = IPAddress(127, 0, 0, 7)
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.main.acceptProxy = AcceptProxy(from: [CIDR(peer, prefixLength: 32)])
            $0.main.clients = .allowing([CIDR(IPAddress(192, 0, 2, 0), prefixLength: 24)])
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let stranger = try proxy.connect(from: peer)
        try stranger.send("PROXY TCP4 198.51.100.9 198.51.100.7 4000 443\r\n")
        #expect(try stranger.ending() == .reset)
        proxy.expectClosed(1, "downstream_denied")

        for header in [Array("PROXY TCP4 192.0.2.1 198.51.100.7 4000 443\r\n".utf8), ProxyHeaderBuilder().bytes] {
            let client = try proxy.connect(from: peer)
            let hello = HelloBuilder().records()
            try client.send(header + hello)
            // PP-03: the header goes no further, and what follows it arrives whole.
            #expect(try origin.accept().receive(exactly: hello.count) == hello)
        }
    }

    /// PP-01.
    @Test func aMissingHeaderIsRefusedAtTheFirstByteThatCannotBeOne() throws {
        let configuration = Configuration.listening(.to("origin")).cluster("origin", try refusingAddress()).adjusted {
            $0.main.acceptProxy = AcceptProxy(from: [everyLoopback])
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let client = try proxy.connect()
        try client.send([0x16])
        #expect(try client.ending() == .reset)
        proxy.expectClosed(1, "pp_missing")
    }

    // MARK: Sending them

    /// PO-01, PO-03: the origin gets the header although the client has not said a word.
    @Test func theHeaderIsThereBeforeTheClientSpeaks() throws {
        let origin = try TestListener()
        let configuration = Configuration.listening(detect: [], .to("origin")).cluster("origin", origin.address) {
            $0.upstream.sendProxy = SendProxy(.v1)
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let client = try proxy.connect()
        let upstream = try origin.accept()
        let line = "PROXY TCP4 127.0.0.1 127.0.0.1 \(client.local.port) \(proxy.address.port)\r\n"
        #expect(try upstream.receive(exactly: line.utf8.count) == Array(line.utf8))
        try upstream.send("220 ready")
        #expect(try client.receive(exactly: 9) == Array("220 ready".utf8))
        try client.send("hello")
        #expect(try upstream.receive(exactly: 5) == Array("hello".utf8))
    }

    /// PO-04.
    @Test func aHeaderOfVersionTwoSaysWhatIsKnownOfTheClient() throws {
        let origin = try TestListener()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address) {
            var options = SendProxy(.v2)
            options.authority = true
            options.alpn = true
            options.uniqueID = true
            options.crc32c = true
            $0.upstream.sendProxy = options
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let client = try proxy.connect()
        let hello = try client.sendHello("Good.Test", alpn: ["h2", "http/1.1"])
        let (header, rest) = try headerAndRest(try origin.accept(), restByteCount: hello.count)
        #expect(header.version == .v2 && header.command == .proxy)
        #expect(header.source == client.local)
        #expect(header.destination == proxy.address)
        #expect(header.authority.withBytes(text) == "Good.Test")
        #expect(header.alpn.withBytes(text) == "h2")
        #expect(header.uniqueID.byteCount == 16)
        #expect(header.crcVerified)
        #expect(rest == hello)
    }

    /// PO-02.
    @Test func anAttemptThatFailedLeavesNoHeaderBehind() throws {
        let origin = try TestListener()
        let configuration = Configuration.listening(.to("origin"))
            .cluster("origin", try refusingAddress(), try refusingAddress(), origin.address) {
                $0.upstream.sendProxy = SendProxy(.v1)
            }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        // Round robin begins somewhere else each time, so some of these meet the endpoints that refuse.
        for _ in 0..<6 {
            let client = try proxy.connect()
            let hello = try client.sendHello("good.test")
            client.finish()
            let line = "PROXY TCP4 127.0.0.1 127.0.0.1 \(client.local.port) \(proxy.address.port)\r\n"
            #expect(try origin.accept().receiveAll() == Array(line.utf8) + hello)
        }
        #expect(proxy.metric("weir_endpoint_connect_failures_total") > 0)
    }

    /// PO-05, PP-07, PP-16: a health check of the peer's own stays one.
    @Test(arguments: [
        Array("PROXY UNKNOWN\r\n".utf8), Array("PROXY UNKNOWN ffff::1 whatever\r\n".utf8),
        ProxyHeaderBuilder(command: 0x20, family: 0, addresses: []).bytes,
        ProxyHeaderBuilder(command: 0x20, family: 0x11, addresses: ProxyHeaderBuilder.inet).bytes,
    ])
    func localConnectionsAreSentOnAsLocal(received: [UInt8]) throws {
        let first = try TestListener()
        let second = try TestListener()
        let configuration = Configuration.listening(.to("v2", "two.test"), .to("v1", "one.test"))
            .cluster("v1", first.address) { $0.upstream.sendProxy = SendProxy(.v1) }
            .cluster("v2", second.address) { $0.upstream.sendProxy = SendProxy(.v2) }
            .adjusted { $0.main.acceptProxy = AcceptProxy(from: [everyLoopback]) }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let one = try proxy.connect()
        try one.send(received)
        try one.sendHello("one.test")
        #expect(try first.accept().receive(exactly: 15) == Array("PROXY UNKNOWN\r\n".utf8))

        let two = try proxy.connect()
        try two.send(received)
        let hello = try two.sendHello("two.test")
        let (header, rest) = try headerAndRest(try second.accept(), restByteCount: hello.count)
        #expect(header.command == .local && header.source == nil)
        #expect(rest == hello)
    }

    /// PO-08: through two proxies of two configurations in one process.
    @Test func theFirstClientsAddressSurvivesTwoHops() throws {
        let origin = try TestListener()
        let behind = Configuration.listening(detect: [], .to("origin"))
            .cluster("origin", origin.address) { $0.upstream.sendProxy = SendProxy(.v1) }
            .adjusted { $0.main.acceptProxy = AcceptProxy(from: [everyLoopback]) }
        let inner = try Proxy.start(behind)
        defer { inner.stop() }
        let before = Configuration.listening(detect: [], .to("inner"))
            .cluster("inner", inner.address) { $0.upstream.sendProxy = SendProxy(.v2) }
        let outer = try Proxy.start(before)
        defer { outer.stop() }
        let client = try outer.connect()
        let line = "PROXY TCP4 127.0.0.1 127.0.0.1 \(client.local.port) \(outer.address.port)\r\n"
        #expect(try origin.accept().receive(exactly: line.utf8.count) == Array(line.utf8))
    }

    private func text(_ bytes: Span<UInt8>) -> String {
        String(decoding: bytes.indices.map { bytes[$0] }, as: UTF8.self)
    }

    /// Reads a header with the parser, and `restByteCount` bytes that follow it.
    private func headerAndRest(
        _ connection: TestConnection, restByteCount: Int
    ) throws -> (header: ProxyHeader, rest: [UInt8]) {
        var parser = ProxyHeaderParser()
        while true {
            let byte = try connection.receive(exactly: 1)
            switch parser.consume(byte.span) {
            case .needMore: continue
            case .complete(let header, _): return (header, try connection.receive(exactly: restByteCount))
            case .refused(let refusal): throw refusal
            }
        }
    }
}
