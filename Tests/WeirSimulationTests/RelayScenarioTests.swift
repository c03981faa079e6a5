import Testing
import WeirEngine
import WeirMemory
import WeirModel
import WeirNet
import WeirTelemetry
import WeirTesting

@Suite struct RelayScenarioTests {
    /// A session with both sides open and nothing more to say.
    private func opened(_ scene: Scene = Scene()) throws -> (SimulatedProxy, SimulatedConnection, SimulatedConnection) {
        let proxy = scene.start()
        let client = proxy.client(hello())
        try #require(proxy.run { proxy.upstreams.first?.received.count == hello().count })
        return (proxy, client, proxy.upstreams[0])
    }

    private func expectAllHome(_ proxy: SimulatedProxy) {
        proxy.run(for: .seconds(2))
        #expect(proxy.outstanding() == [])
    }

    // RS-02
    @Test func clientsEndIsPassedOnAndTheAnswerStillComes() throws {
        let (proxy, client, upstream) = try opened()
        proxy.send("question", client)
        proxy.driver.shutDown(client)
        #expect(proxy.run { upstream.hasReadEnd })
        #expect(upstream.received == hello() + Array("question".utf8))
        proxy.run(for: .milliseconds(100))
        #expect(client.sawEndAt == nil)
        proxy.send("answer", upstream)
        proxy.driver.shutDown(upstream)
        #expect(proxy.run { client.hasReadEnd })
        #expect(text(client.received) == "answer")
        #expect(proxy.onlyReason == "finished")
        #expect(proxy.records[0].flags.contains(.halfClosed))
        expectAllHome(proxy)
    }

    // RS-02
    @Test func upstreamsEndIsPassedOnAndTheClientStillSends() throws {
        let (proxy, client, upstream) = try opened()
        proxy.send("news", upstream)
        proxy.driver.shutDown(upstream)
        #expect(proxy.run { client.hasReadEnd })
        #expect(text(client.received) == "news")
        proxy.run(for: .milliseconds(100))
        #expect(upstream.sawEndAt == nil)
        proxy.send("thanks", client)
        proxy.driver.shutDown(client)
        #expect(proxy.run { upstream.hasReadEnd })
        #expect(upstream.received == hello() + Array("thanks".utf8))
        #expect(proxy.onlyReason == "finished")
        expectAllHome(proxy)
    }

    // RS-02, switched off
    @Test func withoutHalfCloseOneEndIsTheEnd() throws {
        let (proxy, client, upstream) = try opened(Scene { listener, _ in listener.halfClose = false })
        proxy.send("bye", client)
        proxy.driver.shutDown(client)
        #expect(proxy.run { upstream.hasReadEnd && client.hasReadEnd })
        #expect(upstream.received == hello() + Array("bye".utf8))
        #expect(proxy.onlyReason == "finished")
        expectAllHome(proxy)
    }

    // RS-01
    @Test func upstreamMaySpeakFirst() throws {
        let proxy = Scene.plain().start()
        proxy.onUpstream = { proxy.send("220 ready\r\n", $0) }
        let client = proxy.client()
        #expect(proxy.run { text(client.received) == "220 ready\r\n" })
        proxy.send("QUIT\r\n", client)
        #expect(proxy.run { text(proxy.upstreams[0].received) == "QUIT\r\n" })
    }

    // RS-06
    @Test(arguments: [false, true])
    func resetReachesTheOtherSide(ofUpstream: Bool) throws {
        let (proxy, client, upstream) = try opened()
        proxy.run(for: .seconds(1))
        let (leaver, other) = ofUpstream ? (upstream, client) : (client, upstream)
        proxy.driver.abort(leaver)
        #expect(proxy.run { other.sawResetAt != nil })
        let arrived = try #require(leaver.resetArrivedAt)
        #expect(try #require(milliseconds(from: arrived, to: other.nearResetAt)) < 50)
        #expect(other.sawEndAt == nil)
        #expect(proxy.onlyReason == (ofUpstream ? "upstream_reset" : "downstream_reset"))
        expectAllHome(proxy)
    }

    // RS-06: nothing is received from a side whose bytes nobody takes
    @Test(arguments: [false, true])
    func resetIsSeenBehindAStalledReader(ofUpstream: Bool) throws {
        let (proxy, client, upstream) = try opened()
        let (leaver, other) = ofUpstream ? (upstream, client) : (client, upstream)
        other.readsAtOnce = false
        for _ in 0..<20 {
            proxy.send(pattern(byteCount: leaver.sendRoom), leaver)
            proxy.run(for: .milliseconds(50))
        }
        #expect(leaver.sendRoom == 0)
        proxy.driver.abort(leaver)
        #expect(proxy.run { other.sawResetAt != nil })
        let arrived = try #require(leaver.resetArrivedAt)
        #expect(try #require(milliseconds(from: arrived, to: other.nearResetAt)) < 50)
        expectAllHome(proxy)
    }

