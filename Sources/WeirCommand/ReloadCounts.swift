import CWeir
import Synchronization
import Weir

/// How reloads went. One thread counts, any thread reads.
package final class ReloadCounts: Sendable {
    /// Why the newest configuration is not the one in force.
    package enum Reason: String, Sendable, CaseIterable {
        /// A file or directory could not be read, or there is none in a directory.
        case unreadable
        /// What stands in the files is no configuration.
        case invalid
        /// A listener could not be bound.
        case bind
        /// The system refused something else.
        case system

        package init(_ failure: Proxy.StartFailure) {
            switch failure {
            case .configuration: self = .invalid
            case .bind: self = .bind
            case .driver, .system: self = .system
            }
        }
    }

    private let succeeded = Atomic(0)
    private let failed: [Counter] = Reason.allCases.map { _ in Counter() }
    private let lastSucceeded = Atomic(true)
    /// By the wall clock.
    private let lastSuccess: Atomic<UInt64>
    private let lastNanoseconds = Atomic<UInt64>(0)

    private final class Counter: Sendable {
        let value = Atomic(0)
    }

    /// What runs now has just been taken over.
    package init() { lastSuccess = Atomic(cweir_realtime_ns()) }

    /// `nanoseconds`: from the first look at the files until every worker used what they say.
    package func countSuccess(nanoseconds: UInt64) {
        lastNanoseconds.store(nanoseconds, ordering: .relaxed)
        lastSuccess.store(cweir_realtime_ns(), ordering: .relaxed)
        lastSucceeded.store(true, ordering: .relaxed)
        succeeded.add(1, ordering: .relaxed)
    }

    package func countFailure(_ reason: Reason) {
        lastSucceeded.store(false, ordering: .relaxed)
        if let index = Reason.allCases.firstIndex(of: reason) { failed[index].value.add(1, ordering: .relaxed) }
    }

    /// In Prometheus text format 0.0.4.
    package var metrics: String {
        let counts = failed.map { $0.value.load(ordering: .relaxed) }
        let reasons = zip(Reason.allCases, counts).map { reason, count in
            "weir_config_reload_failures_total{reason=\"\(reason.rawValue)\"} \(count)"
        }
        return """
            # HELP weir_config_reloads_total Reloads of the configuration, by result.
            # TYPE weir_config_reloads_total counter
            weir_config_reloads_total{result="ok"} \(succeeded.load(ordering: .relaxed))
            weir_config_reloads_total{result="failed"} \(counts.reduce(0, +))
            # HELP weir_config_reload_failures_total Reloads that failed, by reason.
            # TYPE weir_config_reload_failures_total counter
            \(reasons.joined(separator: "\n"))
            # HELP weir_config_last_reload_successful Whether the newest configuration is the one in force.
            # TYPE weir_config_last_reload_successful gauge
            weir_config_last_reload_successful \(lastSucceeded.load(ordering: .relaxed) ? 1 : 0)
            # HELP weir_config_last_success_timestamp_seconds When the configuration in force was taken over.
            # TYPE weir_config_last_success_timestamp_seconds gauge
            weir_config_last_success_timestamp_seconds \(Self.seconds(lastSuccess.load(ordering: .relaxed)))
            # HELP weir_config_last_reload_seconds How long the last successful reload took, from reading to all workers.
            # TYPE weir_config_last_reload_seconds gauge
            weir_config_last_reload_seconds \(Self.seconds(lastNanoseconds.load(ordering: .relaxed)))

            """
    }

    /// With microseconds.
    private static func seconds(_ nanoseconds: UInt64) -> String {
        let micros = String(nanoseconds / 1_000 % 1_000_000)
        return "\(nanoseconds / 1_000_000_000).\(String(repeating: "0", count: 6 - micros.count))\(micros)"
    }
}
