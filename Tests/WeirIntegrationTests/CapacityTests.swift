import Synchronization
import Testing
import Weir
import WeirMemory
import WeirModel
import WeirSockets
import WeirTelemetry

private let mebibyte = 1 << 20

/// What is derived from the machine's limits (T-12, T-13, P-12).
@Suite struct CapacityTests {
    private func capacity(
        descriptors: Int = 1_000_000, memory: Int = 64 << 30, ofGroup: Bool = false, processors: Int = 2,
        _ change: (inout Configuration) -> Void = { _ in }
    ) -> Capacity {
        var configuration = Configuration.egressDefault()
        change(&configuration)
        return Capacity(
            configuration,
            MachineLimits(
                descriptorCount: descriptors, memoryByteCount: memory, isMemoryOfGroup: ofGroup,
                processorCount: processors))
    }

    @Test func descriptorsBoundSessionsAtTwoEach() {
        let capacity = capacity(descriptors: 20_000)
        #expect(capacity.sessionCountMax == (20_000 - 256 - 2 - 2 * 64) / 2)
        #expect(capacity.bound == .descriptors)
    }

    @Test func fewDescriptorsStillServeSomebody() {
        #expect(capacity(descriptors: 128).sessionCountMax == (128 - 64 - 2) / 2)
        #expect(capacity(descriptors: 20).sessionCountMax == 16)
    }

    /// P-12: two thousand stalled sessions and one more.
    @Test func memoryOfAControlGroupBoundsSessionsAndBuffers() {
        let capacity = capacity(memory: 128 * mebibyte, ofGroup: true)
        #expect(capacity.sessionCountMax == 2048)
        #expect(capacity.bound == .memory)
        #expect(capacity.largeBufferCount * capacity.workerCount * 16384 == 48 * mebibyte)
        // Spread evenly, and each of the first half of the buffers one of a session that holds two.
        #expect(capacity.largeBufferCount / 2 / 2 + capacity.largeBufferCount / 2 > 1024 + 64)
    }

    @Test func theConfigurationBoundsWhatItCanHave() {
        let modest = capacity { $0.limits.connections = 500 }
        #expect(modest.sessionCountMax == 500)
        #expect(modest.bound == .configuration)
        #expect(modest.warning == nil)
        let greedy = capacity(descriptors: 1024) { $0.limits.connections = 200_000 }
        #expect(greedy.bound == .descriptors)
        #expect(
            greedy.warning
                == "limits.connections asks for 200000 sessions; descriptors allow 431: raise LimitNOFILE (ulimit -Hn)")
    }

    @Test func startSaysWhatBindsIt() {
        #expect(
            "\(capacity(descriptors: 20_000, memory: 128 * mebibyte, ofGroup: true))"
                == "at most 2048 sessions, bound by memory (descriptors 20000, memory 128 MiB of the control group); "
                + "relay buffers up to 48 MiB")
    }

    @Test func workersAreAsManyAsProcessorsUnlessTheConfigurationSays() {
        #expect(capacity(processors: 3).workerCount == 3)
        #expect(capacity(processors: 3) { $0.workerCount = 5 }.workerCount == 5)
    }

    @Test func theKernelsShareShrinksWithTheNumberOfSessionsAndStaysBelowHalf() {
        let memory = 128 * mebibyte
        let budget = SocketBudget(byteCount: memory, sessions: SharedCounter())
        #expect(budget.share(sessionCount: 32) == nil)
        #expect(budget.share(sessionCount: 64) == 43690)
        #expect(budget.share(sessionCount: 2048) == 4096)
        // Two buffers for each, and twice what was asked for.
        let sum = (33...2048).reduce(0) { $0 + 2 * 2 * Int(budget.share(sessionCount: $1) ?? 0) }
        #expect(sum + memory / 16 < memory / 2)
    }
}

@Suite struct ControlGroupTests {
    private func groups(mounts: String, membership: String, _ files: [String: String]) -> ControlGroups {
        ControlGroups(mounts: mounts, membership: membership) { files[$0] }
    }

    private static let v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n"
    private static let v1 = """
        tmpfs /sys/fs/cgroup tmpfs rw 0 0
        cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
        cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
        cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0

        """

    @Test func theLeastLimitOfTheGroupsAroundHolds() throws {
        let groups = groups(
            mounts: Self.v2, membership: "0::/a.slice/b.service\n",
            [
                "/sys/fs/cgroup/a.slice/b.service/memory.max": "max\n",
                "/sys/fs/cgroup/a.slice/b.service/memory.high": "400\n",
                "/sys/fs/cgroup/a.slice/memory.max": "300\n",
                "/sys/fs/cgroup/a.slice/memory.current": "250\n",
                "/sys/fs/cgroup/a.slice/memory.stat": "anon 100\ninactive_file 30\nactive_file 20\nfile 60\n",
                "/sys/fs/cgroup/a.slice/b.service/cpu.max": "150000 100000\n",
                "/sys/fs/cgroup/a.slice/cpu.max": "max 100000\n",
            ])
        let memory = try #require(groups.memoryLimit)
        #expect(memory == (300, 200))
        #expect(groups.processorLimit == 2)
    }

