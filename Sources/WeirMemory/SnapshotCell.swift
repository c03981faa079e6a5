import Synchronization

/// The present version of an immutable object: one writer replaces it, a fixed number of readers take the new one
/// between batches, and an old one is released once every reader has moved past it (quiescent-state reclamation).
///
/// Readers take no lock and, while nothing changes, touch no reference count. `epoch` counts publications from 1; each
/// reader announces the epoch it uses in a cache line of its own. What was replaced at epoch e is released once every
/// announcement is at least e.
@safe
package final class SnapshotCell<Snapshot: AnyObject & Sendable>: @unchecked Sendable {
    /// One reader's announcement, alone on its cache line.
    private struct Announcement: ~Copyable {
        let epoch = Atomic<UInt64>(.max)
        let padding = InlineArray<7, UInt64>(repeating: 0)
    }

    /// What a replaced snapshot waits for. The pointer is kept as bits: it owns one reference.
    private struct Retired: Sendable {
        var bits: UInt
        var replacedAt: UInt64
    }

    // `.max` in an announcement: the reader is offline and holds nothing.
    private static var offline: UInt64 { .max }

    private let current: Atomic<UInt>
    private let epoch = Atomic<UInt64>(1)
    private let announcements: UnsafeMutablePointer<Announcement>
    private let retired = Mutex<[Retired]>([])
    package let readerCount: Int

    /// Readers start offline.
    package init(_ snapshot: Snapshot, readerCount: Int) {
        precondition(readerCount >= 0)
        self.readerCount = readerCount
        current = Atomic(Self.retainedBits(of: snapshot))
        let bytes = UnsafeMutableRawPointer.allocate(
            byteCount: max(readerCount, 1) * MemoryLayout<Announcement>.stride, alignment: 64)
        unsafe announcements = bytes.bindMemory(to: Announcement.self, capacity: max(readerCount, 1))
        for index in 0..<readerCount { unsafe (announcements + index).initialize(to: Announcement()) }
    }

    deinit {
        // A reader keeps the cell alive, so none is left.
        Self.release(current.load(ordering: .sequentiallyConsistent))
        retired.withLock { list in
            for one in list { Self.release(one.bits) }
        }
        unsafe announcements.deinitialize(count: readerCount)
        unsafe announcements.deallocate()
    }

    // MARK: Writer

    /// The number of the present snapshot: 1 for the first.
    package var publishedEpoch: UInt64 { epoch.load(ordering: .acquiring) }

    /// Makes `snapshot` the present one, releases what no reader uses any more, and answers its epoch. Publications
    /// are put in line by a lock that no reader takes.
    @discardableResult
    package func publish(_ snapshot: Snapshot) -> UInt64 {
        let bits = Self.retainedBits(of: snapshot)
        let next = retired.withLock { list in
            // The pointer before the epoch: a reader that sees the epoch finds this snapshot or a later one.
            let old = current.exchange(bits, ordering: .sequentiallyConsistent)
            let next = epoch.add(1, ordering: .sequentiallyConsistent).newValue
            list.append(Retired(bits: old, replacedAt: next))
            return next
        }
        reclaim()
        return next
    }

    /// Releases the replaced snapshots that every reader has moved past; answers how many still wait.
    @discardableResult
    package func reclaim() -> Int {
        let oldest = oldestInUse()
        let (free, waiting) = retired.withLock { list in
            let free = list.filter { $0.replacedAt <= oldest }
            list.removeAll { $0.replacedAt <= oldest }
            return (free, list.count)
        }
        for one in free { Self.release(one.bits) }
        return waiting
    }

    /// Whether no reader uses a snapshot older than `epoch`. Offline readers use none.
    package func readersHaveAdopted(_ epoch: UInt64) -> Bool { oldestInUse() >= epoch }

    private func oldestInUse() -> UInt64 {
        var oldest = Self.offline
        for index in 0..<readerCount {
            oldest = min(oldest, unsafe announcements[index].epoch.load(ordering: .sequentiallyConsistent))
        }
        return oldest
    }

    // MARK: Readers

    /// Reader `index`, 0..<readerCount. One thread at a time uses it.
    package func reader(_ index: Int) -> Reader { Reader(self, index) }

    /// One reader's end of the cell. Ends by `offline()`, which its destruction also does.
    package struct Reader: ~Copyable {
        private let cell: SnapshotCell
        package let index: Int

        fileprivate init(_ cell: SnapshotCell, _ index: Int) {
            precondition(index >= 0 && index < cell.readerCount)
            self.cell = cell
            self.index = index
        }

        deinit { offline() }

        /// To be called between batches: the present snapshot where it is another than at the last call, else nil.
        /// Once it has answered one, nothing read through an earlier snapshot may be used any more, and what is read
        /// through this one stays good until a later call answers another, without keeping the reference.
        package func adopt() -> Snapshot? { cell.adopt(index) }

        /// The reader uses nothing and holds nothing back until its next `adopt()`, which answers a snapshot.
        package func offline() { cell.leave(index) }
    }

    private func adopt(_ index: Int) -> Snapshot? {
        let used = unsafe announcements[index].epoch.load(ordering: .relaxed)
        let present = epoch.load(ordering: .acquiring)
        if used == present { return nil }
        if used == Self.offline {
            // Before the pointer is read: the writer then either sees this announcement and keeps what the pointer
            // names, or had already exchanged the pointer, and the load below answers the new one.
            unsafe announcements[index].epoch.store(present, ordering: .sequentiallyConsistent)
        }
        // Not yet released: it is replaced, if at all, at an epoch after the announcement.
        let snapshot = Self.snapshot(at: current.load(ordering: .sequentiallyConsistent))
        unsafe announcements[index].epoch.store(present, ordering: .releasing)
        return snapshot
    }

    private func leave(_ index: Int) {
        unsafe announcements[index].epoch.store(Self.offline, ordering: .releasing)
    }

    // MARK: References as bits

    private static func retainedBits(of snapshot: Snapshot) -> UInt {
        unsafe UInt(bitPattern: Unmanaged.passRetained(snapshot).toOpaque())
    }

    private static func snapshot(at bits: UInt) -> Snapshot {
        guard let pointer = unsafe UnsafeRawPointer(bitPattern: bits) else { preconditionFailure("an empty cell") }
        return unsafe Unmanaged<Snapshot>.fromOpaque(pointer).takeUnretainedValue()
    }

    private static func release(_ bits: UInt) {
        guard let pointer = unsafe UnsafeRawPointer(bitPattern: bits) else { preconditionFailure("an empty cell") }
        unsafe Unmanaged<Snapshot>.fromOpaque(pointer).release()
    }
}
