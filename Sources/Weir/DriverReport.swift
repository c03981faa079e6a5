import CWeir
import Glibc
import WeirUring

/// Which I/O driver works here, found by trying it, and what would help where none does.
public struct DriverReport: Sendable {
    public struct Feature: Sendable {
        public let name: String
        /// The first Linux release that has it.
        public let since: String
        public let works: Bool
        /// In words: `works`, `not tried`, or why not.
        public let outcome: String
    }

    /// What the driver is built on, in the order it was tried.
    public let features: [Feature]
    /// The driver that would be used; nil where none works.
    public let driver: String?
    /// Why there is no driver, and how to fix it; nil where there is one.
    public let problem: DriverProblem?

    /// Makes a small ring and loopback connections on the calling thread, for some milliseconds; leaves nothing open.
    public static func probe() -> DriverReport {
        let facts = HostFacts.here()
        // A filter may kill instead of refusing; a child process finds out and we live on.
        if facts.seccompMode == 2 {
            let code = cweir_try_ring_in_child(UringProbe.setupFlags)
            if code < 0 {
                return DriverReport(UringProbeReport(), problem: DriverProblem(signal: -code))
            }
        }
        let report = UringProbe.run()
        guard let failed = UringProbeReport.Feature.allCases.first(where: { report[$0] != .works }),
            case .fails(let code) = report[failed]
        else { return DriverReport(report, problem: nil) }
        return DriverReport(
            report,
            problem: failed == .ring
                ? DriverProblem(code: code, facts) : DriverProblem(missing: failed.name, facts))
    }

    private init(_ report: UringProbeReport, problem: DriverProblem?) {
        features = UringProbeReport.Feature.allCases.map { feature in
            let outcome =
                switch report[feature] {
                case .works: "works"
                case .fails(0): "does not work: answered otherwise than documented"
                case .fails(let code): "does not work: \(systemMessage(code))"
                case .notTried: "not tried"
                }
            return Feature(
                name: feature.name, since: feature.since, works: report[feature] == .works, outcome: outcome)
        }
        driver = problem == nil ? "uring" : nil
        self.problem = problem
    }
}

/// Why io_uring cannot be used here, and what whoever runs the machine can do about it.
public struct DriverProblem: Sendable, Equatable, CustomStringConvertible {
    public let cause: String
    public let remedy: String

    /// One line.
    public var description: String { "\(cause); \(remedy)" }

    /// From the errno of a set-up step of the driver (U-01, U-02, U-03).
    package init(step: String = "io_uring_setup", code: CInt, _ facts: HostFacts) {
        let answer = "\(step): \(systemMessage(code))"
        switch code {
        case EPERM where facts.ioUringDisabled == 2:
            cause = "\(answer): kernel.io_uring_disabled is 2"
            remedy = "run `sysctl kernel.io_uring_disabled=0`"
        case EPERM where facts.ioUringDisabled == 1:
            cause = "\(answer): kernel.io_uring_disabled is 1 and kernel.io_uring_group is \(facts.ioUringGroup ?? -1)"
            remedy = "run it as a member of that group, or `sysctl kernel.io_uring_group=GID`"
        case EPERM where facts.seccompMode == 2, ENOSYS where facts.seccompMode == 2:
            cause = "\(answer): the seccomp filter of this container forbids it"
            remedy = "allow io_uring_setup, io_uring_enter and io_uring_register in its profile: docs/CONTAINERS.md"
        case ENOSYS:
            cause = "\(answer): this kernel (\(facts.kernelRelease)) has no io_uring"
            remedy = "run on Linux 6.1 or later with CONFIG_IO_URING; gVisor does not do"
        case EPERM, EACCES:
            cause = "\(answer): a security module forbids it"
            remedy = "look for the denial in the audit log and allow io_uring there"
        case EINVAL:
            cause = "\(answer): this kernel (\(facts.kernelRelease)) lacks what Linux 6.1 brought"
            remedy = "run on Linux 6.1 or later"
        case ENOMEM:
            cause = "\(answer): locked memory is limited to \(Self.amount(facts.lockedMemoryMax))"
            remedy = "raise it (LimitMEMLOCK=infinity, ulimit -l unlimited)"
        case EMFILE, ENFILE:
            cause = "\(answer): at most \(facts.descriptorCountMax) descriptors"
            remedy = "raise LimitNOFILE (ulimit -n)"
        default:
            cause = answer
            remedy = "run `weir doctor` and report this"
        }
    }

    /// The filter ended the process that tried.
    package init(signal: CInt) {
        cause = "io_uring_setup: ended by signal \(signal): the seccomp filter forbids it"
        remedy = "allow io_uring_setup, io_uring_enter and io_uring_register in its profile: docs/CONTAINERS.md"
    }

    package init(missing feature: String, _ facts: HostFacts) {
        cause = "this kernel (\(facts.kernelRelease)) makes a ring, but does not do: \(feature)"
        remedy = "run on Linux 6.1 or later"
    }

    private static func amount(_ byteCount: UInt64) -> String {
        byteCount == .max ? "nothing in particular" : "\(byteCount >> 10) KiB"
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
