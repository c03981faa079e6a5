import Glibc

/// Why io_uring cannot be used here, and what whoever runs the machine can do about it.
public struct DriverProblem: Error, Sendable, Equatable, CustomStringConvertible {
    public let reason: DriverDecision.Reason
    public let cause: String
    public let remedy: String

    /// One line.
    public var description: String { "\(cause); \(remedy)" }

    private static let profileRemedy =
        "allow io_uring_setup, io_uring_enter and io_uring_register in its profile: docs/CONTAINERS.md"

    /// From the errno with which `call` was answered while the driver was tried or set up (U-01, U-02, U-03).
    package init(call: String = "io_uring_setup", code: CInt, _ facts: HostFacts) {
        let answer = "\(call): \(systemMessage(code))"
        switch code {
        case EPERM where facts.ioUringDisabled == 2:
            reason = .forbiddenBySysctl
            cause = "\(answer): kernel.io_uring_disabled is 2"
            remedy = "run `sysctl kernel.io_uring_disabled=0`"
        case EPERM where facts.ioUringDisabled == 1 && !facts.isInIOUringGroup:
            reason = .forbiddenBySysctl
            cause = "\(answer): kernel.io_uring_disabled is 1 and kernel.io_uring_group is \(facts.ioUringGroup ?? -1)"
            remedy = "run it as a member of that group, or `sysctl kernel.io_uring_group=GID`"
        case EPERM where facts.seccompMode == 2,
            EACCES where facts.seccompMode == 2,
            ENOSYS where facts.seccompMode == 2 && !facts.isBeforeIOUring:
            reason = .forbiddenBySeccomp
            cause = "\(answer): the seccomp filter of this container forbids it"
            remedy = Self.profileRemedy
        case ENOSYS:
            reason = .unsupported
            cause = "\(answer): this kernel (\(facts.kernelRelease)) has no io_uring"
            remedy = "run on Linux 6.1 or later with CONFIG_IO_URING; gVisor does not do"
        case EPERM, EACCES:
            reason = .denied
            cause = "\(answer): a security module forbids it"
            remedy = "look for the denial in the audit log and allow io_uring there"
        case EINVAL, EOPNOTSUPP:
            reason = .unsupported
            cause = "\(answer): this kernel (\(facts.kernelRelease)) lacks what Linux 6.1 brought"
            remedy = "run on Linux 6.1 or later"
        case ENOMEM:
            reason = .memlock
            cause = "\(answer): locked memory is limited to \(Self.amount(facts.lockedMemoryMax))"
            remedy = "raise it (LimitMEMLOCK=infinity, ulimit -l unlimited); all processes of this user share it"
        case EMFILE, ENFILE:
            reason = .descriptors
            cause = "\(answer): at most \(facts.descriptorCountMax) descriptors"
            remedy = "raise LimitNOFILE (ulimit -n)"
        default:
            reason = .failed
            cause = answer
            remedy = "run `weir doctor` and report this"
        }
    }

    /// The filter ended the process that tried.
    package init(signal: CInt) {
        reason = .forbiddenBySeccomp
        cause = "io_uring: ended by signal \(signal): the seccomp filter forbids it"
        remedy = Self.profileRemedy
    }

    package init(missing feature: String, _ facts: HostFacts) {
        reason = .unsupported
        cause = "this kernel (\(facts.kernelRelease)) makes a ring, but does not do: \(feature)"
        remedy = "run on Linux 6.1 or later"
    }

    private static func amount(_ byteCount: UInt64) -> String {
        byteCount == .max ? "nothing in particular" : "\(byteCount >> 10) KiB"
    }
}
