import Glibc
import Testing
import WeirUring

@Suite struct UringProbeTests {
    @Test func aReportIsUsableOnlyWhenEveryFeatureWorks() {
        var report = UringProbeReport()
        #expect(!report.isUsable)
        for feature in UringProbeReport.Feature.allCases { report[feature] = .works }
        #expect(report.isUsable)
        report[.cancel] = .fails(call: "io_uring_enter", 0)
        #expect(!report.isUsable)
    }

    /// T-19
    @Test func aKernelWithoutRestrictionsWillDo() {
        var report = UringProbeReport()
        for feature in UringProbeReport.Feature.allCases { report[feature] = .works }
        report[.restrictions] = .fails(call: "io_uring_register", EINVAL)
        #expect(report.isUsable)
    }

    @Test func theFeaturesAfterAFailedOneAreNotTried() {
        let report = UringProbe.run()
        let firstFailure = report.outcomes.firstIndex { $0 != .works } ?? report.outcomes.count
        #expect(report.outcomes.dropFirst(firstFailure + 1).allSatisfy { $0 == .notTried })
    }

    /// Without a ring there is nothing to ask: the kernel, the sysctl or seccomp said no.
    @Test(.enabled(if: UringProbe.run()[.ring] == .works))
    func aKernelThatMakesTheRingHasEveryFeatureOfTheDriver() {
        #expect(UringProbe.run().isUsable)
    }
}
