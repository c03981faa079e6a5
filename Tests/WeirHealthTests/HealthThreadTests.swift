import Synchronization
import Testing
import Weir
import WeirDriverHarness
import WeirHealth
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirTesting
import WeirUpstream

/// The thread that runs the checks (UP-06).
@Suite struct HealthThreadTests {
    private final class Reports: Sendable {
        let all = Mutex<[CheckScene.Change]>([])
    }

    private let reports = Reports()

    private func snapshot(_ configuration: Configuration = Configuration()) -> SnapshotCell<RouteTable> {
        SnapshotCell(RouteTable(compiling: configuration, slots: [:], generation: 1) { _ in -1 }, readerCount: 1)
    }

    private func thread(_ kind: DriverKind, _ snapshot: SnapshotCell<RouteTable>) throws -> HealthThread {
        let reports = reports
        return try HealthThread(
            HealthThread.Materials(
                driver: kind == .uring ? .uring : .epoll, snapshot: snapshot, reader: 0, slotCount: 16,
                report: { place, verdict in
                    reports.all.withLock { $0.append(CheckScene.Change(place: place, verdict: verdict)) }
                }, notice: { _ in }),
            wakeResolver: {})
    }

    private func wait(_ what: String, until isTrue: () -> Bool) async throws {
        for _ in 0..<30_000 {
            if isTrue() { return }
            try await Task.sleep(for: .milliseconds(1))
        }
        Issue.record("waited in vain: \(what)")
    }

    @Test(arguments: DriverKind.here) func checksRunWhileThereAreTargets(on kind: DriverKind) async throws {
        let origin = try TestListener()
        let deaf = try Loopback.bound()
        let thread = try thread(kind, snapshot())
        // Nobody accepts, so what the accept queue holds has to last for as long as a busy machine takes.
        var policy = CheckScene.quick(.tcp)
        policy.interval = .milliseconds(500)
        try thread.update([
            CheckScene.target(origin.address, policy, place: 3), CheckScene.target(deaf.address, policy, place: 4),
        ])
        #expect(thread.records.map(\.place) == [3, 4])
        try await wait("results") { thread.records.allSatisfy { $0.facts.checkCount > 2 } }
        #expect(thread.records.map(\.facts.verdict) == [.healthy, .unhealthy])
        #expect(reports.all.withLock { $0 } == [CheckScene.Change(place: 4, verdict: .unhealthy)])
        try thread.update([])
        #expect(thread.records.isEmpty)
        thread.stop()
    }

    /// Whoever has no health checks has no thread either.
    @Test func nothingStartsWithoutTargets() throws {
        let thread = try thread(.epoll, snapshot())
        try thread.update([])
        // It would be a trap if it ran.
        _ = consume thread
    }

    @Test func updateAfterTheStopDoesNothing() throws {
        let origin = try TestListener()
        let thread = try thread(.epoll, snapshot())
        thread.stop()
        try thread.update([CheckScene.target(origin.address, CheckScene.quick(.tcp))])
        #expect(thread.records.isEmpty)
        thread.stop()
    }

    /// T-02: the guard is the present snapshot's, and nothing of a snapshot is held back between two checks.
    @Test(arguments: DriverKind.here) func guardIsThatOfThePresentSnapshot(on kind: DriverKind) async throws {
        let origin = try TestListener()
        let cell = snapshot()
        let thread = try thread(kind, cell)
        let name = Endpoint(host: .name(try ServerName("a.example")), port: origin.address.port)
        try thread.update([CheckScene.target(name, CheckScene.quick(.tcp))])
        // The resolver's end of the port is this test's.
        func answer() {
            while let request = thread.port.requests.pop() {
                let found = Answer(status: .found, addresses: [.v4Loopback], expires: .distantFuture)
                _ = thread.port.answers.push(ResolverAnswer(ticket: request.ticket, name: request.name, answer: found))
                thread.port.wakeWorker()
            }
        }
        try await wait("a denial") {
            answer()
            return thread.records[0].facts.lastFailure == .destinationDenied
        }
        var allowing = Configuration()
        allowing.destinations.allow = [DestinationPolicy.Exemption(CIDR(IPAddress(127, 0, 0, 0), prefixLength: 8))]
        cell.publish(RouteTable(compiling: allowing, slots: [:], generation: 2) { _ in -1 })
        try await wait("its return") {
            answer()
            return thread.records[0].facts.verdict == .healthy
        }
        try await wait("the old snapshot's end") { cell.reclaim() == 0 }
        thread.stop()
    }
}
