import Glibc
import Testing
import WeirTelemetry

/// The layout says where a worker counts, the families say what is exposed: these hold the two together.
@Suite struct MetricLayoutTests {
    private static let groups: [(families: [CellFamily], offsets: [Int32])] = [
        (
            CellFamily.listener(reasonLabels: ["a", "b", "c"]),
            [
                ListenerCell.accepted, ListenerCell.opened, ListenerCell.closed, ListenerCell.receivedBytes,
                ListenerCell.sentBytes, ListenerCell.acceptPauses, ListenerCell.echSeen, ListenerCell.proxyAccepted,
                ListenerCell.proxyDuplicateAuthority,
                ListenerCell.acceptError(EMFILE), ListenerCell.acceptError(ENFILE), ListenerCell.acceptError(ENOBUFS),
                ListenerCell.acceptError(ENOMEM), ListenerCell.acceptError(EPERM), ListenerCell.helloBytes,
                ListenerCell.preambleSeconds, ListenerCell.sessionSeconds, ListenerCell.closedByReason,
            ]
        ),
        (CellFamily.route, [RouteCell.sessions, RouteCell.left]),
        (
            CellFamily.cluster,
            [
                ClusterCell.connectAttempts, ClusterCell.opened, ClusterCell.closed,
                ClusterCell.connectFailure(ECONNREFUSED), ClusterCell.connectFailure(ETIMEDOUT),
                ClusterCell.connectFailure(ECONNRESET), ClusterCell.connectFailure(ENETUNREACH),
                ClusterCell.connectFailure(EADDRNOTAVAIL), ClusterCell.connectFailure(EPERM),
                ClusterCell.connectSeconds,
            ]
        ),
        (
            CellFamily.endpoint,
            [EndpointCell.connectAttempts, EndpointCell.connectFailures, EndpointCell.opened, EndpointCell.closed]
        ),
        (
            CellFamily.worker(guardRuleLabels: ["a", "b"]),
            [
                WorkerCell.dnsCacheHits, WorkerCell.dnsQueries, WorkerCell.buffersStarved,
                WorkerCell.buffersOutstanding, WorkerCell.blocksOutstanding, WorkerCell.logDropped,
                WorkerCell.completionOverflows, WorkerCell.enters, WorkerCell.turns, WorkerCell.adoptions,
                WorkerCell.snapshotGeneration, WorkerCell.relayedBytes, WorkerCell.sessionsOpening,
                WorkerCell.guardDenied,
            ]
        ),
    ]

    @Test func whatIsCountedIsExposed() {
        for group in Self.groups {
            let exposed = Set(group.families.flatMap(\.cells))
            #expect(Set(group.offsets).count == group.offsets.count)
            #expect(group.offsets.allSatisfy { exposed.contains($0) })
        }
    }

    @Test func noTwoMetricsReadOneCell() {
        for group in Self.groups {
            // A gauge of what is active reads two counters again, and is the only one that may.
            let families = group.families.filter { if case .difference = $0.source { false } else { true } }
            let cells = families.flatMap(\.cells)
            #expect(Set(cells).count == cells.count)
        }
    }

    @Test func namesAreUniqueAndFollowTheConvention() {
        let names = Self.groups.flatMap { $0.families.map(\.name) }
        #expect(Set(names).count == names.count)
        #expect(names.allSatisfy { $0.hasPrefix("weir_") })
    }

    @Test func everyMetricIsInTheOperationsPage() {
        let page = operationsPage()
        let process = ProcessFigures.current()?.families.map(\.name) ?? []
        #expect(!process.isEmpty)
        for name in Self.groups.flatMap({ $0.families.map(\.name) }) + process {
            #expect(page.contains("`\(name)`"), "docs/OPERATIONS.md does not list \(name)")
        }
    }

    @Test func anUnlistedErrnoCountsAsOther() {
        #expect(ListenerCell.acceptError(EPROTO) == ListenerCell.acceptErrors + 4)
        #expect(ClusterCell.connectFailure(EPROTO) == ClusterCell.connectFailures + 5)
    }
}

/// docs/OPERATIONS.md, as it lies in the tree beside these tests.
func operationsPage(_ here: String = #filePath) -> String {
    let root = here.split(separator: "/").dropLast(3).joined(separator: "/")
    return String(decoding: contents(of: "/\(root)/docs/OPERATIONS.md"), as: UTF8.self)
}
