import WeirHealth
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting
import WeirUpstream

/// Looks at the endpoints of the present configuration several times a second: says who went out of the choice and who came
/// back, and names those whose live sessions are to end.
struct EndpointWatch {
    /// An endpoint whose live sessions are to end, after so many nanoseconds.
    struct Ending {
        var place: Int32
        var time: UInt64
    }

    private let board: EndpointBoard
    private var table: RouteTable
    private var configuration: [String: LiveSessions] = [:]
    private var known: [Int32: EndpointStatus.Standing] = [:]
    /// By cluster of the table: the epoch of the last look, and when another is due in any case.
    private var epochs: [UInt64?] = []
    private var dueAt: [Instant] = []

    /// In one look; the others are counted.
    private static let lineCountMax = 20

    init(_ board: EndpointBoard, _ table: RouteTable, _ configuration: Configuration) {
        self.board = board
        self.table = table
        adopt(table, configuration)
    }

    mutating func adopt(_ table: RouteTable, _ configuration: Configuration) {
        self.table = table
        self.configuration = Dictionary(
            configuration.clusters.map { ($0.name, $0.onUnhealthy) }, uniquingKeysWith: { first, _ in first })
        epochs = Array(repeating: nil, count: table.view.clusters.count)
        dueAt = Array(repeating: Instant(nanoseconds: 0), count: table.view.clusters.count)
        let present = Set(table.view.endpoints.indices.map { table.view.endpoints[$0].place })
        known = known.filter { present.contains($0.key) }
    }

    /// What is to be said, and the endpoints whose live sessions are to end.
    mutating func look(now: Instant) -> (lines: [String], ending: [Ending]) {
        var lines: [String] = []
        var ending: [Ending] = []
        for cluster in table.view.clusters.indices {
            let record = table.view.clusters[cluster]
            for endpoint in record.endpoints.indices where record.outliers != nil {
                board.settleEjection(table.view.endpoints[endpoint].place, of: record.place, now: now)
            }
            let epoch = board.epoch(cluster: record.place)
            if epochs[cluster] == epoch, now < dueAt[cluster] { continue }
            epochs[cluster] = epoch
            dueAt[cluster] = .distantFuture
            for endpoint in record.endpoints.indices { look(cluster, endpoint, now, &lines, &ending) }
        }
        if lines.count > Self.lineCountMax {
            let count = lines.count - Self.lineCountMax
            lines = lines.prefix(Self.lineCountMax) + ["and \(count) more changes of endpoints"]
        }
        return (lines, ending)
    }

    private mutating func look(
        _ cluster: Int, _ endpoint: Int, _ now: Instant, _ lines: inout [String], _ ending: inout [Ending]
    ) {
        let record = table.view.endpoints[endpoint]
        guard record.place >= 0, !record.isDown else { return }
        let (standing, end) = standing(record, now)
        if let end { dueAt[cluster] = min(dueAt[cluster], end) }
        let before = known[record.place] ?? .healthy
        guard standing != before else { return }
        known[record.place] = standing
        let name = table.clusterName(cluster)
        let what = Self.words(standing, for: end.map { .nanoseconds(Int64(clamping: $0.nanoseconds(since: now))) })
        lines.append("endpoint \(table.endpointDescription(endpoint)) of cluster \"\(name)\" \(what)")
        if standing == .failedActiveCheck || standing == .failedOutlierCheck, let time = configuration[name]?.time {
            ending.append(Ending(place: record.place, time: time))
        }
    }

    private static func words(_ standing: EndpointStatus.Standing, for time: Duration?) -> String {
        let seconds = ((time ?? .zero).clampedNanoseconds + 999_999_999) / 1_000_000_000
        return switch standing {
        case .healthy: "is good again"
        case .failedOutlierCheck: "is ejected for \(seconds) s: connects to it fail"
        case .failedActiveCheck: "is unhealthy: its checks fail"
        case .resting: "rests for \(seconds) s: connects to it fail"
        case .down: "is down"
        }
    }

    private func standing(
        _ record: CompiledEndpoint, _ now: Instant
    ) -> (EndpointStatus.Standing, until: Instant?) {
        if record.isDown { return (.down, nil) }
        switch board.standing(record, slowStart: 0, now: now) {
        case .good, .starting, .onTrial: return (.healthy, nil)
        case .unhealthy: return (.failedActiveCheck, nil)
        case .ejected(let until): return (.failedOutlierCheck, until)
        case .resting(let until): return (.resting, until)
        }
    }

    private static func check(_ facts: CheckFacts) -> EndpointStatus.Check? {
        guard facts.lastResult != nil else { return nil }
        return EndpointStatus.Check(
            lastFailure: facts.lastFailure.map { "\($0.label)" },
            lastLatency: facts.lastLatency.map { .nanoseconds(Int64(clamping: $0)) },
            count: Int(clamping: facts.checkCount), failureCount: Int(clamping: facts.failureCount))
    }

    /// Every endpoint, by cluster and priority. `checks`: what is known of each place from checks.
    func statuses(now: Instant, checks: [Int32: CheckFacts]) -> [EndpointStatus] {
        var list: [EndpointStatus] = []
        for cluster in table.view.clusters.indices {
            for endpoint in table.view.clusters[cluster].endpoints.indices {
                let record = table.view.endpoints[endpoint]
                let (standing, end) = standing(record, now)
                list.append(
                    EndpointStatus(
                        cluster: table.clusterName(cluster), endpoint: table.endpointDescription(endpoint),
                        priority: Int(record.priority), weight: Int(record.weight), standing: standing,
                        remaining: end.map { .nanoseconds(Int64(clamping: $0.nanoseconds(since: now))) },
                        sessionCount: Int(board.connectionCount(record.place)),
                        failureCount: Int(board.failureCount(record.place)),
                        check: checks[record.place].flatMap { Self.check($0) }))
            }
        }
        return list
    }

    /// Sessions of each cluster that are connecting.
    var pendingCounts: [(cluster: String, count: UInt64)] {
        table.view.clusters.indices.map {
            (table.clusterName($0), board.pendingCount(cluster: table.view.clusters[$0].place))
        }
    }

    /// The endpoints of these clusters that `configuration` leaves out, where their live sessions are to end.
    func places(without configuration: Configuration, _ ways: [String: LiveSessions]) -> [Ending] {
        var staying: Set<String> = []
        for cluster in configuration.clusters {
            for endpoint in cluster.endpoints { staying.insert("\(cluster.name)\n\(endpoint.description)") }
        }
        var ending: [Ending] = []
        for cluster in table.view.clusters.indices {
            guard let time = ways[table.clusterName(cluster)]?.time else { continue }
            for endpoint in table.view.clusters[cluster].endpoints.indices {
                // One that found no place on the board has that of whoever goes to no endpoint.
                let place = table.view.endpoints[endpoint].place
                guard place >= 0 else { continue }
                let name = "\(table.clusterName(cluster))\n\(table.endpointDescription(endpoint))"
                if !staying.contains(name) { ending.append(Ending(place: place, time: time)) }
            }
        }
        return ending
    }
}

extension LiveSessions {
    /// Nanoseconds after which they are reset; nil: they are not.
    var time: UInt64? {
        switch self {
        case .keep: nil
        case .drain(let time): time.clampedNanoseconds
        case .close: 0
        }
    }
}
