import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// S3-2: a route to several clusters.
@Suite struct SplitTests {
    private func split(_ shares: (String, Int)...) -> Route {
        Route(name: "split", action: .split(shares.map { ClusterShare(cluster: $0.0, weight: $0.1) }))
    }

    /// The expectation is 150 of 200; less than 100 or none of the other would come once in 10^15 runs.
    @Test func sessionsAreSharedByWeight() throws {
        let many = try TestOrigin.answering("many")
        let few = try TestOrigin.answering("few")
        let configuration = Configuration.listening(split(("many", 3), ("few", 1)))
            .cluster("many", many.address).cluster("few", few.address)
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        for _ in 0..<200 { _ = try proxy.textAnswer(to: "a.test") }
        #expect(many.acceptedCount + few.acceptedCount == 200)
        #expect(many.acceptedCount > 100)
        #expect(few.acceptedCount > 0)
        #expect(proxy.metric("weir_upstream_connect_attempts_total", "cluster=\"few\"") == few.acceptedCount)
    }

    /// Nobody listens where one half of the sessions goes: they are refused rather than moved to the other half.
    @Test func aSessionIsRetriedWithinItsClusterOnly() throws {
        let good = try TestOrigin.answering("good")
        let configuration = Configuration.listening(split(("good", 1), ("bad", 1)))
            .cluster("good", good.address).cluster("bad", try refusingAddress(), try refusingAddress()) {
                for index in $0.endpoints.indices { $0.endpoints[index].maxFails = 0 }
            }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        var refusedCount = 0
        for _ in 0..<60 where try proxy.answer(to: "a.test") == alert(80) { refusedCount += 1 }
        #expect(refusedCount > 0)
        #expect(good.acceptedCount == 60 - refusedCount)
        proxy.expectClosed(refusedCount, "upstream_connect_refused")
        #expect(proxy.metric("weir_upstream_connect_attempts_total", "cluster=\"bad\"") == 2 * refusedCount)
    }
}
