import WeirMemory
import WeirNet

/// One worker's own copy of recent answers, so that a session to a known name never leaves its core.
///
/// All memory is taken at the start. A name may live in one of four places (a set); where all are taken by living
/// answers, the one unused for longest gives way. What has expired is never given out: serving stale answers is the
/// resolver's decision, which it states as an answer with an expiry of its own.
package struct AnswerCache: ~Copyable {
    private struct Entry: BitwiseCopyable {
        var name: ServerName
        var answer: Answer
    }

    private static let wayCount = 4

    /// The hash of each place's name; 0 where it is free. Apart from `entries`, so that a miss reads one cache line.
    private let hashes: FlatArray<UInt64>
    /// The `clock` at each place's last use.
    private let uses: FlatArray<UInt64>
    private let entries: FlatArray<Entry>
    private let setMask: Int
    private let seed: UInt64
    private var clock: UInt64 = 0

    /// Answers given out, and lookups that found none.
    package private(set) var hitCount: UInt64 = 0
    package private(set) var missCount: UInt64 = 0
    /// Living answers that gave way to another name's.
    package private(set) var evictionCount: UInt64 = 0

    /// `entryCount` is rounded up to a power of two, at least four. Names come from the wire, so `seed` should be
    /// unpredictable: names chosen to share one set would only push each other out, but cheaply.
    package init(entryCount: Int = 1024, seed: UInt64) {
        precondition(entryCount > 0 && entryCount <= 1 << 20)
        var setCount = 1
        while setCount * Self.wayCount < entryCount { setCount <<= 1 }
        setMask = setCount - 1
        self.seed = seed
        hashes = FlatArray(repeating: 0, count: setCount * Self.wayCount)
        uses = FlatArray(repeating: 0, count: setCount * Self.wayCount)
        entries = FlatArray(
            repeating: Entry(name: .none, answer: Answer(.noSuchName)), count: setCount * Self.wayCount)
    }

    deinit {
        hashes.deallocate()
        uses.deallocate()
        entries.deallocate()
    }

    /// The answer for `name` that still holds at `now`.
    package mutating func lookup(_ name: ServerName, now: Instant) -> Answer? {
        let hash = hash(name)
        if let place = place(of: name, hash: hash) {
            if now < entries[place].answer.expires {
                clock &+= 1
                uses[place] = clock
                hitCount &+= 1
                return entries[place].answer
            }
            hashes[place] = 0
        }
        missCount &+= 1
        return nil
    }

    /// Keeps `answer` for `name`, in place of an older one. An answer that does not hold at `now` is not kept, and
    /// leaves no older one behind either.
    package mutating func insert(_ answer: Answer, for name: ServerName, now: Instant) {
        precondition(!name.isNone)
        let hash = hash(name)
        let known = place(of: name, hash: hash)
        guard now < answer.expires else {
            if let known { hashes[known] = 0 }
            return
        }
        let place = known ?? freePlace(hash: hash, now: now)
        clock &+= 1
        hashes[place] = hash
        uses[place] = clock
        entries[place] = Entry(name: name, answer: answer)
    }

    /// Forgets everything.
    package mutating func removeAll() {
        for place in hashes.indices { hashes[place] = 0 }
    }

    private func place(of name: ServerName, hash: UInt64) -> Int? {
        let first = firstPlace(hash)
        for place in first..<first + Self.wayCount where hashes[place] == hash && entries[place].name == name {
            return place
        }
        return nil
    }

    /// A free place of the set, else one whose answer has expired, else the one unused for longest.
    private mutating func freePlace(hash: UInt64, now: Instant) -> Int {
        let first = firstPlace(hash)
        var oldest = first
        for place in first..<first + Self.wayCount {
            if hashes[place] == 0 || entries[place].answer.expires <= now { return place }
            if uses[place] < uses[oldest] { oldest = place }
        }
        evictionCount &+= 1
        return oldest
    }

    private func firstPlace(_ hash: UInt64) -> Int {
        (Int(truncatingIfNeeded: hash >> 32) & setMask) * Self.wayCount
    }

    /// Never 0. Eight bytes per multiplication, each folded with its upper half.
    private func hash(_ name: ServerName) -> UInt64 {
        var state = seed ^ UInt64(name.byteCount)
        var word: UInt64 = 0
        for index in 0..<name.byteCount {
            word = word << 8 | UInt64(name[index])
            if index & 7 == 7 {
                state = Self.mix(state ^ word)
                word = 0
            }
        }
        state = Self.mix(state ^ word)
        return state == 0 ? 1 : state
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        let product = value.multipliedFullWidth(by: 0x9e37_79b9_7f4a_7c15)
        return product.high ^ product.low
    }
}
