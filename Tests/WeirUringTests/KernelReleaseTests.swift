import Testing
import WeirUring

@Suite struct KernelReleaseTests {
    @Test(arguments: [
        ("6.1.79", 6, 1, 79, nil), ("6.18.44-custom", 6, 18, 44, nil), ("6.8.0-rc3+", 6, 8, 0, 3),
        ("6.8", 6, 8, 0, nil),
        ("6.8.0-31-generic", 6, 8, 0, nil), ("", 0, 0, 0, nil), ("nonsense", 0, 0, 0, nil),
    ])
    func releaseNamesItsNumbers(text: String, major: Int, minor: Int, patch: Int, candidate: Int?) {
        let kernel = KernelRelease(release: text, version: "#1 SMP")
        #expect([kernel.major, kernel.minor, kernel.patch] == [major, minor, patch])
        #expect(kernel.candidate == candidate)
    }

    @Test(arguments: [("5.15.0", false), ("6.6.99", false), ("6.7.0", true), ("6.18.44", true), ("7.0.0", true)])
    func socketCommandsCameWithLinux67(text: String, hasThem: Bool) {
        #expect(KernelRelease(release: text, version: "#1 SMP").hasSocketCommands == hasThem)
    }

    @Test func debianNamesTheSourceInTheVersion() {
        let kernel = KernelRelease(
            release: "6.1.0-18-amd64", version: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)")
        #expect([kernel.major, kernel.minor, kernel.patch] == [6, 1, 76])
        let backport = KernelRelease(
            release: "6.6.13+bpo-amd64", version: "#1 SMP PREEMPT_DYNAMIC Debian 6.6.13-1~bpo12+1 (2024-02-15)")
        #expect([backport.major, backport.minor, backport.patch] == [6, 6, 13])
    }

    @Test(arguments: [
        "6.1.54", "6.1.78", "6.2.0", "6.5.13", "6.6.1", "6.6.17", "6.7.0", "6.7.5", "6.8.0-rc1", "6.8.0-rc4",
        "6.5.0-18-generic",
    ])
    func multishotAcceptIsNotTrustedWhereItLosesSockets(release: String) {
        // U-05
        #expect(KernelRelease(release: release, version: "").losesAcceptedSockets)
    }

    @Test(arguments: [
        "6.1.0", "6.1.53", "6.1.79", "6.6.18", "6.7.6", "6.8.0-rc5", "6.8.0", "6.9.0-rc1", "6.18.44", "7.1",
    ])
    func multishotAcceptIsUsedElsewhere(release: String) {
        // U-05
        #expect(!KernelRelease(release: release, version: "").losesAcceptedSockets)
    }

    @Test func runningKernelIsKnown() {
        #expect(KernelRelease.current().major >= 5)
    }
}
