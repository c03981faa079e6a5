import Glibc
import WeirTesting

// Plays simulated days for as long as it is asked to; tools/simulate builds and starts it. Exit status: 0 all days were
// good, 1 one was not, 2 the arguments are wrong.

let usage = """
    usage: simulate --seeds N [--from S] [--jobs J]      play N days, beginning with seed S (1)
           simulate --minutes N [--from S] [--jobs J]    play days for N minutes
           simulate --seed S                             play one day again and tell all of it
           add --planted NAME to plant a fault: \(PlantedFault.allCases.map(\.rawValue).joined(separator: ", "))
    """

func say(_ line: String) {
    print(line)
    fflush(nil)
}

func refuse(_ why: String) -> Never {
    say("\(why)\n\(usage)")
    exit(2)
}

var plan = Plan()
var seed: UInt64?
var share: Int?
var rest = CommandLine.arguments.dropFirst()
while let option = rest.popFirst() {
    guard let value = rest.popFirst() else { refuse("\(option) needs a value") }
    func number(_ range: ClosedRange<UInt64>) -> UInt64 {
        guard let number = UInt64(value), range.contains(number) else { refuse("\(option) \(value) is no such number") }
        return number
    }
    switch option {
    case "--seeds": plan.seedCount = number(1...1 << 40)
    case "--minutes": plan.seconds = number(1...100_000) * 60
    case "--from": plan.first = number(0...1 << 40)
    case "--jobs": plan.jobCount = Int(number(1...64))
    case "--seed": seed = number(0...1 << 41)
    case "--planted":
        guard let fault = PlantedFault(rawValue: value) else { refuse("there is no fault called \(value)") }
        plan.planted = fault
    // Of a process that another has started.
    case "--share": share = Int(number(0...63))
    default: refuse("what is \(option)?")
    }
}

if let seed {
    let simulation = Simulation(seed: seed, planted: plan.planted)
    simulation.trace = { say($0) }
    simulation.run()
    for failure in simulation.failures { say("seed \(seed): \(failure)") }
    say(simulation.failures.isEmpty ? "seed \(seed): good" : "seed \(seed): failed")
    exit(simulation.failures.isEmpty ? 0 : 1)
}
guard (plan.seedCount == nil) != (plan.seconds == nil) else { refuse("say --seeds, --minutes or --seed") }
if let share {
    plan.play(share: share)
} else {
    var jobs = Jobs(plan)
    exit(jobs.run() ? 0 : 1)
}
