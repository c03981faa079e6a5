/// Which endpoint of a group serves which client: Maglev's table (Eisenbud and others, NSDI 2016, §3.4).
///
/// Every endpoint prefers the slots of the table in an order of its own, which follows from its name alone; they take turns to
/// take the next they prefer, more often those of more weight. So the shares are even to a slot, and when an endpoint
/// leaves, of the others' slots fewer than one in a hundred change hands besides (up to 0.8 % where it was measured, with 200
/// to 600 endpoints; a quarter of the slots double that).
package enum MaglevTable {
    /// Primes, so that every step visits all slots. The least that has a hundred slots for each endpoint is taken. They are
    /// few, because most clients move where a group grows beyond one.
    private static let slotCounts = [65_521, 1_048_573, 8_388_593]

    /// By slot, the position of an endpoint in `endpoints`; empty where there is none. Weights are above 0.
    package static func slots(_ endpoints: [(name: String, weight: Int)]) -> [Int32] {
        guard let heaviest = endpoints.map(\.weight).max() else { return [] }
        // Many clusters have one endpoint, and no choice.
        if endpoints.count == 1 { return [0] }
        let count = slotCounts.first { $0 >= endpoints.count * 100 } ?? slotCounts[slotCounts.count - 1]
        var slots = [Int32](repeating: -1, count: count)
        // Where each stands in its order, how far it goes at a time, and what it has gained towards its next turn.
        var places = endpoints.map { Int(StableHash.of($0.name, seed: 1) % UInt64(count)) }
        let steps = endpoints.map { 1 + Int(StableHash.of($0.name, seed: 2) % UInt64(count - 1)) }
        var gained = [Int](repeating: 0, count: endpoints.count)
        var taken = 0
        while true {
            for index in endpoints.indices {
                gained[index] += endpoints[index].weight
                guard gained[index] >= heaviest else { continue }
                gained[index] -= heaviest
                while slots[places[index]] >= 0 { places[index] = (places[index] + steps[index]) % count }
                slots[places[index]] = Int32(index)
                taken += 1
                if taken == count { return slots }
            }
        }
    }
}
