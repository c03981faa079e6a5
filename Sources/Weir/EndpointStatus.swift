import WeirNet
import WeirUpstream

/// How one endpoint of a cluster stands, at the moment of the question.
public struct EndpointStatus: Sendable, Equatable {
    /// The words of Envoy and Istio where they have one.
    public enum Standing: String, Sendable, CaseIterable {
        case healthy = "HEALTHY"
        /// Ejected because connects to it failed.
        case failedOutlierCheck = "FAILED_OUTLIER_CHECK"
        /// Its active checks fail.
        case failedActiveCheck = "FAILED_ACTIVE_HC"
        /// It rests after `max_fails`.
        case resting = "RESTING"
        /// The configuration says `down`.
        case down = "DOWN"
    }

    public var cluster: String
    /// `host:port` as the configuration has it.
    public var endpoint: String
    public var priority: Int
    public var weight: Int
    public var standing: Standing
    /// How long it stays ejected or resting; nil: it is neither.
    public var remaining: Duration?
    /// Sessions, those that are connecting included.
    public var sessionCount: Int
    /// Connects that failed in a row.
    public var failureCount: Int
    /// How its last active check went; nil: none has ended.
    public var check: Check?

    public struct Check: Sendable, Equatable {
        /// Why the last one that failed did; nil: none has.
        public var lastFailure: String?
        /// Of the last one that succeeded, from the connect to the answer; nil: none has.
        public var lastLatency: Duration?
        public var count: Int
        public var failureCount: Int
    }
}

extension EndpointStatus {
    /// For people: a line each, in columns.
    static func text(_ list: [EndpointStatus]) -> String {
        let head = [
            "CLUSTER", "ENDPOINT", "STATUS", "FOR", "SESSIONS", "FAILURES", "WEIGHT", "PRIORITY", "CHECKS", "FAILED",
            "ERROR",
        ]
        let rows = list.map { one in
            [
                one.cluster, one.endpoint, one.standing.rawValue, one.remaining.map(seconds) ?? "-",
                String(one.sessionCount), String(one.failureCount), String(one.weight), String(one.priority),
                one.check.map { String($0.count) } ?? "-", one.check.map { String($0.failureCount) } ?? "-",
                one.check?.lastFailure ?? "-",
            ]
        }
        let widths = head.indices.map { column in ([head] + rows).map { $0[column].count }.max() ?? 0 }
        return ([head] + rows).map { row in
            var line = ""
            for (column, text) in row.enumerated() {
                line += text
                if column < row.count - 1 { line += String(repeating: " ", count: widths[column] - text.count + 2) }
            }
            return line + "\n"
        }.joined()
    }

    private static func seconds(_ duration: Duration) -> String {
        let tenths = (duration.clampedNanoseconds + 99_999_999) / 100_000_000
        return "\(tenths / 10).\(tenths % 10)s"
    }
}
