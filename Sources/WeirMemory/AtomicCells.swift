import Glibc
import Synchronization

/// A fixed number of 64-bit cells that one thread writes and any thread may read, without locks or barriers.
///
/// All cells start at zero. The pages come from the kernel when they are first written, so a large count that is used
/// in part costs what is used. Bounds are checked in every build. A copy is another view of the same cells; exactly one
/// owner calls `deallocate()`, after the last view is gone.
@frozen
@safe
public struct AtomicCells: @unchecked Sendable {
    @usableFromInline
    let base: UnsafeMutablePointer<Atomic<UInt64>>
    public let count: Int

    public init(count: Int) {
        precondition(count > 0 && count <= 1 << 28)
        let pages = unsafe mmap(
            nil, count * MemoryLayout<UInt64>.stride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let pages = unsafe pages, unsafe pages != MAP_FAILED else { fatalError("no memory for \(count) cells") }
        // An `Atomic<UInt64>` is stored as its value is, so a zeroed page holds atomics of zero.
        unsafe base = pages.bindMemory(to: Atomic<UInt64>.self, capacity: count)
        self.count = count
    }

    /// Frees the cells. Every copy of this value is dead afterwards.
    public func deallocate() { unsafe munmap(base, count * MemoryLayout<UInt64>.stride) }

    /// The value of `cell` as last seen by the calling thread; exact for the writer.
    @inlinable
    @inline(__always)
    public func value(_ cell: Int32) -> UInt64 {
        precondition(cell >= 0 && Int(cell) < count)
        return unsafe base[Int(cell)].load(ordering: .relaxed)
    }

    /// Writer only.
    @inlinable
    @inline(__always)
    public func set(_ cell: Int32, _ value: UInt64) {
        precondition(cell >= 0 && Int(cell) < count)
        unsafe base[Int(cell)].store(value, ordering: .relaxed)
    }

    /// Adds `amount`, wrapping. Writer only: a load and a store, which is enough for one writer and needs no bus lock.
    @inlinable
    @inline(__always)
    public func add(_ cell: Int32, _ amount: UInt64) {
        precondition(cell >= 0 && Int(cell) < count)
        let before = unsafe base[Int(cell)].load(ordering: .relaxed)
        unsafe base[Int(cell)].store(before &+ amount, ordering: .relaxed)
    }
}
