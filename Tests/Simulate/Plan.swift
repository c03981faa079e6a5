import Glibc
import WeirTesting

/// Which days are to be played.
struct Plan {
    var first: UInt64 = 1
    var seedCount: UInt64?
    var seconds: UInt64?
    var jobCount = 2
    var planted: PlantedFault?

    /// The arguments of a process that plays one share of it.
    func arguments(share: Int) -> [String] {
        var arguments = ["--from", "\(first)", "--jobs", "\(jobCount)", "--share", "\(share)"]
        if let seedCount { arguments += ["--seeds", "\(seedCount)"] }
        if let seconds { arguments += ["--minutes", "\(seconds / 60)"] }
        if let planted { arguments += ["--planted", planted.rawValue] }
        return arguments
    }

    /// The command that plays `seed` again.
    func replay(_ seed: UInt64) -> String {
        "tools/simulate --seed \(seed)" + (planted.map { " --planted \($0.rawValue)" } ?? "")
    }

    /// Plays every `jobCount`th day. Says on standard output which day it begins, so that it is known when one traps,
    /// what failed, and every now and then what was played since.
    func play(share: Int) {
        let start = Self.seconds()
        var seed = first + UInt64(share)
        var tally = SimulatedTally()
        func tell() {
            for line in tally.lines { say(line) }
            say("told")
            tally = SimulatedTally()
        }
        var lastTold = start
        while seedCount.map({ seed < first + $0 }) ?? true {
            let now = Self.seconds()
            if let seconds, now - start >= Double(seconds) { break }
            if now - lastTold > 1 {
                tell()
                lastTold = now
            }
            say("seed \(seed)")
            let simulation = Simulation(seed: seed, planted: planted)
            simulation.run()
            tally += simulation.tally
            if !simulation.failures.isEmpty {
                for failure in simulation.failures { say("failure \(failure)") }
                break
            }
            seed += UInt64(jobCount)
        }
        tell()
    }

    static func seconds() -> Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
