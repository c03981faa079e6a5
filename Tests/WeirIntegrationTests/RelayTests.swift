import Glibc
import Synchronization
import Testing
import Weir
import WeirMemory
import WeirModel
import WeirNet
import WeirTesting

/// What happens to bytes and ends once both sides are open.
@Suite struct RelayTests {
    /// RS-02.
    @Test func aClientThatHasFinishedStillGetsTheAnswer() throws {
        let origin = try TestListener()
        let proxy = try Proxy.start(configuration(origin))
        defer { proxy.stop() }
        let (client, upstream) = try proxy.relayed(to: origin)
        client.finish()
        #expect(try upstream.receive() == [], "FIN has come")
        try upstream.send("late answer")
        upstream.finish()
        #expect(try client.receiveAll() == Array("late answer".utf8))
        proxy.expectClosed(1, "finished")
    }

    /// RS-02, the mirror.
    @Test func anOriginThatHasFinishedStillGetsTheRequest() throws {
        let origin = try TestListener()
        let proxy = try Proxy.start(configuration(origin))
        defer { proxy.stop() }
        let (client, upstream) = try proxy.relayed(to: origin)
        upstream.finish()
        #expect(try client.receive() == [], "FIN has come")
        try client.send("late request")
        client.finish()
        #expect(try upstream.receiveAll() == Array("late request".utf8))
        proxy.expectClosed(1, "finished")
    }

    @Test func whereHalfCloseIsOffOneEndEndsBoth() throws {
        let origin = try TestListener()
        let proxy = try Proxy.start(configuration(origin).adjusted { $0.main.halfClose = false })
        defer { proxy.stop() }
        let (client, upstream) = try proxy.relayed(to: origin)
        client.finish()
        #expect(try upstream.receive() == [])
        #expect(try client.receive() == [], "the upstream has not finished, but the session has")
    }

    /// RS-06: a reset is not turned into an end that makes a cut stream look complete.
    @Test func aResetByTheClientReachesTheOriginAsOne() throws {
        let origin = try TestListener()
        let proxy = try Proxy.start(configuration(origin))
        defer { proxy.stop() }
        let (client, upstream) = try proxy.relayed(to: origin)
        client.reset()
        #expect(try upstream.ending() == .reset)
        proxy.expectClosed(1, "downstream_reset")
    }

    /// RS-06.
    @Test func aResetByTheOriginReachesTheClientAsOne() throws {
        let origin = try TestListener()
        let proxy = try Proxy.start(configuration(origin))
        defer { proxy.stop() }
        let (client, upstream) = try proxy.relayed(to: origin)
        upstream.reset()
        #expect(try client.ending() == .reset)
        proxy.expectClosed(1, "upstream_reset")
    }

    /// RS-06 behind back-pressure: nobody reads, so nothing is received from the side that resets.
    @Test func aResetIsSeenWhileTheOtherSideReadsNothing() throws {
        let origin = try TestListener()
        let proxy = try Proxy.start(configuration(origin))
        defer { proxy.stop() }
        let (client, upstream) = try proxy.relayed(to: origin)
        let stream = TestStream(seed: 1)
        var sentByteCount = 0
        try waitForStandstill(proxy) { sentByteCount += try client.sendWhatFits(stream, from: sentByteCount) }
        client.reset()
        #expect(try upstream.ending() == .reset)
    }

    /// RS-07: the client leaves while its name is looked up. Nothing is connected and nothing stays.
    @Test func aClientThatLeavesBeforeTheOriginIsFoundIsForgotten() throws {
        let server = try DNSServer()
        defer { server.stop() }
        let origin = try TestListener()
        server.script("slow.test", .held(.records([.address(.v4Loopback)])))
        let configuration = Configuration.listening(.forward(port: .fixed(origin.address.port))).adjusted {
            $0.resolver.servers = [server.address]
            $0.destinations.allow = [.init(CIDR(.v4Loopback, prefixLength: 32))]
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let client = try proxy.connect()
        try client.sendHello("slow.test")
        eventually("the name is asked for") { server.queryCount("slow.test") == 2 }
        client.reset()
        proxy.expectClosed(1, "downstream_connect_abort")
        server.releaseHeld()
        // The answer is there when the next client is served from it.
        let next = try proxy.connect()
        let hello = try next.sendHello("slow.test")
        #expect(try origin.accept().receive(exactly: hello.count) == hello)
        #expect(try origin.acceptIfAny() == nil)
    }

    /// RS-03, RS-05: neither side reads until the proxy stands still with what it may hold; then every byte arrives.
    @Test func sixtyFourMebibytesEachWayArriveWholeThroughAStall() throws {
        let byteCount = 64 << 20
        let origin = try TestListener()
        let proxy = try Proxy.start(configuration(origin))
        defer { proxy.stop() }
        let (client, upstream) = try proxy.relayed(to: origin)
        let request = TestStream(seed: 1)
        let answer = TestStream(seed: 2)
        let senders = [
            try Background("sender") {
                try client.send(request, byteCount: byteCount)
                client.finish()
            },
            try Background("sender") {
                try upstream.send(answer, byteCount: byteCount)
                upstream.finish()
            },
        ]
        waitForStandstill(proxy) {}
        #expect(proxy.metric("weir_relayed_bytes_total") < 2 * byteCount, "nobody has read yet")
        #expect(proxy.metric("weir_buffers_outstanding") <= 8)
        let receivers = [
            try Background("receiver") {
                try upstream.receive(request, byteCount: byteCount)
                #expect(try upstream.receive() == [])
            },
            try Background("receiver") {
                try client.receive(answer, byteCount: byteCount)
                #expect(try client.receive() == [])
            },
        ]
        for thread in senders + receivers { #expect(thread.failure == nil) }
        // RS-12. The hello counts as well.
        eventually("all is given back") { proxy.metric("weir_sessions_open") == 0 }
        let helloByteCount = HelloBuilder().records().count
        #expect(proxy.metric("weir_downstream_received_bytes_total") == byteCount + helloByteCount)
        #expect(proxy.metric("weir_downstream_sent_bytes_total") == byteCount)
        #expect(proxy.metric("weir_buffers_outstanding") == 0)
    }

    /// RS-10.
    @Test func singleBytesArriveInOrder() throws {
        let origin = try TestListener()
        let proxy = try Proxy.start(configuration(origin))
        defer { proxy.stop() }
        let (client, upstream) = try proxy.relayed(to: origin)
        for value in 0..<1000 {
            let byte = [UInt8(truncatingIfNeeded: value)]
            try client.send(byte)
            #expect(try upstream.receive(exactly: 1) == byte)
            try upstream.send(byte)
            #expect(try client.receive(exactly: 1) == byte)
        }
    }

    private func configuration(_ origin: TestListener) -> Configuration {
        .listening(.to("origin")).cluster("origin", origin.address)
    }

    /// Waits until what the proxy has relayed does not grow from one look to the next. Being wrong about it would only
    /// make the test easier.
    private func waitForStandstill(_ proxy: Proxy, pushing: () throws -> Void) rethrows {
        var before = -1
        try eventually("the proxy stands still") {
            try pushing()
            usleep(50_000)
            let now = proxy.metric("weir_relayed_bytes_total")
            defer { before = now }
            return now == before && now > 0
        }
    }
}