    /// A container sees its own group as the root of the mount, while the path may be the host's.
    @Test func theRootOfTheMountCounts() throws {
        let groups = groups(
            mounts: Self.v2, membership: "0::/kubepods/pod1/c1\n",
            ["/sys/fs/cgroup/memory.max": "134217728\n", "/sys/fs/cgroup/memory.current": "1000\n"])
        #expect(try #require(groups.memoryLimit) == (134_217_728, 1000))
    }

    @Test func versionOneIsReadToo() throws {
        let groups = groups(
            mounts: Self.v1, membership: "5:memory:/box\n1:cpu,cpuacct:/box\n0::/\n",
            [
                "/sys/fs/cgroup/memory/box/memory.limit_in_bytes": "1000\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "/sys/fs/cgroup/memory/box/memory.usage_in_bytes": "900\n",
                "/sys/fs/cgroup/memory/box/memory.stat":
                    "inactive_file 1\ntotal_inactive_file 50\ntotal_active_file 0\n",
                "/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "50000\n",
                "/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            ])
        #expect(try #require(groups.memoryLimit) == (1000, 850))
        #expect(groups.processorLimit == 1)
    }

    @Test func withoutGroupsThereIsNoLimit() {
        let groups = groups(mounts: "", membership: "", [:])
        #expect(groups.memoryLimit == nil)
        #expect(groups.processorLimit == nil)
    }
}

@Suite struct MemoryWatchTests {
    private final class Usage: Sendable {
        let text = Mutex("")
    }

    /// T-13: above the high mark until below the low one.
    @Test func aGroupIsShortFromTheHighMarkToTheLowOne() {
        let usage = Usage()
        let groups = ControlGroups(mounts: "cgroup2 /g cgroup2 rw 0 0\n", membership: "0::/\n") { path in
            switch path {
            case "/g/memory.max": "100000\n"
            case "/g/memory.current": usage.text.withLock { $0 }
            default: nil
            }
        }
        var watch = MemoryWatch(groups: groups, meminfo: { nil })
        var seen: [Bool] = []
        for used in [94_000, 95_000, 91_000, 90_000, 89_000, 94_000] {
            usage.text.withLock { $0 = "\(used)\n" }
            watch.look()
            seen.append(watch.isShort)
        }
        #expect(seen == [false, true, true, true, false, false])
    }

    @Test func withoutAGroupTheMachineCounts() {
        var watch = MemoryWatch(
            groups: ControlGroups(mounts: "", membership: "") { _ in nil },
            meminfo: { "MemTotal:       100000 kB\nMemFree:  1 kB\nMemAvailable:     1000 kB\n" })
        watch.look()
        #expect(watch.isShort)
        watch = MemoryWatch(groups: ControlGroups(mounts: "", membership: "") { _ in nil }, meminfo: { nil })
        watch.look()
        #expect(!watch.isShort)
    }
}

@Suite struct ShortageWatchTests {
    private let capacity = Capacity(
        .egressDefault(),
        MachineLimits(
            descriptorCount: 1024, memoryByteCount: 1 << 30, isMemoryOfGroup: false, processorCount: 2))

    @Test func eachKindIsSaidOnceForAllThatCameSinceTheLastLook() {
        var watch = ShortageWatch()
        var counts: [Shortage: UInt64] = [.descriptors: 1, .sourcePorts: 40]
        let lines = watch.lines(capacity) { counts[$0] ?? 0 }
        #expect(
            lines == [
                "short of descriptors, once: accepting pauses until some are free; raise LimitNOFILE (ulimit -Hn), "
                    + "or fs.file-max for the machine",
                "short of source ports, 40 times: connects to one destination fail; widen "
                    + "net.ipv4.ip_local_port_range, or add addresses or endpoints",
            ])
        #expect(watch.lines(capacity) { counts[$0] ?? 0 } == [])
        counts[.sessions] = 7
        #expect(
            watch.lines(capacity) { counts[$0] ?? 0 }
                == [
                    "short of sessions, 7 times: clients beyond 431 are reset; raise LimitNOFILE (ulimit -Hn), 1024 now"
                ])
    }

    @Test(arguments: Shortage.allCases)
    func everyKindHasALabelForAMetricAndALine(kind: Shortage) {
        #expect(kind.label.utf8.allSatisfy { (97...122).contains($0) || $0 == 95 })
        var watch = ShortageWatch()
        #expect(watch.lines(capacity) { $0 == kind ? 2 : 0 }.count == 1)
    }
}
