import WeirNet

/// At most one alarm per small index, the earliest first. A binary heap that knows where each index stands, so moving
/// an alarm leaves nothing behind.
struct AnswerTimers {
    private struct Alarm: BitwiseCopyable {
        var at: Instant
        var index: Int
    }

    private var heap: [Alarm] = []
    /// Where each index stands in `heap`; -1 for none.
    private var positions: [Int] = []

    /// The earliest alarm.
    var next: Instant? { heap.first?.at }

    /// Sets, moves or (nil) removes the alarm of `index`.
    mutating func set(_ index: Int, to moment: Instant?) {
        while positions.count <= index { positions.append(-1) }
        let position = positions[index]
        guard let moment else {
            if position >= 0 { remove(at: position) }
            return
        }
        if position >= 0 {
            heap[position].at = moment
            settle(position)
        } else {
            positions[index] = heap.count
            heap.append(Alarm(at: moment, index: index))
            settle(heap.count - 1)
        }
    }

    /// Takes out an index whose alarm is due at `now`.
    mutating func popDue(_ now: Instant) -> Int? {
        guard let first = heap.first, first.at <= now else { return nil }
        remove(at: 0)
        return first.index
    }

    private mutating func remove(at position: Int) {
        positions[heap[position].index] = -1
        let last = heap.removeLast()
        guard position < heap.count else { return }
        heap[position] = last
        positions[last.index] = position
        settle(position)
    }

    private mutating func settle(_ start: Int) {
        var position = start
        while position > 0, heap[position].at < heap[(position - 1) / 2].at {
            swap(position, (position - 1) / 2)
            position = (position - 1) / 2
        }
        while true {
            var least = position
            for child in 2 * position + 1..<2 * position + 3
            where child < heap.count && heap[child].at < heap[least].at {
                least = child
            }
            if least == position { return }
            swap(position, least)
            position = least
        }
    }

    private mutating func swap(_ a: Int, _ b: Int) {
        heap.swapAt(a, b)
        positions[heap[a].index] = a
        positions[heap[b].index] = b
    }
}
