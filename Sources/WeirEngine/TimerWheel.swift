import WeirMemory
import WeirNet

/// Deadlines of a fixed number of owners, one each: a hierarchical wheel, O(1) to set, move and remove.
///
/// ```
/// level 0   64 buckets of 1 tick    (4.2 ms each)    0.27 s
/// level 1   64 buckets of 64 ticks                   17 s
/// level 2                                            18 min
/// level 3                                            19 h
/// ```
///
/// A deadline never fires early and at most one tick late. One beyond the last level fires early, at the horizon; the
/// owner then sees that its time has not come and sets it again.
package struct TimerWheel: ~Copyable {
    private static let tickShift: UInt64 = 22
    private static let bucketBits: UInt64 = 6
    private static let bucketCount = 64
    private static let levelCount = 4
    private static let none: Int32 = -1

    // Doubly linked lists through the owners; bucket -1: not set, `expired`: due and not yet taken.
    private let nextOwner: FlatArray<Int32>
    private let previousOwner: FlatArray<Int32>
    private let bucketOf: FlatArray<Int32>
    private let deadlineOf: FlatArray<UInt64>
    private let heads: FlatArray<Int32>
    private let occupied: FlatArray<UInt64>
    private var currentTick: UInt64
    package private(set) var count = 0
    private static let expired = Int32(levelCount * bucketCount)

    package init(ownerCount: Int, now: Instant) {
        nextOwner = FlatArray(repeating: Self.none, count: ownerCount)
        previousOwner = FlatArray(repeating: Self.none, count: ownerCount)
        bucketOf = FlatArray(repeating: Self.none, count: ownerCount)
        deadlineOf = FlatArray(repeating: 0, count: ownerCount)
        heads = FlatArray(repeating: Self.none, count: Self.levelCount * Self.bucketCount + 1)
        occupied = FlatArray(repeating: 0, count: Self.levelCount)
        currentTick = now.nanoseconds >> Self.tickShift
    }

    deinit {
        nextOwner.deallocate()
        previousOwner.deallocate()
        bucketOf.deallocate()
        deadlineOf.deallocate()
        heads.deallocate()
        occupied.deallocate()
    }

    /// The tick at which `deadline` is surely over.
    private static func tick(_ deadline: Instant) -> UInt64 { (deadline.nanoseconds >> tickShift) + 1 }

    /// Whether `owner` has a deadline at or before `deadline` already.
    package func isSet(_ owner: Int, atOrBefore deadline: Instant) -> Bool {
        bucketOf[owner] != Self.none && deadlineOf[owner] <= Self.tick(deadline)
    }

    /// Sets or moves the deadline of `owner`. `distantFuture` removes it.
    package mutating func set(_ owner: Int, at deadline: Instant) {
        remove(owner)
        guard deadline != .distantFuture else { return }
        deadlineOf[owner] = max(Self.tick(deadline), currentTick + 1)
        insert(owner)
    }

    package mutating func remove(_ owner: Int) {
        let bucket = bucketOf[owner]
        guard bucket != Self.none else { return }
        let next = nextOwner[owner]
        let previous = previousOwner[owner]
        if previous == Self.none { heads[Int(bucket)] = next } else { nextOwner[Int(previous)] = next }
        if next != Self.none { previousOwner[Int(next)] = previous }
        if heads[Int(bucket)] == Self.none && bucket != Self.expired {
            occupied[Int(bucket) / Self.bucketCount] &= ~(1 << UInt64(Int(bucket) % Self.bucketCount))
        }
        bucketOf[owner] = Self.none
        count -= 1
    }

    private mutating func insert(_ owner: Int) {
        let due = deadlineOf[owner]
        let distance = due - currentTick
        var level = 0
        while level < Self.levelCount - 1 && distance >> (Self.bucketBits * UInt64(level + 1)) != 0 { level += 1 }
        let horizon = (UInt64(1) << (Self.bucketBits * UInt64(Self.levelCount))) - 1
        let place = distance > horizon ? currentTick + horizon : due
        let slot = Int(place >> (Self.bucketBits * UInt64(level))) & (Self.bucketCount - 1)
        link(owner, Int32(level * Self.bucketCount + slot))
        occupied[level] |= 1 << UInt64(slot)
    }

    private mutating func link(_ owner: Int, _ bucket: Int32) {
        let head = heads[Int(bucket)]
        nextOwner[owner] = head
        previousOwner[owner] = Self.none
        if head != Self.none { previousOwner[Int(head)] = Int32(owner) }
        heads[Int(bucket)] = Int32(owner)
        bucketOf[owner] = bucket
        count += 1
    }

    /// Makes due every deadline up to `now`; `popExpired` then hands them out.
    package mutating func advance(to now: Instant) {
        let target = now.nanoseconds >> Self.tickShift
        if count == 0 {
            currentTick = max(currentTick, target)
            return
        }
        while currentTick < target {
            currentTick += 1
            var level = 1
            var tick = currentTick
            while level < Self.levelCount && tick & UInt64(Self.bucketCount - 1) == 0 {
                tick >>= Self.bucketBits
                cascade(level, Int(tick) & (Self.bucketCount - 1))
                level += 1
            }
            let slot = Int(currentTick) & (Self.bucketCount - 1)
            if occupied[0] & (1 << UInt64(slot)) != 0 { expire(Int32(slot)) }
        }
    }

    /// Moves the owners of a bucket to where they belong now that its time has come nearer.
    private mutating func cascade(_ level: Int, _ slot: Int) {
        guard occupied[level] & (1 << UInt64(slot)) != 0 else { return }
        let bucket = level * Self.bucketCount + slot
        while heads[bucket] != Self.none {
            let owner = Int(heads[bucket])
            remove(owner)
            if deadlineOf[owner] <= currentTick { link(owner, Self.expired) } else { insert(owner) }
        }
    }

    private mutating func expire(_ bucket: Int32) {
        while heads[Int(bucket)] != Self.none {
            let owner = Int(heads[Int(bucket)])
            remove(owner)
            link(owner, Self.expired)
        }
    }

    /// The next owner whose deadline is over; its deadline is then no longer set.
    package mutating func popExpired() -> Int? {
        let head = heads[Int(Self.expired)]
        guard head != Self.none else { return nil }
        remove(Int(head))
        return Int(head)
    }

    /// A moment at or before which nothing becomes due; `distantFuture` where nothing is set.
    package var nextDeadline: Instant {
        if heads[Int(Self.expired)] != Self.none { return Instant(nanoseconds: 0) }
        guard count > 0 else { return .distantFuture }
        var best = UInt64.max
        for level in 0..<Self.levelCount where occupied[level] != 0 {
            let shift = Self.bucketBits * UInt64(level)
            let position = (currentTick >> shift) + 1
            let rotation = position & UInt64(Self.bucketCount - 1)
            let bits = occupied[level]
            let rotated = rotation == 0 ? bits : bits >> rotation | bits << (UInt64(Self.bucketCount) - rotation)
            best = min(best, (position + UInt64(rotated.trailingZeroBitCount)) << shift)
        }
        return Instant(nanoseconds: best << Self.tickShift)
    }
}
