import Glibc
import Synchronization

/// A fixed number of slots that all threads change without locks: in each a pair of words that changes in one
/// compare-and-exchange of 128 bits, and `wordCount` words beside it that change one by one.
///
/// All begin as zero. The pages come from the kernel when they are first written. Heads stand apart from the words, so
/// that a search reads four heads in a cache line. Bounds are checked in every build. What the words mean, and who may
/// write them when, is the owner's business.
@safe
public struct PairTable: ~Copyable, @unchecked Sendable {
    @usableFromInline
    let heads: UnsafeMutablePointer<Atomic<WordPair>>
    @usableFromInline
    let words: UnsafeMutablePointer<Atomic<UInt64>>
    public let slotCount: Int
    public let wordCount: Int

    public init(slotCount: Int, wordCount: Int) {
        precondition(slotCount > 0 && slotCount <= 1 << 24 && wordCount > 0 && wordCount <= 1 << 10)
        self.slotCount = slotCount
        self.wordCount = wordCount
        // An `Atomic` is stored as its value is, so a zeroed page holds atomics of zero.
        let headPages = unsafe Self.pages(slotCount * MemoryLayout<Atomic<WordPair>>.stride)
        unsafe heads = headPages.bindMemory(to: Atomic<WordPair>.self, capacity: slotCount)
        let wordPages = unsafe Self.pages(slotCount * wordCount * MemoryLayout<Atomic<UInt64>>.stride)
        unsafe words = wordPages.bindMemory(to: Atomic<UInt64>.self, capacity: slotCount * wordCount)
    }

    deinit {
        unsafe munmap(heads, slotCount * MemoryLayout<Atomic<WordPair>>.stride)
        unsafe munmap(words, slotCount * wordCount * MemoryLayout<Atomic<UInt64>>.stride)
    }

    private static func pages(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let pages = unsafe mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let pages = unsafe pages, unsafe pages != MAP_FAILED else { fatalError("no memory for a table of pairs") }
        return unsafe pages
    }

    @inlinable
    public func head(_ slot: Int) -> WordPair {
        precondition(slot >= 0 && slot < slotCount)
        return unsafe heads[slot].load(ordering: .sequentiallyConsistent)
    }

    /// Whether the slot's head was `expected` and now is `desired`.
    @inlinable
    public func exchangeHead(_ slot: Int, _ expected: WordPair, _ desired: WordPair) -> Bool {
        precondition(slot >= 0 && slot < slotCount)
        return unsafe heads[slot].compareExchange(
            expected: expected, desired: desired, ordering: .sequentiallyConsistent
        ).exchanged
    }

    @inlinable
    public func word(_ slot: Int, _ index: Int) -> UInt64 {
        unsafe words[position(slot, index)].load(ordering: .sequentiallyConsistent)
    }

    @inlinable
    public func setWord(_ slot: Int, _ index: Int, _ value: UInt64) {
        unsafe words[position(slot, index)].store(value, ordering: .sequentiallyConsistent)
    }

    /// Whether the word was `expected` and now is `desired`.
    @inlinable
    public func exchangeWord(_ slot: Int, _ index: Int, _ expected: UInt64, _ desired: UInt64) -> Bool {
        unsafe words[position(slot, index)].compareExchange(
            expected: expected, desired: desired, ordering: .sequentiallyConsistent
        ).exchanged
    }

    @inlinable
    public func addToWord(_ slot: Int, _ index: Int, _ amount: UInt64) {
        unsafe words[position(slot, index)].wrappingAdd(amount, ordering: .relaxed)
    }

    @inlinable
    func position(_ slot: Int, _ index: Int) -> Int {
        precondition(slot >= 0 && slot < slotCount && index >= 0 && index < wordCount)
        return slot * wordCount + index
    }
}
