import Synchronization

/// A bounded queue of plain elements from one producer thread to one consumer thread, without locks.
///
/// `head <= tail <= head + capacity`, both counted from the beginning of time. Whoever pushes must be one thread at a
/// time, and so must whoever pops; the ring does not check it. Public for the reason that `FlatArray` gives.
@safe
public final class SPSCRing<Element: BitwiseCopyable>: @unchecked Sendable {
    @usableFromInline
    let slots: UnsafeMutablePointer<Element>
    @usableFromInline
    let mask: Int
    // Each index has one writer; the padding keeps the two off one cache line.
    @usableFromInline
    let head = Atomic<Int>(0)
    @usableFromInline
    let padding: InlineArray<14, Int> = InlineArray(repeating: 0)
    @usableFromInline
    let tail = Atomic<Int>(0)

    /// `capacity` is rounded up to a power of two.
    @inlinable
    public init(capacity: Int) {
        precondition(capacity > 0 && capacity <= 1 << 24)
        var size = 1
        while size < capacity { size <<= 1 }
        mask = size - 1
        unsafe slots = UnsafeMutablePointer<Element>.allocate(capacity: size)
    }

    @inlinable
    deinit { unsafe slots.deallocate() }

    @inlinable
    public var capacity: Int { mask + 1 }

    /// Writes all of its memory, so that its pages are resident from now on: a ring is walked through from end to end, and
    /// would grow page by page for as long as the first round lasts. Before anybody pushes.
    public func makeResident() {
        precondition(tail.load(ordering: .relaxed) == 0)
        let byteCount = capacity * MemoryLayout<Element>.stride
        unsafe UnsafeMutableRawPointer(slots).initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    }

    /// Producer only. False where the ring is full; the element is then not taken.
    @inlinable
    public func push(_ element: Element) -> Bool {
        let end = tail.load(ordering: .relaxed)
        guard end - head.load(ordering: .acquiring) <= mask else { return false }
        unsafe (slots + (end & mask)).initialize(to: element)
        tail.store(end + 1, ordering: .releasing)
        return true
    }

    /// Consumer only. nil where the ring is empty.
    @inlinable
    public func pop() -> Element? {
        let start = head.load(ordering: .relaxed)
        guard start != tail.load(ordering: .acquiring) else { return nil }
        let element = unsafe slots[start & mask]
        head.store(start + 1, ordering: .releasing)
        return element
    }

    /// Consumer only. Shows the oldest element to `body` where it stands, then takes it: nothing is copied. False where the
    /// ring is empty.
    @inlinable
    public func pop(_ body: (borrowing Element) -> Void) -> Bool {
        let start = head.load(ordering: .relaxed)
        guard start != tail.load(ordering: .acquiring) else { return false }
        unsafe body(slots[start & mask])
        head.store(start + 1, ordering: .releasing)
        return true
    }

    /// Whether nothing waits, as seen by the calling thread; exact for the consumer.
    @inlinable
    public var isEmpty: Bool { head.load(ordering: .acquiring) == tail.load(ordering: .acquiring) }
}
