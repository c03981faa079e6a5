import Glibc
import WeirTesting

/// Processes that each play a share of the days: one that traps takes nobody with it, and the day it was playing is
/// known.
struct Jobs {
    private let plan: Plan
    private var jobs: [Job]
    private var tally = SimulatedTally()
    private let start = Plan.seconds()

    private struct Job {
        let process: pid_t
        let pipe: Int32
        var unread: [UInt8] = []
        var seed: UInt64?
        var failures: [String] = []
        var hasEnded = false
    }

    init(_ plan: Plan) {
        self.plan = plan
        jobs = (0..<plan.jobCount).map { Self.start(plan, share: $0) }
    }

    private static func start(_ plan: Plan, share: Int) -> Job {
        var ends: [Int32] = [0, 0]
        guard unsafe pipe(&ends) == 0 else { fatalError("pipe: errno \(errno)") }
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        unsafe posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        for end in ends { unsafe posix_spawn_file_actions_addclose(&actions, end) }
        var arguments: [UnsafeMutablePointer<CChar>?] = unsafe []
        for argument in ["simulate"] + plan.arguments(share: share) { unsafe arguments.append(strdup(argument)) }
        unsafe arguments.append(nil)
        var process: pid_t = 0
        let code = unsafe posix_spawn(&process, "/proc/self/exe", &actions, nil, arguments, environ)
        guard code == 0 else { fatalError("posix_spawn: errno \(code)") }
        close(ends[1])
        unsafe posix_spawn_file_actions_destroy(&actions)
        for index in unsafe arguments.indices { unsafe free(arguments[index]) }
        return Job(process: process, pipe: ends[0])
    }

    /// False where a day was not good. Nothing else is begun then.
    mutating func run() -> Bool {
        var nextWord = start + 10
        while jobs.contains(where: { !$0.hasEnded }) {
            var waiting = jobs.map { pollfd(fd: $0.hasEnded ? -1 : $0.pipe, events: Int16(POLLIN), revents: 0) }
            unsafe poll(&waiting, nfds_t(waiting.count), 1000)
            for index in jobs.indices where waiting[index].revents != 0 { read(index) }
            if Plan.seconds() >= nextWord {
                say(progress)
                nextWord += 10
            }
            if let failed = jobs.first(where: { !$0.failures.isEmpty && $0.hasEnded }) {
                for job in jobs where !job.hasEnded { kill(job.process, SIGTERM) }
                report(failed)
                return false
            }
        }
        for line in tally.lines.dropFirst(4) { say("  \(line)") }
        say(progress)
        return true
    }

    private func report(_ job: Job) {
        say(progress)
        guard let seed = job.seed else {
            say("a process ended before its first day: \(job.failures)")
            return
        }
        for failure in job.failures { say("seed \(seed): \(failure)") }
        say("replay: \(plan.replay(seed))")
    }

    private var progress: String {
        let elapsed = Plan.seconds() - start
        let rate = elapsed > 0 ? Double(tally.dayCount) / elapsed : 0
        return
            "\(tally.dayCount) seeds from \(plan.first) in \(Int(elapsed)) s, \(Int(rate)) a second; \(tally.turnCount) turns, \(tally.byteCount) bytes"
    }

    private mutating func read(_ index: Int) {
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = unsafe Glibc.read(jobs[index].pipe, &bytes, bytes.count)
        guard count > 0 else {
            end(index)
            return
        }
        jobs[index].unread.append(contentsOf: bytes[..<count])
        var lines = jobs[index].unread.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        jobs[index].unread = lines.popLast().map(Array.init) ?? []
        for line in lines { hear(String(decoding: line, as: UTF8.self), index) }
    }

    private mutating func hear(_ line: String, _ index: Int) {
        if line.hasPrefix("seed ") {
            jobs[index].seed = UInt64(line.dropFirst(5))
        } else if line.hasPrefix("failure ") {
            jobs[index].failures.append(String(line.dropFirst(8)))
        } else {
            _ = tally.add(line: line)
        }
    }

    private mutating func end(_ index: Int) {
        jobs[index].hasEnded = true
        close(jobs[index].pipe)
        var status: Int32 = 0
        unsafe waitpid(jobs[index].process, &status, 0)
        let signal = status & 0x7f
        if signal != 0 { jobs[index].failures.append("it trapped (signal \(signal)); the message stands above") }
        if status != 0 && jobs[index].failures.isEmpty { jobs[index].failures.append("it ended with \(status)") }
    }
}