    // RS-06: the stream was complete before the reset, so nobody is told of one
    @Test func resetAfterACompleteStreamIsNoReset() throws {
        let (proxy, client, upstream) = try opened()
        proxy.send("whole", upstream)
        proxy.driver.shutDown(upstream)
        #expect(proxy.run { client.hasReadEnd })
        proxy.driver.abort(upstream)
        proxy.run(for: .milliseconds(200))
        #expect(client.sawResetAt == nil)
        #expect(proxy.records.count == 1)
        expectAllHome(proxy)
    }

    // RS-03, RS-05
    @Test(arguments: [false, true])
    func stalledReaderLosesNothingAndHoldsLittle(isUpstream: Bool) throws {
        let (proxy, client, upstream) = try opened()
        let (writer, reader) = isUpstream ? (client, upstream) : (upstream, client)
        let bytes = pattern(byteCount: 400_000)
        var written = 0
        reader.readsAtOnce = false
        func write() {
            let count = min(writer.sendRoom, bytes.count - written)
            proxy.send(Array(bytes[written..<written + count]), writer)
            written += count
            if written == bytes.count { proxy.driver.shutDown(writer) }
        }
        proxy.onChange = { if $0 === writer && written < bytes.count { write() } }
        write()
        proxy.run(for: .seconds(30))
        #expect(written < bytes.count)
        // Two chunks of a direction, and what a continuing receive brings before it is cancelled.
        #expect(proxy.worker.outstanding.buffers <= 4)
        reader.readsAtOnce = true
        proxy.changed(reader)
        #expect(proxy.run { reader.hasReadEnd })
        #expect(reader.received.suffix(bytes.count) == bytes[...])
    }

    // RS-10
    @Test func oneByteAtATimeArrivesWhole() throws {
        let (proxy, client, upstream) = try opened()
        let bytes = pattern(byteCount: 300)
        for byte in bytes {
            proxy.send([byte], client)
            proxy.send([byte], upstream)
            proxy.run(for: .microseconds(70))
        }
        proxy.run(for: .milliseconds(10))
        #expect(upstream.received == hello() + bytes)
        #expect(client.received == bytes)
    }

    // RS-12
    @Test func recordCountsWhatTheEndsSaw() throws {
        let (proxy, client, upstream) = try opened()
        proxy.send(pattern(byteCount: 5000), client)
        proxy.send(pattern(byteCount: 60_000), upstream)
        proxy.driver.shutDown(client)
        proxy.driver.shutDown(upstream)
        #expect(proxy.run { proxy.records.count == 1 })
        proxy.run(for: .milliseconds(100))
        #expect(proxy.records[0].bytesFromClient == UInt64(hello().count + 5000))
        #expect(proxy.records[0].bytesFromUpstream == 60_000)
        #expect(upstream.received.count == hello().count + 5000)
        #expect(client.received.count == 60_000)
    }

    // RS-11: a row of small requests on one connection keeps its receives
    @Test func chattyConnectionKeepsItsReceiveInFlight() throws {
        let (proxy, client, upstream) = try opened()
        var receiveCount = 0
        proxy.driver.trace = { if $0.contains("asked") && $0.contains("receive") { receiveCount += 1 } }
        for _ in 0..<100 {
            proxy.send("ping", client)
            proxy.run(for: .milliseconds(1))
            proxy.send("pong", upstream)
            proxy.run(for: .milliseconds(1))
        }
        #expect(client.received.count == 400)
        #expect(receiveCount < 10)
    }

    // RS-06: half-closed by the client, and our own machine cannot send it the rest.
    @Test func streamThatWeCannotSendEndsWithResetAlsoTowardsAHalfClosedClient() throws {
        let proxy = Scene().start()
        let client = proxy.client(hello())
        #expect(proxy.run { proxy.upstreams.first?.received.count == hello().count })
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.upstreams[0].hasReadEnd })
        proxy.driver.faults.noMemoryToSend = 1000
        proxy.send("what does not get through", proxy.upstreams[0])
        #expect(proxy.run { proxy.onlyReason == "local_io_failed" })
        #expect(proxy.run { client.sawResetAt != nil })
        #expect(client.received.isEmpty)
    }
}
