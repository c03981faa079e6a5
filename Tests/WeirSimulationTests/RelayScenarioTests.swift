import Testing
import WeirNet
import WeirTesting

@Suite struct RelayScenarioTests {
    @Test("RS-02 a client's FIN is passed on and the upstream goes on sending until its own")
    func clientEndsFirst() throws {
        let proxy = Scene().start()
        let client = proxy.client(hello() + Array("question".utf8))
        proxy.driver.shutDown(client)
        #expect(proxy.run { proxy.upstreams.count == 1 && proxy.upstreams[0].hasReadEnd })
        let upstream = proxy.upstreams[0]
        #expect(upstream.received == hello() + Array("question".utf8))
        proxy.run(for: .milliseconds(100))
        #expect(client.sawEndAt == nil)
        proxy.send("answer", upstream)
        proxy.driver.shutDown(upstream)
        #expect(proxy.run { client.hasReadEnd })
        #expect(text(client.received) == "answer")
        #expect(proxy.onlyReason == "finished")
        proxy.run(for: .seconds(1))
        #expect(proxy.outstanding() == [])
    }
}
