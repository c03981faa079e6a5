import Glibc

/// The I/O driver of a process, and why it is that one. All workers of a process have the same.
public struct DriverDecision: Sendable, Equatable {
    public enum Name: String, Sendable, CaseIterable {
        case uring
        case epoll
    }

    /// The label `reason` of `weir_driver_info`.
    public enum Reason: String, Sendable, CaseIterable {
        /// io_uring works here.
        case available
        /// The caller wanted this one.
        case requested
        /// kernel.io_uring_disabled.
        case forbiddenBySysctl = "forbidden_sysctl"
        /// A seccomp filter, as in a container with its engine's default profile.
        case forbiddenBySeccomp = "forbidden_seccomp"
        /// By something else, such as a security module.
        case denied
        /// The kernel has no io_uring, or lacks what the driver is built on.
        case unsupported
        /// Not enough lockable memory for the rings.
        case memlock
        /// No descriptor left for a ring.
        case descriptors
        /// Any other error.
        case failed
    }

    public let name: Name
    public let reason: Reason
    /// What an operator should hear, in one line: why io_uring is not used, or not as it should be, and what helps. nil
    /// where there is nothing to say.
    public let notice: String?

    package static let requestedEpoll = DriverDecision(.epoll, .requested, notice: nil)

    /// io_uring works, and is `.available` or `.requested`.
    package init(uring reason: Reason, notice: String? = nil) { self.init(.uring, reason, notice: notice) }

    init(uring reason: Reason, _ size: RingSize, insteadOf wanted: RingSize) {
        if size == wanted {
            self.init(uring: reason)
        } else {
            self.init(
                uring: reason, completionCount: size.completionCount, insteadOf: wanted.completionCount, .here())
        }
    }

    /// io_uring works with smaller completion queues than it should have (U-03).
    package init(uring reason: Reason, completionCount: Int, insteadOf wanted: Int, _ facts: HostFacts) {
        let problem = DriverProblem(code: ENOMEM, facts)
        self.init(
            .uring, reason,
            notice: """
                io_uring with completion queues of \(completionCount) entries instead of \(wanted): \(problem.cause) \
                (\(facts.summary)); \(problem.remedy)
                """)
    }

    /// io_uring was tried and does not do.
    package init(fallingBackFrom problem: DriverProblem, _ facts: HostFacts) {
        name = .epoll
        reason = problem.reason
        notice = "epoll instead of io_uring: \(problem.cause) (\(facts.summary)); \(problem.remedy)"
    }

    private init(_ name: Name, _ reason: Reason, notice: String?) {
        self.name = name
        self.reason = reason
        self.notice = notice
    }
}

extension DriverDecision: CustomStringConvertible {
    /// A few words: `uring`, `epoll (io_uring is forbidden by seccomp)`.
    public var description: String {
        let words: String? =
            switch reason {
            case .available: nil
            case .requested: "as asked for"
            case .forbiddenBySysctl: "io_uring is forbidden by kernel.io_uring_disabled"
            case .forbiddenBySeccomp: "io_uring is forbidden by seccomp"
            case .denied: "io_uring is denied"
            case .unsupported: "this kernel's io_uring does not do"
            case .memlock: "too little lockable memory for io_uring"
            case .descriptors: "too few descriptors for io_uring"
            case .failed: "io_uring fails"
            }
        return words.map { "\(name.rawValue) (\($0))" } ?? name.rawValue
    }
}
