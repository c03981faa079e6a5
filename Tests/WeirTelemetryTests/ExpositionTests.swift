import Testing
import WeirTelemetry

@Suite struct ExpositionTests {
    private let workers = [MetricCells(count: 4096), MetricCells(count: 4096)]
    private let registry: MetricRegistry

    init() {
        registry = MetricRegistry(
            workers: workers, reasonLabels: ["downstream_closed", "upstream_reset"],
            guardRuleLabels: ["private", "link_local"])
    }

    private func samples(extra: [MetricFamily] = []) -> [String: String] {
        var samples: [String: String] = [:]
        for line in lines(of: Array(Exposition.text(registry, extra: extra, process: nil).utf8)) where line.first != "#"
        {
            let space = line.lastIndex(of: " ") ?? line.startIndex
            let previous = samples.updateValue(
                String(line[line.index(after: space)...]), forKey: String(line[..<space]))
            #expect(previous == nil, "twice: \(line)")
        }
        return samples
    }

    @Test func aCounterIsTheSumOverWorkers() {
        let base = registry.listener("egress")
        workers[0].add(base + ListenerCell.accepted, 2)
        workers[1].add(base + ListenerCell.accepted, 3)
        workers[1].add(base + ListenerCell.closedByReason + 1, 7)
        let samples = samples()
        #expect(samples["weir_accepted_connections_total{listener=\"egress\"}"] == "5")
        #expect(samples["weir_sessions_closed_total{listener=\"egress\",reason=\"upstream_reset\"}"] == "7")
        #expect(samples["weir_sessions_closed_total{listener=\"egress\",reason=\"downstream_closed\"}"] == "0")
    }

    @Test func theOldestGenerationInUseIsShown() {
        workers[0].set(WorkerCell.snapshotGeneration, 4)
        workers[1].set(WorkerCell.snapshotGeneration, 3)
        #expect(samples()["weir_snapshot_generation"] == "3")
    }

    @Test func activeIsWhatOpenedAndHasNotClosed() {
        let base = registry.listener("egress")
        workers[0].add(base + ListenerCell.opened, 5)
        workers[0].add(base + ListenerCell.closed, 2)
        #expect(samples()["weir_sessions_active{listener=\"egress\"}"] == "3")
    }

    @Test func activeIsNeverBelowZero() {
        let base = registry.listener("egress")
        workers[0].add(base + ListenerCell.closed, 2)
        #expect(samples()["weir_sessions_active{listener=\"egress\"}"] == "0")
    }

    @Test func aHistogramIsCumulativeInItsBaseUnit() {
        let base = registry.cluster("gateways") + ClusterCell.connectSeconds
        workers[0].observe(.latency, at: base, 1_500_000)
        workers[1].observe(.latency, at: base, 1_000_000_000)
        workers[1].observe(.latency, at: base, 60_000_000_000)
        let samples = samples()
        func bucket(_ bound: String) -> String? {
            samples["weir_upstream_connect_seconds_bucket{cluster=\"gateways\",le=\"\(bound)\"}"]
        }
        #expect(bucket("0.001") == "0")
        #expect(bucket("0.0025") == "1")
        #expect(bucket("0.5") == "1")
        #expect(bucket("1") == "2")
        #expect(bucket("10") == "2")
        #expect(bucket("+Inf") == "3")
        #expect(samples["weir_upstream_connect_seconds_count{cluster=\"gateways\"}"] == "3")
        #expect(samples["weir_upstream_connect_seconds_sum{cluster=\"gateways\"}"] == "61.0015")
    }

    @Test func labelValuesAreEscaped() {
        let base = registry.listener("a\"b\\c\nd")
        workers[0].add(base + ListenerCell.accepted, 1)
        #expect(samples()["weir_accepted_connections_total{listener=\"a\\\"b\\\\c\\nd\"}"] == "1")
    }

