import Glibc
import Testing
import WeirTesting

/// Random days of a worker; see `Simulation`. `WEIR_SEED=17 swift test --filter SimulationTests` plays one of them
/// again and tells all of it, `WEIR_SEED=1-200` some of them.
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

    @Test(arguments: batches)
    func everySessionEndsAndEverythingComesHome(seeds: ClosedRange<UInt64>) {
        for seed in seeds {
            let simulation = Simulation(seed: seed)
            if Self.chosen != nil { tell("seed \(seed)") }
            if Self.chosen?.count == 1 { simulation.trace = { tell($0) } }
            simulation.run()
            #expect(simulation.failures == [], "replay with WEIR_SEED=\(seed)")
        }
        print("simulation: \(seeds.count) seeds, \(seeds.lowerBound) to \(seeds.upperBound)")
    }
}

/// At once, so that it is there when the next line crashes.
private func tell(_ line: String) {
    print(line)
    fflush(nil)
}
