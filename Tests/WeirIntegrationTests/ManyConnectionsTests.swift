import CWeir
import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// Both ends of every connection are in this process: four descriptors each.
@Suite struct ManyConnectionsTests {
    @Test(.enabled(if: cweir_raise_descriptor_limit() >= 10_000, "at most 10,000 descriptors are allowed here"))
    func twoThousandConnectionsAreServedAtOnce() throws {
        let count = 2000
        let origin = try TestListener()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.limits.connections = count
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let hello = HelloBuilder().records()
        let clients = try (0..<count).map { _ in
            let client = try proxy.connect()
            try client.send(hello)
            return client
        }
        let upstreams = try (0..<count).map { _ in
            let upstream = try origin.accept()
            #expect(try upstream.receive(exactly: hello.count) == hello)
            return upstream
        }
        #expect(proxy.sessionCount == count)
        // Each client hears from one origin, and no two from the same.
        for (number, upstream) in upstreams.enumerated() { try upstream.send("number \(number + 10_000)") }
        var answers: Set<[UInt8]> = []
        for client in clients { answers.insert(try client.receive(exactly: 12)) }
        #expect(answers.count == count)
        for client in clients { client.close() }
        for upstream in upstreams {
            #expect(try upstream.receive() == [])
            upstream.close()
        }
        eventually("all sessions are over") { proxy.sessionCount == 0 }
        proxy.expectClosed(count, "finished")
    }
}