    @Test func theOverflowRangeIsShownOnceItCounts() {
        #expect(!samples().keys.contains { $0.contains("\"other\"") && $0.contains("cluster") })
        for index in 0..<500 {
            workers[0].add(registry.cluster("c\(index)") + ClusterCell.connectAttempts, 1)
        }
        let samples = samples()
        let attempts = samples.filter { $0.key.hasPrefix("weir_upstream_connect_attempts_total") }
        #expect(attempts.values.compactMap { Int($0) }.reduce(0, +) == 500)
        #expect(attempts["weir_upstream_connect_attempts_total{cluster=\"other\"}"] != nil)
    }

    @Test func aClusterThatIsCalledOtherIsNotShownTwice() {
        workers[0].add(registry.cluster("other") + ClusterCell.connectAttempts, 1)
        #expect(samples()["weir_upstream_connect_attempts_total{cluster=\"other\"}"] == "1")
    }

    @Test func familiesFromOutsideAreShown() {
        let families = [
            MetricFamily(
                "weir_driver_info", help: "The driver in use.", .gauge,
                [MetricFamily.Sample(.integer(1), labels: [("driver", "uring"), ("version", "0.1")])]),
            MetricFamily("weir_reload_age_seconds", help: "Since the last reload.", .gauge, .decimal(1.25)),
        ]
        let samples = samples(extra: families)
        #expect(samples["weir_driver_info{driver=\"uring\",version=\"0.1\"}"] == "1")
        #expect(samples["weir_reload_age_seconds"] == "1.25")
    }

    @Test func everySampleStandsBehindItsOwnTypeLine() {
        _ = (registry.listener("l"), registry.route(listener: "l", name: "r"), registry.cluster("c"))
        _ = registry.endpoint(cluster: "c", description: "e")
        var family = ""
        var seen: Set<String> = []
        for line in lines(of: Array(Exposition.text(registry).utf8)) {
            let words = line.split(separator: " ")
            if line.hasPrefix("# TYPE ") {
                family = String(words[2])
                #expect(seen.insert(family).inserted, "\(family) in two places")
            } else if line.first != "#" {
                let name = String(words[0].prefix { $0 != "{" })
                let own = ["", "_bucket", "_sum", "_count"].map { family + $0 }
                #expect(own.contains(name), "\(name) under \(family)")
            }
        }
        #expect(seen.count > 35)
    }

    /// Shows that Prometheus's own checker finds neither fault nor bad style, with awkward names and values in it.
    @Test func promtoolAcceptsIt() {
        for name in ["egress", "a\"b\\c\nd", "größe", ""] {
            let listener = registry.listener(name)
            workers[0].add(listener + ListenerCell.accepted, .max)
            workers[0].observe(.session, at: listener + ListenerCell.sessionSeconds, 7_000_000_000)
            workers[1].observe(.hello, at: listener + ListenerCell.helloBytes, 517)
            _ = registry.route(listener: name, name: name)
            _ = registry.cluster(name)
            _ = registry.endpoint(cluster: name, description: "[2001:db8::1]:443")
        }
        let directory = TemporaryDirectory()
        write(Exposition.text(registry), to: directory.file("metrics"))
        let status = runProgram(
            "promtool", ["check", "metrics"], input: directory.file("metrics"), output: directory.file("findings"))
        let findings = String(decoding: contents(of: directory.file("findings")), as: UTF8.self)
        #expect(status != nil, "promtool is missing: install the prometheus package")
        #expect(status == 0, "\(findings)")
        #expect(findings == "")
    }
}

@Suite struct ProcessFiguresTests {
    @Test func theKernelsFiguresAreRead() throws {
        let figures = try #require(ProcessFigures.current())
        #expect(figures.cpuSeconds > 0)
        #expect(figures.residentByteCount > 1 << 20)
        #expect(figures.virtualByteCount >= figures.residentByteCount)
        #expect((3...figures.descriptorCountMax).contains(figures.openDescriptorCount))
        #expect(figures.threadCount >= 1)
        // After 2020, and so not a count of ticks or of seconds since boot.
        #expect(figures.startTime > 1_577_836_800)
    }
}
