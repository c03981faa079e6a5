import CWeir
import Glibc
import Synchronization
import WeirMemory
import WeirModel
import WeirSockets
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
    /// What io_uring would be like where it does.
    private let rings: DriverDecision

    /// Makes a small ring and a local connection, on a thread of its own, and leaves nothing open.
    public static func probe() -> DriverReport {
        let facts = HostFacts.here()
        // A filter may kill instead of refusing; a child process finds out and we live on.
        if facts.seccompMode != 0 {
            let signal = cweir_ring_calls_signal()
            if signal > 0 { return DriverReport(UringProbeReport(), problem: DriverProblem(signal: signal)) }
        }
        let report = probeReport()
        for feature in UringProbeReport.Feature.allCases where feature.isRequired {
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

    /// The same, and makes the rings of all workers at once as `configuration` has it, because one small ring says nothing
    /// of the memory for many. That may take some hundred milliseconds where memory is short.
    public static func probe(workersOf configuration: Configuration) -> DriverReport {
        let small = probe()
        guard small.problem == nil else { return small }
        let capacity = Capacity(configuration)
        let wanted = RingSize(wantedFor: capacity)
        var size = wanted
        let name = "rings of \(capacity.workerCount) workers"
        while true {
            do throws(DriverSetupFailure) {
                try makeRings(size, count: capacity.workerCount)
                let words =
                    size == wanted
                    ? "works"
                    : "works with completion queues of \(size.completionCount) entries instead of \(wanted.completionCount)"
                return DriverReport(
                    small.features + [Feature(name: name, since: "6.1", works: true, outcome: words)], problem: nil,
                    DriverDecision(uring: .available, size, insteadOf: wanted))
            } catch {
                let facts = HostFacts.here()
                guard error.code == ENOMEM, let smaller = size.smaller(workerCount: capacity.workerCount, facts) else {
                    let outcome = "does not work: \(error.step): \(systemMessage(error.code))"
                    return DriverReport(
                        small.features + [Feature(name: name, since: "6.1", works: false, outcome: outcome)],
                        problem: DriverProblem(call: error.step, code: error.code, facts), small.rings)
                }
                size = smaller
                RingSize.awaitMemory()
            }
        }
    }

    /// Makes as many rings, and closes them.
    private static func makeRings(_ size: RingSize, count: Int) throws(DriverSetupFailure) {
        let pool = BufferPool(largeCount: 1, blockCount: 1)
        var rings: [UringDriver] = []
        for _ in 0..<count {
            rings.append(
                try UringDriver(
                    pool: pool, slotCount: 1, completionCount: size.completionCount,
                    bufferRingCount: size.bufferRingCount, submissionCount: UInt32(size.submissionCount)))
        }
    }

    /// What a proxy with this choice would run on; nil where it would not start.
    public func decision(_ choice: Proxy.DriverChoice) -> DriverDecision? {
        switch (choice, problem) {
        case (.epoll, _): .requestedEpoll
        case (.automatic, nil): rings
        case (.uring, nil): DriverDecision(uring: .requested, notice: rings.notice)
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

    private init(_ features: [Feature], problem: DriverProblem?, _ rings: DriverDecision) {
        self.features = features
        self.problem = problem
        self.rings = rings
    }

    private init(_ report: UringProbeReport, problem: DriverProblem?) {
        let features = UringProbeReport.Feature.allCases.map { feature in
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
        self.init(features, problem: problem, DriverDecision(uring: .available))
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
        case .restrictions: "restrictions (does without)"
        }
    }

    fileprivate var since: String {
        switch self {
        case .ring: "6.1"
        case .restrictions: "5.10"
        case .bufferRing, .multishotAccept, .cancel: "5.19"
        case .multishotReceive: "6.0"
        }
    }
}
