import CWeir
import Glibc
import Synchronization
import WeirMemory
import WeirUring

/// Whether io_uring works here, found by trying it, and what would help where it does not.
public struct DriverReport: Sendable {
    public struct Feature: Sendable {
        public let name: String
        /// The first Linux release that has it.
        public let since: String
        public let works: Bool
        /// In words: `works`, `not tried`, or why not.
        public let outcome: String
    }

    /// What the ring driver is built on, in the order it was tried.
    public let features: [Feature]
    /// Why io_uring does not do here, and how to fix it; nil where it does.
    public let problem: DriverProblem?

    /// Makes a small ring and a local connection, on a thread of its own, and leaves nothing open.
    public static func probe() -> DriverReport {
        let facts = HostFacts.here()
        // A filter may kill instead of refusing; a child process finds out and we live on.
        if facts.seccompMode != 0 {
            let signal = cweir_ring_calls_signal()
            if signal > 0 { return DriverReport(UringProbeReport(), problem: DriverProblem(signal: signal)) }
        }
        let report = probeReport()
        for feature in UringProbeReport.Feature.allCases {
            guard case .fails(let call, let code) = report[feature] else { continue }
            // No answer, another one than documented, or EINVAL by a ring that was made: not refused, just not there.
            let isMissing = code == 0 || code == ETIME || (code == EINVAL && feature != .ring)
            return DriverReport(
                report,
                problem: isMissing
                    ? DriverProblem(missing: feature.name, facts) : DriverProblem(call: call, code: code, facts))
        }
        return DriverReport(report, problem: nil)
    }

    /// What a proxy with this choice would run on; nil where it would not start.
    public func decision(_ choice: Proxy.DriverChoice) -> DriverDecision? {
        switch (choice, problem) {
        case (.epoll, _): .requestedEpoll
        case (.automatic, nil): DriverDecision(uring: .available)
        case (.uring, nil): DriverDecision(uring: .requested)
        case (.automatic, let problem?): DriverDecision(fallingBackFrom: problem, HostFacts.here())
        case (.uring, _?): nil
        }
    }

    /// On a thread of its own, because the kernel ties a ring to the thread that made it, and would interrupt that
    /// thread's system calls when the ring is taken down.
    private static func probeReport() -> UringProbeReport {
        let found = Found()
        do throws(SystemThread.Failure) {
            try SystemThread(name: "weir-probe") {
                let report = UringProbe.run()
                found.report.withLock { $0 = report }
            }.join()
        } catch { return UringProbe.run() }
        return found.report.withLock { $0 }
    }

    private final class Found: Sendable {
        let report = Mutex(UringProbeReport())
    }

    private init(_ report: UringProbeReport, problem: DriverProblem?) {
        features = UringProbeReport.Feature.allCases.map { feature in
            let outcome =
                switch report[feature] {
                case .works: "works"
                case .fails(_, 0): "does not work: answered otherwise than documented"
                case .fails(let call, let code): "does not work: \(call): \(systemMessage(code))"
                case .notTried: "not tried"
                }
            return Feature(
                name: feature.name, since: feature.since, works: report[feature] == .works, outcome: outcome)
        }
        self.problem = problem
    }
}

extension UringProbeReport.Feature {
    fileprivate var name: String {
        switch self {
        case .ring: "ring with deferred task work"
        case .bufferRing: "buffer ring"
        case .multishotAccept: "multishot accept"
        case .multishotReceive: "multishot receive"
        case .cancel: "cancel"
        }
    }

    fileprivate var since: String {
        switch self {
        case .ring: "6.1"
        case .bufferRing, .multishotAccept, .cancel: "5.19"
        case .multishotReceive: "6.0"
        }
    }
}
