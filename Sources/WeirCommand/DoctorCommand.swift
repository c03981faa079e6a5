import ArgumentParser
import Glibc
import Weir

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Try what this machine allows, name the I/O driver, and say how to fix what is missing.")

    @Option(
        name: .customLong("io"),
        help: ArgumentHelp("The choice to judge, as for `run`.", valueName: "auto|uring|epoll"))
    var choice = Proxy.DriverChoice.automatic

    func run() throws {
        let findings = Findings(
            HostFacts.here(), DriverReport.probe(workersOf: Configuration()), choice, Capacity(.egressDefault()))
        write(findings.text, to: STDOUT_FILENO)
        guard findings.canRun else { throw CommandFailure(.driver, []) }
    }
}

/// What `doctor` prints: one fact per line, then what to do about them.
struct Findings {
    let text: String
    let canRun: Bool

    init(_ facts: HostFacts, _ report: DriverReport, _ choice: Proxy.DriverChoice, _ capacity: Capacity) {
        var rows: [(String, String)] = [
            ("kernel", facts.kernelRelease),
            ("kernel.io_uring_disabled", Self.sysctl(facts)),
            ("seccomp", Self.seccomp(facts.seccompMode)),
            ("locked memory", Self.amount(facts.lockedMemoryMax)),
            ("descriptors", "\(facts.descriptorCountMax), can be raised to \(facts.descriptorCountMaxHard)"),
        ]
        rows.append(("sessions", "\(capacity)"))
        for feature in report.features {
            let since = feature.works ? "" : " (since Linux \(feature.since))"
            rows.append(("io_uring: \(feature.name)", feature.outcome + since))
        }
        let decision = report.decision(choice)
        rows.append(("driver", decision.map { "\($0)" } ?? "none"))
        let width = rows.map(\.0.count).max()! + 2
        var lines = rows.map { $0 + String(repeating: " ", count: width - $0.count) + $1 }
        if let problem = report.problem {
            lines += [
                "", "\(decision == nil ? "cannot run" : "no io_uring"): \(problem.cause)", "fix: \(problem.remedy)",
            ]
        } else if let notice = decision?.notice {
            lines += ["", notice]
        }
        if facts.descriptorCountMaxHard < Self.descriptorCountAdvised {
            lines += ["", "few descriptors: a session takes two", "fix: raise LimitNOFILE (ulimit -Hn)"]
        }
        text = lines.joined(separator: "\n") + "\n"
        canRun = decision != nil
    }

    /// About 32,000 sessions.
    private static let descriptorCountAdvised = 65536

    private static func sysctl(_ facts: HostFacts) -> String {
        switch facts.ioUringDisabled {
        case nil: "absent (before Linux 6.6): allowed"
        case 0: "0: allowed"
        case 1: "1: allowed for CAP_SYS_ADMIN and for group \(facts.ioUringGroup ?? -1)"
        case let value?: "\(value): forbidden"
        }
    }

    private static func seccomp(_ mode: Int?) -> String {
        switch mode {
        case 0: "off"
        case 2: "a filter is in force"
        case let mode?: "mode \(mode)"
        case nil: "unknown"
        }
    }

    private static func amount(_ byteCount: UInt64) -> String {
        byteCount == .max ? "unlimited" : "\(byteCount >> 10) KiB"
    }
}
