import Synchronization
import Testing
import WeirTelemetry

@Suite struct MetricRegistryTests {
    private static let reasons = ["downstream_closed", "upstream_reset"]

    private func registry(
        cellCount: Int = MetricCells.countDefault, notice: @escaping @Sendable (String) -> Void = { _ in }
    ) -> MetricRegistry {
        MetricRegistry(
            workers: [MetricCells(count: cellCount)], reasonLabels: Self.reasons, guardRuleLabels: ["private"],
            notice: notice)
    }

    @Test func theSameSubjectAlwaysGetsTheSameBase() {
        let registry = registry()
        let first = registry.endpoint(cluster: "a", description: "10.0.0.1:443")
        _ = registry.cluster("b")
        #expect(registry.endpoint(cluster: "a", description: "10.0.0.1:443") == first)
    }

    @Test func theSameNameInAnotherPlaceIsAnotherSubject() {
        let registry = registry()
        let bases = [
            registry.listener("a"), registry.cluster("a"), registry.route(listener: "a", name: "a"),
            registry.route(listener: "b", name: "a"), registry.endpoint(cluster: "a", description: "a"),
            registry.endpoint(cluster: "b", description: "a"),
        ]
        #expect(Set(bases).count == bases.count)
    }

    @Test func noTwoSubjectsShareACell() {
        let registry = registry()
        var owners: [Int32: Int] = [:]
        for index in 0..<20 {
            let listener = registry.listener("l\(index)")
            let cluster = registry.cluster("c\(index)")
            let route = registry.route(listener: "l\(index)", name: "r")
            let endpoint = registry.endpoint(cluster: "c\(index)", description: "e")
            for cell in 0..<ListenerCell.closedByReason + 2 { owners[listener + cell, default: 0] += 1 }
            for cell in 0..<ClusterCell.count { owners[cluster + cell, default: 0] += 1 }
            for cell in 0..<RouteCell.count { owners[route + cell, default: 0] += 1 }
            for cell in 0..<EndpointCell.count { owners[endpoint + cell, default: 0] += 1 }
        }
        // The worker's own cells, guard rules included, belong to nobody else.
        #expect(owners.keys.allSatisfy { $0 > WorkerCell.guardDenied })
        #expect(owners.values.allSatisfy { $0 == 1 })
    }

    @Test func aSubjectIsFoundByItsBase() {
        let registry = registry()
        let route = registry.route(listener: "egress", name: "any")
        #expect(registry.subject(at: route) == .route(listener: "egress", name: "any"))
        #expect(registry.subject(at: route + 1) == nil)
        #expect(registry.subject(at: -1) == nil)
    }

    @Test func subjectsWithoutRoomShareOneRangeAndAreToldOfOnce() {
        let notices = Mutex<[String]>([])
        let registry = registry(cellCount: 512) { text in notices.withLock { $0.append(text) } }
        let bases = (0..<100).map { registry.cluster("c\($0)") }
        let shared = bases[99]
        #expect(bases[98] == shared)
        #expect(registry.subject(at: shared) == .cluster("other"))
        #expect(Set(bases).count < 100 && Set(bases).count > 3)
        #expect(
            notices.withLock { $0 } == ["metrics: all 512 cells are in use; every further cluster counts as \"other\""])
    }

    @Test func aKnownSubjectKeepsItsRangeWhenCellsRunOut() {
        let registry = registry(cellCount: 512)
        let first = registry.cluster("first")
        for index in 0..<100 { _ = registry.cluster("c\(index)") }
        #expect(registry.cluster("first") == first)
    }

    @Test func aSumGoesOverAllWorkers() {
        let workers = [MetricCells(count: 1024), MetricCells(count: 1024), MetricCells(count: 1024)]
        let registry = MetricRegistry(workers: workers, reasonLabels: [], guardRuleLabels: [])
        let base = registry.listener("egress")
        for (index, cells) in workers.enumerated() { cells.add(base + ListenerCell.accepted, UInt64(index + 1)) }
        #expect(registry.sum(base + ListenerCell.accepted) == 6)
    }
}
