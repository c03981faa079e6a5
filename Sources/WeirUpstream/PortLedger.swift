import Synchronization
import WeirMemory
import WeirNet

/// Counts the ports in use from each source address towards each destination, for all workers, exactly and without locks,
/// in a table of fixed size; and keeps how connects between the two went.
///
/// A pair's head is two words that change together:
///
///     | 62 bits of the key's hash, state | in use 17, in TIME_WAIT 17, tick 30 |     0, 0: free
///
/// A tick is a second. Ports in TIME_WAIT stand in a ring of buckets by the tick at which they are free, and the head has
/// their sum as of its tick. Whoever looks at a pair in a later tick first freezes the buckets that have come due and takes
/// them off the sum in the same exchange that moves the head's tick on: exactly one can. A port is held for its time and
/// up to a tick more, never less.
///
/// A pair with no port in use, none in TIME_WAIT and no exclusion gives way to another that finds no free slot; its counts of
/// connects go into `evicted`.
package final class PortLedger: Sendable {
    /// Which connections may take over a port in TIME_WAIT after a second (net.ipv4.tcp_tw_reuse).
    package enum TimeWaitReuse: UInt8, BitwiseCopyable, Sendable {
        case none
        /// Ones to a loopback address: the kernel's default.
        case loopback
        case all
    }

    /// What names a granted port until it is released: a slot, which stays with its pair for so long.
    package struct Entry: BitwiseCopyable, Sendable, Equatable {
        package let slot: Int32

        /// Of a connection that is not counted; nothing is done with it.
        package static let none = Entry(slot: -1)

        package var isCounted: Bool { slot >= 0 }
    }

    package enum Reservation: BitwiseCopyable, Sendable, Equatable {
        case granted(Entry)
        /// As many ports as there are towards this destination are in use or in TIME_WAIT.
        case exhausted
        /// The table has no room for another pair: let it connect, with `Entry.none`. `untrackedCount` has it.
        case untracked
    }

    /// What is known of a pair at one moment.
    package struct Standing: BitwiseCopyable, Sendable, Equatable {
        package enum Exclusion: BitwiseCopyable, Sendable, Equatable {
            case none
            /// Passed over until then.
            case until(Instant)
            /// The time is over; one connect is to try (`takeTrial`).
            case trialDue
        }

        package var inUse = 0
        package var timeWait = 0
        package var exclusion = Exclusion.none
        /// The beginning of time: never.
        package var succeededAt = Instant(nanoseconds: 0)

        package init() {}

        package var used: Int { inUse + timeWait }
    }

    /// A pair as the export shows it.
    package struct Reading: BitwiseCopyable, Sendable, Equatable {
        package var source: IPAddress
        package var destination: SocketAddress
        package var standing: Standing
        package var succeeded: UInt64
        package var failed: UInt64
        /// What the connects that succeeded took together, in nanoseconds.
        package var connectTime: UInt64
        /// errno of the last failure; 0: none.
        package var lastError: Int32
        package var failedAt: Instant

        package init(source: IPAddress, destination: SocketAddress) {
            self.source = source
            self.destination = destination
            standing = Standing()
            succeeded = 0
            failed = 0
            connectTime = 0
            lastError = 0
            failedAt = Instant(nanoseconds: 0)
        }
    }

    private enum State {
        static let mask: UInt = 3
        static let member: UInt = 1
        /// Written out, and to become a member unless its pair is in another slot.
        static let tentative: UInt = 2
        /// Its worker alone writes the words; nobody else touches it.
        static let writing: UInt = 3
    }

    /// The words beside a head.
    private enum Word {
        static let sourceHigh = 0
        static let sourceLow = 1
        static let destinationHigh = 2
        static let destinationLow = 3
        static let port = 4
        static let succeeded = 5
        static let failed = 6
        static let succeededAt = 7
        /// errno in the low 12 bits, the moment in milliseconds above.
        static let failure = 8
        static let exclusion = 9
        /// Of all connects that succeeded, in nanoseconds.
        static let connectTime = 10
        static let firstBucket = 11
        static let bucketCount = 64
        static let count = firstBucket + bucketCount
    }

    package static let limitMax = 65535
    package static let pairCountDefault = 16384
    /// TCP_TIMEWAIT_LEN.
    private static let timeWaitTicks: UInt64 = 60
    private static let reusedTicks: UInt64 = 1
    /// Four cache lines of heads.
    private static let groupCount = 16

    /// Ports that a source address has towards one destination: 1...65535.
    package let limit: Int
    private let reuse: TimeWaitReuse
    private let key: SipKey
    private let table: PairTable
    private let untracked = Atomic<UInt64>(0)
    private let evictions = Atomic<UInt64>(0)
    private let evictedSucceeded = Atomic<UInt64>(0)
    private let evictedFailed = Atomic<UInt64>(0)

    /// Room for `pairCount` pairs with ports in use, with few groups full: two slots for each, of 616 bytes. Memory is touched
    /// when it is used.
    package init(
        limit: Int = PortRange.standard.portCount, reuse: TimeWaitReuse = .loopback,
        pairCount: Int = PortLedger.pairCountDefault,
        key: SipKey = .random()
    ) {
        precondition((1...Self.limitMax).contains(limit) && (1...1 << 20).contains(pairCount))
        var slotCount = Self.groupCount
        while slotCount < pairCount * 2 { slotCount *= 2 }
        self.limit = limit
        self.reuse = reuse
        self.key = key
        table = PairTable(slotCount: slotCount, wordCount: Word.count)
    }

    /// Connects that found no room for their pair.
    package var untrackedCount: UInt64 { untracked.load(ordering: .relaxed) }
    /// Pairs that gave way to others, and the connects that were counted for them.
    package var evictedCount: UInt64 { evictions.load(ordering: .relaxed) }
    package var evicted: (succeeded: UInt64, failed: UInt64) {
        (evictedSucceeded.load(ordering: .relaxed), evictedFailed.load(ordering: .relaxed))
    }

    // MARK: Ports

    /// Takes a port from `source` towards `destination`, which is released once, unless `limit` are taken.
    ///
    /// `worker` tells the calling thread from all others. `now` may lie behind another worker's.
    package func reserve(
        worker: Int, from source: IPAddress, to destination: SocketAddress, now: Instant
    ) -> Reservation {
        let (group, tag) = place(source, destination)
        let tick = Self.tick(now)
        // Whoever is in the way of every attempt is in the middle of its own, and there are only so many.
        for _ in 0..<Self.attemptCountMax {
            switch find(tag, in: group) {
            case .member(let slot):
                switch increment(slot, tag, tick) {
                case .counted: return .granted(Entry(slot: Int32(slot)))
                case .full: return .exhausted
                case .gone: continue
                }
            case .absent:
                guard let (slot, pair) = vacancy(in: group, tick, now) else {
                    untracked.add(1, ordering: .relaxed)
                    return .untracked
                }
                if insert(tag, at: slot, pair, in: group, worker, source, destination, tick) {
                    return .granted(Entry(slot: Int32(slot)))
                }
            }
        }
        untracked.add(1, ordering: .relaxed)
        return .untracked
    }

    /// Gives a port back. `leavesTimeWait`: our FIN went out before the other side's came in, and no RST ended the connection;
    /// the kernel then keeps the port for a while.
    package func release(_ entry: Entry, leavesTimeWait: Bool, now: Instant) {
        guard entry.isCounted else { return }
        let slot = Int(entry.slot)
        let tick = Self.tick(now)
        while true {
            let (pair, counts) = current(slot, tick)
            precondition(pair.first & State.mask == State.member && counts.inUse > 0, "more released than reserved")
            var after = counts
            after.inUse -= 1
            if leavesTimeWait { after.timeWait += 1 }
            guard table.exchangeHead(slot, pair, WordPair(first: pair.first, second: after.word)) else { continue }
            if leavesTimeWait { addToBucket(slot, after.tick + ticks(ofPairAt: slot) + 1) }
            return
        }
    }

    // MARK: Outcomes

    /// A connect with that port succeeded, after `elapsed` nanoseconds: the pair is excluded no more.
    package func succeeded(_ entry: Entry, after elapsed: UInt64 = 0, now: Instant) {
        guard entry.isCounted else { return }
        let slot = Int(entry.slot)
        table.addToWord(slot, Word.succeeded, 1)
        table.addToWord(slot, Word.connectTime, elapsed)
        raise(slot, Word.succeededAt, to: now.nanoseconds)
        if table.word(slot, Word.exclusion) != 0 { table.setWord(slot, Word.exclusion, 0) }
    }

    /// A connect with that port failed with errno `code`.
    package func failed(_ entry: Entry, _ code: Int32, now: Instant) {
        guard entry.isCounted else { return }
        let slot = Int(entry.slot)
        table.addToWord(slot, Word.failed, 1)
        table.setWord(slot, Word.failure, Self.milliseconds(now) << 12 | UInt64(clamping: min(code, 4095)))
    }

    /// Passes the pair over for half a minute; where a trial has failed, for twice as long as before, at most five minutes. A
    /// pair that is excluded already stays so for as long as it was to be: connects from before may still fail.
    package func exclude(_ entry: Entry, now: Instant) {
        guard entry.isCounted else { return }
        while true {
            let word = table.word(Int(entry.slot), Word.exclusion)
            let present = Exclusion(word: word)
            if present.level > 0, !present.isOnTrial, present.until > Self.milliseconds(now) { return }
            let level = min(present.level + 1, Exclusion.levelMax)
            let next = Exclusion(level: level, isOnTrial: false, from: Self.milliseconds(now))
            if table.exchangeWord(Int(entry.slot), Word.exclusion, word, next.word) { return }
        }
    }

    /// Whether the caller is the one who tries an excluded pair again, with a port reserved; for everybody else it is
    /// excluded for as long as before. False where another was faster.
    package func takeTrial(_ entry: Entry, now: Instant) -> Bool {
        guard entry.isCounted else { return true }
        let word = table.word(Int(entry.slot), Word.exclusion)
        let present = Exclusion(word: word)
        if present.level == 0 { return true }
        if present.until > Self.milliseconds(now) { return false }
        let trial = Exclusion(level: present.level, isOnTrial: true, from: Self.milliseconds(now))
        return table.exchangeWord(Int(entry.slot), Word.exclusion, word, trial.word)
    }

    // MARK: Looking

    /// What is known of the pair; all zero where it has no slot.
    package func standing(from source: IPAddress, to destination: SocketAddress, now: Instant) -> Standing {
        let (group, tag) = place(source, destination)
        guard case .member(let slot) = find(tag, in: group) else { return Standing() }
        return standing(slot, tag, now) ?? Standing()
    }

    /// Every pair that has a slot, in no order; each as it was at some moment of the call. For one who exports: it reads the
    /// whole table.
    package func forEachPair(now: Instant, _ body: (Reading) -> Void) {
        for slot in 0..<table.slotCount {
            let tag = table.head(slot).first & ~State.mask
            guard table.head(slot).first == tag | State.member, let reading = reading(slot, tag, now) else { continue }
            body(reading)
        }
    }

    private func standing(_ slot: Int, _ tag: UInt, _ now: Instant) -> Standing? {
        let (pair, counts) = current(slot, Self.tick(now))
        guard pair.first == tag | State.member else { return nil }
        var standing = Standing()
        standing.inUse = Int(counts.inUse)
        standing.timeWait = Int(counts.timeWait)
        standing.succeededAt = Instant(nanoseconds: table.word(slot, Word.succeededAt))
        let exclusion = Exclusion(word: table.word(slot, Word.exclusion))
        if exclusion.level > 0 {
            let isOver = exclusion.until <= Self.milliseconds(now)
            standing.exclusion = isOver ? .trialDue : .until(Instant(nanoseconds: exclusion.until * 1_000_000))
        }
        return standing
    }

    private func reading(_ slot: Int, _ tag: UInt, _ now: Instant) -> Reading? {
        guard let standing = standing(slot, tag, now) else { return nil }
        var reading = Reading(source: source(slot), destination: destination(slot))
        reading.standing = standing
        reading.succeeded = table.word(slot, Word.succeeded)
        reading.failed = table.word(slot, Word.failed)
        reading.connectTime = table.word(slot, Word.connectTime)
        let failure = table.word(slot, Word.failure)
        reading.lastError = Int32(failure & 0xfff)
        reading.failedAt = Instant(nanoseconds: (failure >> 12) * 1_000_000)
        // The words are another pair's only after the head has been something else.
        return table.head(slot).first == tag | State.member ? reading : nil
    }

    // MARK: How it works

    /// Attempts of others that `reserve` gives way to before it lets the connect go uncounted.
    private static let attemptCountMax = 1000

    /// The second word of a head.
    private struct Counts {
        var inUse: UInt64
        var timeWait: UInt64
        var tick: UInt64

        init(inUse: UInt64, timeWait: UInt64, tick: UInt64) {
            self.inUse = inUse
            self.timeWait = timeWait
            self.tick = tick
        }

        init(word: UInt) {
            inUse = UInt64(word) >> 47
            timeWait = UInt64(word) >> 30 & 0x1_ffff
            tick = UInt64(word) & 0x3fff_ffff
        }

        var word: UInt { UInt(inUse << 47 | timeWait << 30 | tick) }
    }

    /// Ports that are free from a tick on: the tick 30 bits, whether the head's tick has passed it or is about to 1, count 32.
    private struct Bucket {
        var word: UInt64
        init(word: UInt64) { self.word = word }
        init(tick: UInt64, count: UInt64) { word = tick << 33 | count }
        var tick: UInt64 { word >> 33 }
        var isFrozen: Bool { word & 1 << 32 != 0 }
        var frozen: UInt64 { word | 1 << 32 }
        var count: UInt64 { word & 0xffff_ffff }
    }

    /// Until when, how often in a row, and whether somebody tries: milliseconds 56, trial 1, level 7.
    private struct Exclusion {
        static let levelMax: UInt64 = 5
        var until: UInt64
        var isOnTrial: Bool
        var level: UInt64

        init(word: UInt64) {
            until = word >> 8
            isOnTrial = word & 0x80 != 0
            level = word & 0x7f
        }

        init(level: UInt64, isOnTrial: Bool, from now: UInt64) {
            self.level = level
            self.isOnTrial = isOnTrial
            until = now + min(30_000 << (level - 1), 300_000)
        }

        var word: UInt64 { until << 8 | (isOnTrial ? 0x80 : 0) | level }
    }

    private enum Finding {
        case member(Int)
        case absent
    }

    private enum Increment {
        case counted
        case full
        case gone
    }

    /// Seconds since the clock's beginning, from 1 on so that a bucket of zero is one that was never used.
    private static func tick(_ now: Instant) -> UInt64 { (now.nanoseconds / 1_000_000_000 + 1) & 0x3fff_ffff }
    private static func milliseconds(_ now: Instant) -> UInt64 { now.nanoseconds / 1_000_000 }

    private func ticks(ofPairAt slot: Int) -> UInt64 {
        switch reuse {
        case .none: Self.timeWaitTicks
        case .loopback: destination(slot).ip.isLoopback ? Self.reusedTicks : Self.timeWaitTicks
        case .all: Self.reusedTicks
        }
    }

    private func place(_ source: IPAddress, _ destination: SocketAddress) -> (group: Int, tag: UInt) {
        var hash = SipHash(key: key)
        hash.absorb(source.high)
        hash.absorb(source.low)
        hash.absorb(destination.ip.high)
        hash.absorb(destination.ip.low)
        hash.absorb(Self.portWord(source, destination))
        let value = hash.finished()
        let groups = table.slotCount / Self.groupCount
        return (Int(value >> 2 & UInt64(groups - 1)) * Self.groupCount, UInt(value) & ~State.mask)
    }

    private func find(_ tag: UInt, in group: Int) -> Finding {
        for slot in group..<group + Self.groupCount where table.head(slot).first == tag | State.member {
            return .member(slot)
        }
        return .absent
    }

    /// A free slot, else one whose pair is idle; with its head. nil where all are in use.
    private func vacancy(in group: Int, _ tick: UInt64, _ now: Instant) -> (Int, WordPair)? {
        var idle: (Int, WordPair)?
        for slot in group..<group + Self.groupCount {
            let head = table.head(slot)
            if head.first == 0 { return (slot, head) }
            guard idle == nil, head.first & State.mask == State.member else { continue }
            let (pair, counts) = current(slot, tick)
            guard pair.first == head.first, counts.inUse == 0, counts.timeWait == 0 else { continue }
            let exclusion = Exclusion(word: table.word(slot, Word.exclusion))
            if exclusion.level > 0, exclusion.until > Self.milliseconds(now) { continue }
            idle = (slot, pair)
        }
        return idle
    }

    private func increment(_ slot: Int, _ tag: UInt, _ tick: UInt64) -> Increment {
        while true {
            let (pair, counts) = current(slot, tick)
            guard pair.first == tag | State.member else { return .gone }
            if counts.inUse + counts.timeWait >= UInt64(limit) { return .full }
            var after = counts
            after.inUse += 1
            if table.exchangeHead(slot, pair, WordPair(first: pair.first, second: after.word)) { return .counted }
        }
    }

    /// The head with what has come due by `tick` taken off, where the slot is a member's; else as it is.
    private func current(_ slot: Int, _ tick: UInt64) -> (WordPair, Counts) {
        while true {
            let pair = table.head(slot)
            let counts = Counts(word: pair.second)
            guard pair.first & State.mask == State.member, counts.tick < tick else { return (pair, counts) }
            var after = counts
            after.tick = tick
            if counts.timeWait > 0 { after.timeWait -= min(freezeDue(slot, counts.tick, tick), counts.timeWait) }
            let moved = WordPair(first: pair.first, second: after.word)
            if table.exchangeHead(slot, pair, moved) { return (moved, after) }
        }
    }

    /// Closes the buckets of the ticks after `earlier` up to `tick`, so that nobody adds to them any more; the ports in them.
    ///
    /// Whoever is slower finds them closed and the same ports in them, until the head's tick has passed them. A bucket whose
    /// place another round has come to is closed under its later tick and takes its ports along.
    private func freezeDue(_ slot: Int, _ earlier: UInt64, _ tick: UInt64) -> UInt64 {
        var sum: UInt64 = 0
        var due = tick - min(tick - earlier, UInt64(Word.bucketCount)) + 1
        while due <= tick {
            let index = Word.firstBucket + Int(due % UInt64(Word.bucketCount))
            let bucket = Bucket(word: table.word(slot, index))
            // A later one belongs to somebody whose clock is ahead; what it took along comes due with it.
            if bucket.tick <= due {
                let count = bucket.tick > earlier ? bucket.count : 0
                let closed = Bucket(tick: due, count: count).frozen
                guard bucket.word == closed || table.exchangeWord(slot, index, bucket.word, closed) else { continue }
                sum += count
            }
            due += 1
        }
        return sum
    }

    /// Puts a port, which the head has counted already, where it is free from `tick` on. Where that moment has come while the
    /// caller slept, it is free in the next tick after the head's.
    private func addToBucket(_ slot: Int, _ tick: UInt64) {
        var tick = tick
        while true {
            let index = Word.firstBucket + Int(tick % UInt64(Word.bucketCount))
            let bucket = Bucket(word: table.word(slot, index))
            if bucket.tick > tick || bucket.tick == tick && bucket.isFrozen {
                tick = max(tick, Counts(word: table.head(slot).second).tick) + 1
                continue
            }
            // One of the round before has been taken off: a port is put at most 61 ticks of 64 ahead of the head's.
            let next = bucket.tick == tick ? bucket.word + 1 : Bucket(tick: tick, count: 1).word
            if table.exchangeWord(slot, index, bucket.word, next) { return }
        }
    }

    /// Puts the pair into `slot`, whose head is `pair`, with one port in use, unless it is or comes into another slot of the
    /// group: two slots for one pair would each count up to the limit.
    ///
    /// Its worker first takes the slot for itself alone and writes it out, then says what it means to make of it, and looks
    /// at every other slot. Of two who mean the same pair at least one sees the other, since each wrote before it looked; the
    /// lower slot wins. From `tentative` on nobody writes to the slot, so it may be taken away.
    private func insert(
        _ tag: UInt, at slot: Int, _ pair: WordPair, in group: Int, _ worker: Int, _ source: IPAddress,
        _ destination: SocketAddress, _ tick: UInt64
    ) -> Bool {
        let writing = WordPair(first: tag | State.writing, second: UInt(worker))
        guard table.exchangeHead(slot, pair, writing) else { return false }
        if pair.first != 0 { countEviction(slot) }
        write(slot, source, destination)
        let tentative = WordPair(first: tag | State.tentative, second: UInt(worker))
        guard table.exchangeHead(slot, writing, tentative) else { preconditionFailure("a slot was written by two") }
        for other in group..<group + Self.groupCount where other != slot {
            let head = table.head(other)
            // One that is still written will look here after us.
            guard head.first & ~State.mask == tag, head.first != 0, head.first & State.mask != State.writing else {
                continue
            }
            let isTentative = head.first & State.mask == State.tentative
            if isTentative, slot < other, table.exchangeHead(other, head, Self.free) { continue }
            // A member, a stronger attempt, or one that has just changed: begin again.
            _ = table.exchangeHead(slot, tentative, Self.free)
            return false
        }
        let counts = Counts(inUse: 1, timeWait: 0, tick: tick)
        return table.exchangeHead(slot, tentative, WordPair(first: tag | State.member, second: counts.word))
    }

    private static var free: WordPair { WordPair(first: 0, second: 0) }

    private func countEviction(_ slot: Int) {
        evictions.add(1, ordering: .relaxed)
        evictedSucceeded.add(table.word(slot, Word.succeeded), ordering: .relaxed)
        evictedFailed.add(table.word(slot, Word.failed), ordering: .relaxed)
    }

    private func write(_ slot: Int, _ source: IPAddress, _ destination: SocketAddress) {
        table.setWord(slot, Word.sourceHigh, source.high)
        table.setWord(slot, Word.sourceLow, source.low)
        table.setWord(slot, Word.destinationHigh, destination.ip.high)
        table.setWord(slot, Word.destinationLow, destination.ip.low)
        table.setWord(slot, Word.port, Self.portWord(source, destination))
        for index in Word.succeeded...Word.connectTime { table.setWord(slot, index, 0) }
        for index in Word.firstBucket..<Word.count where table.word(slot, index) != 0 { table.setWord(slot, index, 0) }
    }

    /// The port and which of the addresses are IPv6.
    private static func portWord(_ source: IPAddress, _ destination: SocketAddress) -> UInt64 {
        UInt64(destination.port) | (source.family == .v6 ? 1 << 16 : 0) | (destination.ip.family == .v6 ? 1 << 17 : 0)
    }

    private func source(_ slot: Int) -> IPAddress {
        address(slot, Word.sourceHigh, isV6: table.word(slot, Word.port) & 1 << 16 != 0)
    }

    private func destination(_ slot: Int) -> SocketAddress {
        let port = table.word(slot, Word.port)
        let ip = address(slot, Word.destinationHigh, isV6: port & 1 << 17 != 0)
        return SocketAddress(ip, port: UInt16(truncatingIfNeeded: port))
    }

    private func address(_ slot: Int, _ index: Int, isV6: Bool) -> IPAddress {
        let low = table.word(slot, index + 1)
        return isV6
            ? IPAddress(v6High: table.word(slot, index), low: low) : IPAddress(v4: UInt32(truncatingIfNeeded: low))
    }

    /// The later of two moments stays.
    private func raise(_ slot: Int, _ index: Int, to value: UInt64) {
        while true {
            let present = table.word(slot, index)
            if present >= value || table.exchangeWord(slot, index, present, value) { return }
        }
    }
}

extension IPAddress {
    /// 127.0.0.0/8 or ::1.
    fileprivate var isLoopback: Bool { family == .v4 ? byte(0) == 127 : self == .v6Loopback }
}
