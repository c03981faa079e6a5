import Glibc
import WeirIO
import WeirMemory

/// A driver's pumps in flight: as many as there are carriers at most. An engine's place for a pump costs two bytes until
/// it has one.
package final class PumpTable {
    package struct Entry: BitwiseCopyable {
        package var token = Token.silent
        package var place = -1
        /// The sockets, as the driver numbers them.
        package var from: Int32 = -1
        package var to: Int32 = -1
        package var carrier = Carrier.buffer(0)
        package var pump = Pump(capacity: 1)
        /// It stands in the queue of those to be run.
        fileprivate var isQueued = false
    }

    private let carriers: CarrierPool
    /// By place: which entry, -1 for none.
    private let indices: FlatArray<Int16>
    private let entries: FlatArray<Entry>
    private var free: [Int16]
    private var nextResting = 0
    /// Entries to be run, and those that are being run.
    private var queue: [Int16] = []
    private var running: [Int16] = []

    /// `placeCount`: places are below it.
    package init(placeCount: Int, carriers: CarrierPool) {
        self.carriers = carriers
        let count = min(carriers.countMax, Int(Int16.max))
        indices = FlatArray(repeating: -1, count: placeCount)
        entries = FlatArray(repeating: Entry(), count: count)
        free = (0..<Int16(count)).reversed()
        queue.reserveCapacity(count)
        running.reserveCapacity(count)
    }

    deinit {
        for index in entries.indices where entries[index].token != .silent {
            carriers.giveBack(entries[index].carrier, isEmpty: false)
        }
        indices.deallocate()
        entries.deallocate()
    }

    /// An entry for a new pump, with a carrier; nil: there is no carrier.
    package func start(_ token: Token, at place: Int, from: Int32, to: Int32) -> Int? {
        precondition(indices[place] < 0, "a second pump for the same token")
        guard let index = free.last, let carrier = carriers.take() else { return nil }
        free.removeLast()
        indices[place] = index
        var entry = Entry(
            token: token, place: place, from: from, to: to, carrier: carrier,
            pump: Pump(capacity: carriers.capacity(of: carrier)))
        // The one before may still stand there.
        entry.isQueued = entries[Int(index)].isQueued
        entries[Int(index)] = entry
        return Int(index)
    }

    /// The entry of the pump in flight with this token; nil where there is none.
    package func index(of token: Token, at place: Int) -> Int? {
        guard indices.indices.contains(place), indices[place] >= 0 else { return nil }
        let index = Int(indices[place])
        return entries[index].token == token ? index : nil
    }

    package subscript(index: Int) -> Entry {
        get { entries[index] }
        set { entries[index] = newValue }
    }

    /// Changes what is known of a pump.
    package func update(_ index: Int, _ change: (inout Pump) -> Void) { change(&entries[index].pump) }

    /// The pump is over; its carrier is free, its entry too.
    package func finish(_ index: Int) {
        let entry = entries[index]
        carriers.giveBack(entry.carrier, isEmpty: entry.pump.isEmpty)
        indices[entry.place] = -1
        entries[index].token = .silent
        free.append(Int16(index))
    }

    /// See `Pump.resetOfDestination`; of the pump in flight at `place`, which may be anything.
    package func resetOfDestination(at place: Int) -> Int32? {
        guard indices.indices.contains(place), indices[place] >= 0 else { return nil }
        return entries[Int(indices[place])].pump.resetOfDestination
    }

    /// A pump that holds a carrier and has nothing to move, the next in turn.
    package func resting() -> Int? {
        for _ in entries.indices {
            nextResting = (nextResting + 1) % entries.count
            if isLive(nextResting) && entries[nextResting].pump.isResting { return nextResting }
        }
        return nil
    }

    // MARK: The queue

    package var hasQueue: Bool { !queue.isEmpty }

    /// Has the pump run, in this turn or the next.
    package func enqueue(_ index: Int) {
        guard !entries[index].isQueued else { return }
        entries[index].isQueued = true
        queue.append(Int16(index))
    }

    /// Those that are to be run; what is queued meanwhile is for the next time.
    package func takeQueue() -> [Int16] {
        swap(&queue, &running)
        queue.removeAll(keepingCapacity: true)
        for index in running { entries[Int(index)].isQueued = false }
        return running
    }

    /// Whether the entry is still a pump's.
    package func isLive(_ index: Int) -> Bool { entries[index].token != .silent }
}

extension Completion {
    /// The last of a pump.
    package init(_ ending: Pump.Ending, of token: Token) {
        self.init(token: token, result: 0, buffer: BufferPool.none, hasMore: false)
        switch ending {
        case .finished: break
        case .stopped: result = -ECANCELED
        case .failed(let code, let ofDestination):
            result = -code
            isOfDestination = ofDestination
        }
    }
}
