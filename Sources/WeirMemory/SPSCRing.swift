import Synchronization

/// A bounded queue of plain elements from one producer thread to one consumer thread, without locks.
///
/// `head <= tail <= head + capacity`, both counted from the beginning of time. Whoever pushes must be one thread at a
/// time, and so must whoever pops; the ring does not check it.
@safe
package final class SPSCRing<Element: BitwiseCopyable>: @unchecked Sendable {
    private let slots: UnsafeMutablePointer<Element>
    private let mask: Int
    // Each index has one writer; the padding keeps the two off one cache line.
    private let head = Atomic<Int>(0)
    private let padding: InlineArray<14, Int> = InlineArray(repeating: 0)
    private let tail = Atomic<Int>(0)

    /// `capacity` is rounded up to a power of two.
    package init(capacity: Int) {
        precondition(capacity > 0 && capacity <= 1 << 24)
        var size = 1
        while size < capacity { size <<= 1 }
        mask = size - 1
        unsafe slots = UnsafeMutablePointer<Element>.allocate(capacity: size)
    }

    deinit { unsafe slots.deallocate() }

    package var capacity: Int { mask + 1 }

    /// Producer only. False where the ring is full; the element is then not taken.
    package func push(_ element: Element) -> Bool {
        let end = tail.load(ordering: .relaxed)
        guard end - head.load(ordering: .acquiring) <= mask else { return false }
        unsafe (slots + (end & mask)).initialize(to: element)
        tail.store(end + 1, ordering: .releasing)
        return true
    }

    /// Consumer only. nil where the ring is empty.
    package func pop() -> Element? {
        let start = head.load(ordering: .relaxed)
        guard start != tail.load(ordering: .acquiring) else { return nil }
        let element = unsafe slots[start & mask]
        head.store(start + 1, ordering: .releasing)
        return element
    }

    /// Whether nothing waits, as seen by the calling thread; exact for the consumer.
    package var isEmpty: Bool { head.load(ordering: .acquiring) == tail.load(ordering: .acquiring) }
}
