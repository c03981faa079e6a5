import WeirMemory
import WeirSession

/// The sides of sessions that found no buffer, in the order in which they asked.
struct StarvedQueue: ~Copyable {
    struct Entry: BitwiseCopyable {
        var slot: Int32
        var side: Side
        var generation: UInt32
    }

    private let entries: FlatArray<Entry>
    private var first = 0
    private(set) var count = 0

    init(capacity: Int) {
        entries = FlatArray(repeating: Entry(slot: -1, side: .downstream, generation: 0), count: capacity)
    }

    deinit { entries.deallocate() }

    var isFull: Bool { count == entries.count }

    /// Traps where the queue is full.
    mutating func push(_ entry: Entry) {
        precondition(!isFull)
        entries[(first + count) % entries.count] = entry
        count += 1
    }

    mutating func pop() -> Entry? {
        guard count > 0 else { return nil }
        let entry = entries[first]
        first = (first + 1) % entries.count
        count -= 1
        return entry
    }
}
