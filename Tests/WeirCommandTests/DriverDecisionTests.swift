import Glibc
import Testing
import Weir

/// U-01, U-02: what is said about the driver, in the log, the banner and the metric.
@Suite struct DriverDecisionTests {
    private var facts: HostFacts {
        var facts = HostFacts()
        facts.kernelRelease = "6.12.1"
        facts.ioUringDisabled = 0
        facts.seccompMode = 2
        facts.lockedMemoryMax = 8 << 20
        return facts
    }

    @Test func aFallbackIsOneLineWithCauseFactsAndRemedy() {
        let decision = DriverDecision(fallingBackFrom: DriverProblem(code: EPERM, facts), facts)
        #expect(
            decision.notice == """
                epoll instead of io_uring: io_uring_setup: Operation not permitted: the seccomp filter of this container \
                forbids it (Linux 6.12.1, kernel.io_uring_disabled 0, seccomp filter, locked memory 8192 KiB); allow \
                io_uring_setup, io_uring_enter and io_uring_register in its profile: docs/CONTAINERS.md
                """)
        #expect("\(decision)" == "epoll (io_uring is forbidden by seccomp)")
    }

    @Test func whatWorksOrWasAskedForIsNoNews() {
        #expect(DriverDecision(uring: .available).notice == nil)
        #expect("\(DriverDecision(uring: .available))" == "uring")
        #expect(DriverDecision.requestedEpoll.notice == nil)
        #expect("\(DriverDecision.requestedEpoll)" == "epoll (as asked for)")
    }

    /// U-03.
    @Test func smallerQueuesAreNewsThoughTheyWork() throws {
        let decision = DriverDecision(uring: .available, completionCount: 8192, insteadOf: 65536, facts)
        let notice = try #require(decision.notice)
        #expect(notice.hasPrefix("io_uring with completion queues of 8192 entries instead of 65536: "))
        #expect(notice.contains("locked memory is limited to 8192 KiB"))
        #expect(decision.name == .uring && decision.reason == .available)
    }

    /// The label is part of what operators alert on.
    @Test func theReasonsAreAClosedSetOfWords() {
        #expect(
            DriverDecision.Reason.allCases.map(\.rawValue) == [
                "available", "requested", "forbidden_sysctl", "forbidden_seccomp", "denied", "unsupported", "memlock",
                "descriptors", "failed",
            ])
    }
}
