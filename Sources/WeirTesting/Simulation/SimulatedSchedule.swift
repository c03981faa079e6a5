/// What is to happen in the simulated kernel and network.
enum SimulatedEvent {
    /// A receive, send, pump, accept or connect may go on.
    case receive(SimulatedConnection)
    case send(SimulatedConnection)
    case pump(SimulatedOperation)
    case accept(SimulatedListener)
    case connect(SimulatedOperation)
    /// A cancellation takes effect.
    case cancel(SimulatedOperation)
    /// So many bytes, a FIN, an RST reach our end.
    case inbound(SimulatedConnection, Int)
    case inboundEnd(SimulatedConnection)
    case inboundReset(SimulatedConnection)
    /// The same at the far end.
    case outbound(SimulatedConnection, Int)
    case outboundEnd(SimulatedConnection)
    case outboundReset(SimulatedConnection)
    /// What was held back for a segment is sent after all.
    case push(SimulatedConnection)
    /// A client's SYN reaches the listener.
    case client(SimulatedConnection)
    /// The world asked to be called.
    case world(Int)
}

/// Events by time; of the same time in the order in which they were added. A binary heap.
struct SimulatedSchedule {
    private struct Entry {
        var time: UInt64
        var order: UInt64
        var event: SimulatedEvent
    }

    private var entries: [Entry] = []
    private var nextOrder: UInt64 = 0

    var isEmpty: Bool { entries.isEmpty }
    var nextTime: UInt64? { entries.first?.time }

    mutating func add(_ event: SimulatedEvent, at time: UInt64) {
        let entry = Entry(time: time, order: nextOrder, event: event)
        nextOrder += 1
        entries.append(entry)
        var index = entries.count - 1
        while index > 0 {
            let parent = (index - 1) / 2
            if !Self.isBefore(entry, entries[parent]) { break }
            entries[index] = entries[parent]
            index = parent
        }
        entries[index] = entry
    }

    /// The next event that is due at `time`.
    mutating func pop(dueAt time: UInt64) -> (time: UInt64, event: SimulatedEvent)? {
        guard let first = entries.first, first.time <= time else { return nil }
        let last = entries.removeLast()
        if !entries.isEmpty { sink(last) }
        return (first.time, first.event)
    }

    private mutating func sink(_ entry: Entry) {
        var index = 0
        while true {
            var child = 2 * index + 1
            guard child < entries.count else { break }
            if child + 1 < entries.count, Self.isBefore(entries[child + 1], entries[child]) { child += 1 }
            if !Self.isBefore(entries[child], entry) { break }
            entries[index] = entries[child]
            index = child
        }
        entries[index] = entry
    }

    private static func isBefore(_ a: Entry, _ b: Entry) -> Bool {
        a.time != b.time ? a.time < b.time : a.order < b.order
    }
}
