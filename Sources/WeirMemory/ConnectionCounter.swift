import Synchronization

/// Counts the live connections of each client on each listener for all workers, exactly and without locks, in a table
/// of fixed size.
///
/// A slot is one word, so every change of it is one compare-and-exchange:
///
///     63            22 21  20 19            0
///     | tag of the key | state | count or worker |     0: free
///
/// The tag is 42 bits of a keyed hash, compared among the 16 slots of one group only: that two live clients share it is
/// a matter of one in 10^11 and nobody without the key can arrange it; they would then share a limit. A slot belongs
/// to its key from the first connection to the last, so leaving needs no search.
@safe
package final class ConnectionCounter: @unchecked Sendable {
    /// Whom a connection counts against.
    package struct Client: BitwiseCopyable, Sendable {
        package var high: UInt64
        package var low: UInt64

        /// 128 bits that tell clients apart; see `IPAddress.limitKey`.
        package init(high: UInt64, low: UInt64) {
            self.high = high
            self.low = low
        }
    }

    /// What `leave` wants back.
    package struct Ticket: BitwiseCopyable, Sendable {
        fileprivate var slot: UInt32

        /// Of a connection that was never counted; leaving with it does nothing.
        package static let none = Ticket(slot: .max)

        package var isCounted: Bool { slot != .max }
    }

    package enum Entry: BitwiseCopyable, Sendable {
        case counted(Ticket)
        case overLimit
        /// The client's group of slots is taken by others. Let it pass, with `Ticket.none`; `untrackedCount` has it.
        case untracked
    }

    private enum State: UInt64 {
        case member = 1
        case tentative = 2
    }

    private static var groupCount: Int { 16 }
    private static var countMax: UInt64 { 1 << 20 - 1 }

    private let slots: UnsafeMutablePointer<Atomic<UInt64>>
    private let slotCount: Int
    private let key: SipKey
    private let untracked = Atomic<UInt64>(0)

    /// Room for `clientCount` clients at once with next to no group full: four slots for each, 8 bytes a slot.
    package init(clientCount: Int, key: SipKey = .random()) {
        precondition(clientCount > 0 && clientCount <= 1 << 24)
        var slotCount = Self.groupCount
        while slotCount < clientCount * 4 { slotCount *= 2 }
        self.slotCount = slotCount
        self.key = key
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: slotCount * 8, alignment: 64)
        unsafe slots = bytes.bindMemory(to: Atomic<UInt64>.self, capacity: slotCount)
        for index in 0..<slotCount { unsafe (slots + index).initialize(to: Atomic(0)) }
    }

    deinit {
        unsafe slots.deinitialize(count: slotCount)
        unsafe slots.deallocate()
    }

    /// Clients that found no slot so far.
    package var untrackedCount: UInt64 { untracked.load(ordering: .relaxed) }

    /// Counts one connection of `client` on `listener` where fewer than `limit` are live there.
    ///
    /// `worker` tells the calling thread from all others, 0..<2^20. Every counted connection is left once.
    package func enter(worker: Int, listener: Int, client: Client, limit: Int) -> Entry {
        precondition(worker >= 0 && worker <= Int(Self.countMax))
        let (group, tag) = place(listener, client)
        let limit = UInt64(clamping: min(limit, Int(Self.countMax)))
        while true {
            switch find(tag, in: group) {
            case .member(let slot):
                switch increment(slot, tag, limit) {
                case .counted: return .counted(Ticket(slot: UInt32(slot)))
                case .overLimit: return .overLimit
                case .gone: continue
                }
            case .free(let slot):
                if limit == 0 { return .overLimit }
                if insert(tag, at: slot, in: group, worker) { return .counted(Ticket(slot: UInt32(slot))) }
            case .full:
                untracked.add(1, ordering: .relaxed)
                return .untracked
            }
        }
    }

    /// Takes one connection back.
    package func leave(_ ticket: Ticket) {
        guard ticket.slot != .max else { return }
        let slot = Int(ticket.slot)
        var word = load(slot)
        while true {
            precondition(Self.isMember(word) && Self.count(word) > 0, "more left than entered")
            let left = Self.count(word) == 1 ? 0 : word - 1
            guard let other = exchange(slot, word, left) else { return }
            word = other
        }
    }

    /// Live connections of `client` on `listener` at some moment during the call.
    package func count(listener: Int, client: Client) -> Int {
        let (group, tag) = place(listener, client)
        guard case .member(let slot) = find(tag, in: group) else { return 0 }
        let word = load(slot)
        return Self.isMember(word) && Self.tag(word) == tag ? Int(Self.count(word)) : 0
    }

    // MARK: How it works

    private enum Finding {
        case member(Int)
        case free(Int)
        case full
    }

    private enum Increment {
        case counted
        case overLimit
        case gone
    }

    private func place(_ listener: Int, _ client: Client) -> (group: Int, tag: UInt64) {
        var hash = SipHash(key: key)
        hash.absorb(UInt64(truncatingIfNeeded: listener))
        hash.absorb(client.high)
        hash.absorb(client.low)
        let value = hash.finished()
        // The tag takes the high 42 bits; the 22 below choose the group, and more than 2^22 groups there are not.
        let groups = slotCount / Self.groupCount
        return (Int(value & UInt64(groups - 1)) * Self.groupCount, max(value >> 22, 1))
    }

    private func find(_ tag: UInt64, in group: Int) -> Finding {
        var free = -1
        for slot in group..<group + Self.groupCount {
            let word = load(slot)
            if Self.isMember(word), Self.tag(word) == tag { return .member(slot) }
            if word == 0, free < 0 { free = slot }
        }
        return free < 0 ? .full : .free(free)
    }

    private func increment(_ slot: Int, _ tag: UInt64, _ limit: UInt64) -> Increment {
        var word = load(slot)
        while true {
            guard Self.isMember(word), Self.tag(word) == tag else { return .gone }
            if Self.count(word) >= limit { return .overLimit }
            guard let other = exchange(slot, word, word + 1) else { return .counted }
            word = other
        }
    }

    /// Puts `tag` into the free `slot` with a count of one, unless it is or comes into another slot of the group: two
    /// slots for one key would each count up to the limit.
    ///
    /// The word first says that its worker means to. Whoever has said so then looks at every other slot; of two who
    /// mean the same tag at least one sees the other, since each wrote before it looked. The one in the lower slot
    /// erases the other's word; the one in the higher slot gives up. The worker in the word keeps a later attempt of
    /// somebody else from being taken for this one.
    private func insert(_ tag: UInt64, at slot: Int, in group: Int, _ worker: Int) -> Bool {
        let tentative = Self.word(tag, .tentative, UInt64(worker))
        guard exchange(slot, 0, tentative) == nil else { return false }
        for other in group..<group + Self.groupCount where other != slot {
            let word = load(other)
            guard word != 0, Self.tag(word) == tag else { continue }
            if !Self.isMember(word), slot < other, exchange(other, word, 0) == nil { continue }
            // A member, a stronger attempt, or one that has just changed: begin again.
            _ = exchange(slot, tentative, 0)
            return false
        }
        return exchange(slot, tentative, Self.word(tag, .member, 1)) == nil
    }

    private func load(_ slot: Int) -> UInt64 {
        unsafe slots[slot].load(ordering: .sequentiallyConsistent)
    }

    /// nil where `slot` held `expected` and now holds `desired`; else what it holds.
    private func exchange(_ slot: Int, _ expected: UInt64, _ desired: UInt64) -> UInt64? {
        let (exchanged, original) = unsafe slots[slot].compareExchange(
            expected: expected, desired: desired, ordering: .sequentiallyConsistent)
        return exchanged ? nil : original
    }

    private static func word(_ tag: UInt64, _ state: State, _ rest: UInt64) -> UInt64 {
        tag << 22 | state.rawValue << 20 | rest
    }

    private static func tag(_ word: UInt64) -> UInt64 { word >> 22 }
    private static func count(_ word: UInt64) -> UInt64 { word & countMax }
    private static func isMember(_ word: UInt64) -> Bool { (word >> 20) & 3 == State.member.rawValue }
}
