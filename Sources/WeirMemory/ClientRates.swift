import Glibc
import Synchronization

/// Holds every client of every listener to a rate, for all workers, exactly and without locks, in a table of fixed size.
///
/// A slot is two words that change together, in one compare-and-exchange of 128 bits:
///
///     | 62 bits of the key's hash, state | moment at which the client's bucket is full, or worker |     0, 0: free
///
/// A bucket that is full says nothing that an absent one would not: its slot is free for others from that moment on.
/// Where a group has no such slot, the client whose bucket is full soonest gives way to the new one: what it has used
/// is forgotten, so it may begin another burst. `evictedCount` says how often that was.
@safe
package final class ClientRates: @unchecked Sendable {
    package typealias Client = ConnectionCounter.Client

    package enum Entry: BitwiseCopyable, Sendable {
        case admitted
        /// Another client's bucket was forgotten for this one; `evictedCount` has it.
        case admittedOverAnother
        case refused
    }

    private enum State {
        static let mask: UInt = 3
        static let member: UInt = 1
        static let tentative: UInt = 2
    }

    /// Two cache lines.
    private static var groupCount: Int { 8 }
    private static var free: WordPair { WordPair(first: 0, second: 0) }

    private let slots: UnsafeMutablePointer<Atomic<WordPair>>
    private let slotCount: Int
    private let key: SipKey
    private let evicted = Atomic<UInt64>(0)

    /// Room for `clientCount` clients at once whose buckets are not full, with few groups full: four slots for each, 16
    /// bytes a slot. Memory is touched when it is used.
    package init(clientCount: Int, key: SipKey = .random()) {
        precondition(clientCount > 0 && clientCount <= 1 << 24)
        var slotCount = Self.groupCount
        while slotCount < clientCount * 4 { slotCount *= 2 }
        self.slotCount = slotCount
        self.key = key
        let byteCount = slotCount * MemoryLayout<Atomic<WordPair>>.stride
        let pages = unsafe mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let pages = unsafe pages, unsafe pages != MAP_FAILED else { fatalError("no memory for client rates") }
        // An `Atomic` is stored as its value is, so a zeroed page holds free slots.
        unsafe slots = pages.bindMemory(to: Atomic<WordPair>.self, capacity: slotCount)
    }

    deinit { unsafe munmap(slots, slotCount * MemoryLayout<Atomic<WordPair>>.stride) }

    /// Clients that gave way to others before their bucket was full.
    package var evictedCount: UInt64 { evicted.load(ordering: .relaxed) }

    /// Admits one more of `client` on `listener` at `now`, in nanoseconds, where `bound` does.
    ///
    /// `worker` tells the calling thread from all others.
    package func take(worker: Int, listener: Int, client: Client, _ bound: RateBound, now: UInt64) -> Entry {
        if bound.isNone { return .admitted }
        let (group, tag) = place(listener, client)
        while true {
            switch find(tag, in: group, now) {
            case .member(let slot, let pair):
                switch bound.verdict(fullAt: UInt64(pair.second), now: now) {
                case .admitted(let moment):
                    if exchange(slot, pair, WordPair(first: pair.first, second: UInt(moment))) { return .admitted }
                case .refusedAndCut(let moment):
                    if exchange(slot, pair, WordPair(first: pair.first, second: UInt(moment))) { return .refused }
                case .refused:
                    return .refused
                }
            case .vacant(let slot, let pair):
                let tentative = WordPair(first: tag | State.tentative, second: UInt(worker))
                guard exchange(slot, pair, tentative) else { continue }
                let isEviction = UInt64(pair.second) > now
                if isEviction { evicted.add(1, ordering: .relaxed) }
                if settle(slot, tentative, in: group, fullAt: now + bound.interval) {
                    return isEviction ? .admittedOverAnother : .admitted
                }
            case .busy:
                continue
            }
        }
    }

    // MARK: How it works

    private enum Finding {
        case member(Int, WordPair)
        /// Free, of a client whose bucket is full, or of the client whose bucket is full soonest.
        case vacant(Int, WordPair)
        /// No slot but live ones, and some are just being taken, perhaps two for one client: look again.
        case busy
    }

    private func place(_ listener: Int, _ client: Client) -> (group: Int, tag: UInt) {
        var hash = SipHash(key: key)
        hash.absorb(UInt64(truncatingIfNeeded: listener))
        hash.absorb(client.high)
        hash.absorb(client.low)
        let value = hash.finished()
        let groups = slotCount / Self.groupCount
        return (Int(value & UInt64(groups - 1)) * Self.groupCount, UInt(value) & ~State.mask)
    }

    private func find(_ tag: UInt, in group: Int, _ now: UInt64) -> Finding {
        var vacant = -1
        var vacantPair = Self.free
        var isChanging = false
        for slot in group..<group + Self.groupCount {
            let pair = load(slot)
            if pair.first == tag | State.member { return .member(slot, pair) }
            if pair.first & State.mask == State.tentative {
                isChanging = true
                continue
            }
            // What is free or full serves as well as what was full long ago; among live ones the order is that of
            // their moments.
            if vacant < 0 || UInt64(vacantPair.second) > max(UInt64(pair.second), now) {
                vacant = slot
                vacantPair = pair
            }
        }
        let isLive = vacant < 0 || UInt64(vacantPair.second) > now
        return isLive && isChanging ? .busy : .vacant(vacant, vacantPair)
    }

    /// Makes the word `tentative`, which the caller has put into `slot`, a member with one admission, unless its client
    /// is or comes into another slot of the group. As in `ConnectionCounter`: whoever means to first says so and then
    /// looks at every other slot; of two who mean the same client at least one sees the other, and the lower slot wins.
    private func settle(_ slot: Int, _ tentative: WordPair, in group: Int, fullAt: UInt64) -> Bool {
        let tag = tentative.first & ~State.mask
        for other in group..<group + Self.groupCount where other != slot {
            let pair = load(other)
            guard pair.first != 0, pair.first & ~State.mask == tag else { continue }
            let isTentative = pair.first & State.mask == State.tentative
            if isTentative, slot < other, exchange(other, pair, Self.free) { continue }
            // A member, a stronger attempt, or one that has just changed: begin again.
            _ = exchange(slot, tentative, Self.free)
            return false
        }
        return exchange(slot, tentative, WordPair(first: tag | State.member, second: UInt(fullAt)))
    }

    private func load(_ slot: Int) -> WordPair { unsafe slots[slot].load(ordering: .sequentiallyConsistent) }

    private func exchange(_ slot: Int, _ expected: WordPair, _ desired: WordPair) -> Bool {
        unsafe slots[slot].compareExchange(
            expected: expected, desired: desired, ordering: .sequentiallyConsistent
        ).exchanged
    }
}
