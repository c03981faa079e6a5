import Glibc
import Testing
import Weir

/// U-01, U-02, U-03: a refused ring is explained by what refused it, with the remedy.
@Suite struct DriverProblemTests {
    private func facts(_ change: (inout HostFacts) -> Void = { _ in }) -> HostFacts {
        var facts = HostFacts()
        facts.kernelRelease = "5.15.0"
        facts.lockedMemoryMax = 65536
        facts.seccompMode = 0
        change(&facts)
        return facts
    }

    @Test func theSysctlIsBlamedBeforeSeccomp() {
        let problem = DriverProblem(
            code: EPERM,
            facts {
                $0.ioUringDisabled = 2
                $0.seccompMode = 2
            })
        #expect(problem.reason == .forbiddenBySysctl)
        #expect(problem.cause.hasSuffix("kernel.io_uring_disabled is 2"))
        #expect(problem.remedy == "run `sysctl kernel.io_uring_disabled=0`")
    }

    @Test func aGroupThatMayIsNamed() {
        let problem = DriverProblem(
            code: EPERM,
            facts {
                $0.ioUringDisabled = 1
                $0.ioUringGroup = 977
            })
        #expect(problem.reason == .forbiddenBySysctl)
        #expect(problem.cause.hasSuffix("kernel.io_uring_disabled is 1 and kernel.io_uring_group is 977"))
    }

    @Test func theSysctlIsNotBlamedByWhoItDoesNotConcern() {
        let problem = DriverProblem(
            code: EPERM,
            facts {
                $0.ioUringDisabled = 1
                $0.ioUringGroup = 977
                $0.isInIOUringGroup = true
                $0.seccompMode = 2
            })
        #expect(problem.reason == .forbiddenBySeccomp)
    }

    /// Docker and containerd answer EPERM, Podman ENOSYS.
    @Test(arguments: [EPERM, ENOSYS])
    func aContainersFilterIsNamed(code: CInt) {
        let problem = DriverProblem(code: code, facts { $0.seccompMode = 2 })
        #expect(problem.reason == .forbiddenBySeccomp)
        #expect(problem.cause.hasSuffix("the seccomp filter of this container forbids it"))
        #expect(problem.remedy.contains("io_uring_register"))
    }

    @Test func aFilterThatKillsIsNamedByItsSignal() {
        #expect(
            DriverProblem(signal: SIGSYS).cause == "io_uring: ended by signal 31: the seccomp filter forbids it")
    }

    @Test func anOldKernelIsNamed() {
        #expect(
            DriverProblem(code: EINVAL, facts()).cause.hasSuffix(
                "this kernel (5.15.0) lacks what Linux 6.1 brought"))
        #expect(DriverProblem(code: ENOSYS, facts()).cause.hasSuffix("this kernel (5.15.0) has no io_uring"))
    }

    @Test func theLimitInTheWayIsNamed() {
        #expect(DriverProblem(code: ENOMEM, facts()).cause.hasSuffix("locked memory is limited to 64 KiB"))
        #expect(
            DriverProblem(code: EMFILE, facts { $0.descriptorCountMax = 20 }).cause.hasSuffix(
                "at most 20 descriptors"))
    }

    /// Behind Docker's filter a kernel from before io_uring answers as the filter does.
    @Test func aKernelWithoutIOUringIsNotExplainedByAFilter() {
        let old = facts {
            $0.kernelRelease = "4.19.0-26-amd64"
            $0.seccompMode = 2
        }
        #expect(DriverProblem(code: ENOSYS, old).reason == .unsupported)
    }

    @Test(arguments: [
        (EPERM, DriverDecision.Reason.denied), (EACCES, .denied), (ENOSYS, .unsupported), (EINVAL, .unsupported),
        (ENOMEM, .memlock), (EMFILE, .descriptors), (ENFILE, .descriptors), (EIO, .failed),
    ])
    func everyAnswerHasItsReason(code: CInt, reason: DriverDecision.Reason) {
        #expect(DriverProblem(code: code, facts()).reason == reason)
    }

    @Test func theCallThatWasRefusedIsNamed() {
        #expect(DriverProblem(call: "io_uring_enter", code: EPERM, facts()).cause.hasPrefix("io_uring_enter: "))
    }

    @Test func theProbeFindsEveryFeatureOrAProblem() {
        let report = DriverReport.probe()
        #expect(report.features.allSatisfy(\.works) == (report.problem == nil))
        #expect(report.features.allSatisfy { $0.works == ($0.outcome == "works") })
    }
}
