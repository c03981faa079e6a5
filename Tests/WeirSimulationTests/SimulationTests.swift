import Glibc
import Synchronization
import Testing
import WeirSession
import WeirTesting

/// Random days; see `Simulation`. `tools/simulate --seed 17` plays one of them again and tells all of it.
/// `WEIR_SEED=1-200 swift test --filter SimulationTests` plays other ones here, unoptimised, and names each before it
/// begins, for the one that traps.
@Suite struct SimulationTests {
    private static let seedCount = 2000
    private static let batchSize = 50

    private static let chosen: ClosedRange<UInt64>? = {
        guard let text = unsafe getenv("WEIR_SEED").map({ unsafe String(cString: $0) }) else { return nil }
        let ends = text.split(separator: "-").compactMap { UInt64($0) }
        guard let first = ends.first, let last = ends.last, first <= last else { return nil }
        return first...last
    }()

    private static let batches: [ClosedRange<UInt64>] = {
        if let chosen { return [chosen] }
        return stride(from: 1, through: seedCount, by: batchSize).map { UInt64($0)...UInt64($0 + batchSize - 1) }
    }()

    private static let played = Mutex(SimulatedTally())

    @Test(arguments: batches)
    func everySessionEndsAndEverythingComesHome(seeds: ClosedRange<UInt64>) {
        var tally = SimulatedTally()
        for seed in seeds {
            if Self.chosen != nil { tell("seed \(seed)") }
            let simulation = Simulation(seed: seed)
            simulation.run()
            #expect(simulation.failures == [], "replay: tools/simulate --seed \(seed)")
            tally += simulation.tally
        }
        let all = Self.played.withLock { played -> SimulatedTally? in
            played += tally
            return played.dayCount == Self.seedCount ? played : nil
        }
        if let all, Self.chosen == nil { expectVariety(all) }
    }

    // A simulation that finds nothing may be blind.
    @Test(arguments: PlantedFault.allCases)
    func plantedFaultIsFound(fault: PlantedFault) {
        let found = (UInt64(1)...400).first { seed in
            let simulation = Simulation(seed: seed, planted: fault)
            simulation.run()
            return !simulation.failures.isEmpty
        }
        #expect(found != nil)
        if let found { tell("simulation: \(fault) is found on seed \(found)") }
    }

    // A replay is worth nothing unless it is the same.
    @Test(arguments: [UInt64(3), 11, 42])
    func sameSeedIsTheSameDay(seed: UInt64) {
        func day() -> [String] {
            var lines: [String] = []
            let simulation = Simulation(seed: seed)
            simulation.trace = { lines.append($0) }
            simulation.run()
            return lines
        }
        let first = day()
        let second = day()
        let difference = zip(first, second).first { $0 != $1 }
        #expect(difference.map { [$0.0, $0.1] } == nil)
        #expect(first.count == second.count)
        #expect(first.count > 50)
    }

    /// What happened on all days together, once the last of them is over: the days are only as good as that.
    private func expectVariety(_ tally: SimulatedTally) {
        tell("simulation: \(Self.seedCount) seeds, \(tally.turnCount) turns, \(tally.byteCount) bytes")
        tell("simulation: " + Played.allCases.map { "\($0) \(tally[$0])" }.joined(separator: ", "))
        #expect(Played.allCases.filter { tally[$0] == 0 } == [])
        let missing = CloseReason.Other.allCases.filter { !Self.isTurnedAway($0) && tally.reasons[$0.label] == nil }
        #expect(missing == [])
        #expect(tally.completeCount > 3 * Self.seedCount / 2)
    }

    /// Leaves no record, or cannot happen on these days.
    private static func isTurnedAway(_ reason: CloseReason.Other) -> Bool {
        switch reason {
        case .connectionLimit, .listenerLimit, .connectFailed, .noDestination, .upstreamClosedEarly: true
        default: false
        }
    }
}

/// At once, so that it is there when the next line crashes.
private func tell(_ line: String) {
    print(line)
    fflush(nil)
}
