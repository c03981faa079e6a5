import Glibc
import Synchronization

/// A fixed number of 64-bit words that any thread reads and changes, without locks.
///
/// All words start at zero. The pages come from the kernel when they are first written, so a large count that is used in part
/// costs what is used. They begin on a page, so eight consecutive words from a multiple of eight on share one cache line and
/// no other. Bounds are checked in every build. A copy is another view of the same words; exactly one owner calls
/// `deallocate()`, after the last view is gone.
@frozen
@safe
public struct SharedCells: @unchecked Sendable {
    @usableFromInline
    let base: UnsafeMutablePointer<Atomic<UInt64>>
    public let count: Int

    public init(count: Int) {
        precondition(count > 0 && count <= 1 << 28)
        let pages = unsafe mmap(
            nil, count * MemoryLayout<UInt64>.stride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let pages = unsafe pages, unsafe pages != MAP_FAILED else { fatalError("no memory for \(count) words") }
        // An `Atomic<UInt64>` is stored as its value is, so a zeroed page holds atomics of zero.
        unsafe base = pages.bindMemory(to: Atomic<UInt64>.self, capacity: count)
        self.count = count
    }

    /// Frees the words. Every copy of this value is dead afterwards.
    public func deallocate() { unsafe munmap(base, count * MemoryLayout<UInt64>.stride) }

    @inlinable
    @inline(__always)
    public func load(_ cell: Int) -> UInt64 {
        precondition(cell >= 0 && cell < count)
        return unsafe base[cell].load(ordering: .acquiring)
    }

    @inlinable
    @inline(__always)
    public func store(_ cell: Int, _ value: UInt64) {
        precondition(cell >= 0 && cell < count)
        unsafe base[cell].store(value, ordering: .releasing)
    }

    /// True where the word was `expected` and is `desired` now.
    @inlinable
    @inline(__always)
    public func exchange(_ cell: Int, _ expected: UInt64, _ desired: UInt64) -> Bool {
        precondition(cell >= 0 && cell < count)
        return unsafe base[cell].compareExchange(
            expected: expected, desired: desired, ordering: .acquiringAndReleasing
        ).exchanged
    }

    /// Adds one where the word is below `limit`; false, and unchanged, where it is not. Exact: `value <= limit` whatever the
    /// number of threads, as long as all name the same limit.
    @inlinable
    @inline(__always)
    public func tryIncrement(_ cell: Int, limit: UInt64) -> Bool {
        precondition(cell >= 0 && cell < count)
        var seen = unsafe base[cell].load(ordering: .relaxed)
        while seen < limit {
            let (exchanged, original) = unsafe base[cell].weakCompareExchange(
                expected: seen, desired: seen + 1, ordering: .relaxed)
            if exchanged { return true }
            seen = original
        }
        return false
    }

    @inlinable
    @inline(__always)
    public func increment(_ cell: Int) {
        precondition(cell >= 0 && cell < count)
        unsafe base[cell].add(1, ordering: .acquiringAndReleasing)
    }

    /// Takes one back. Traps below zero.
    @inlinable
    @inline(__always)
    public func decrement(_ cell: Int) {
        precondition(cell >= 0 && cell < count)
        let before = unsafe base[cell].subtract(1, ordering: .acquiringAndReleasing).oldValue
        precondition(before > 0, "more given back than was taken")
    }
}
