/// A worker's byte buffers, in two sizes: large ones that the kernel fills, and small blocks that hold a preamble back
/// while its upstream is found.
///
/// Buffers are named by index: `0..<largeCount` are large, the rest are blocks. Both free lists are last-in first-out,
/// so that what moves bytes now stays in the cache. Memory is reserved at start and first touched when it is used.
/// One thread owns the pool. Every buffer is either free or owned by exactly one holder: the driver's ring, an
/// operation in flight, or a queue of a session; `release` traps where that is broken.
@safe
public final class BufferPool {
    public static let largeByteCount = 16384
    public static let blockByteCount = 2048

    /// What stands in a buffer: bytes `begin..<end`, and the buffer that follows in the queue it is in.
    @frozen
    public struct Chunk: BitwiseCopyable {
        public var next: UInt32
        public var begin: UInt32
        public var end: UInt32
        /// Where it began when it came into its queue: `first <= begin`.
        public var first: UInt32
        public var isFree: Bool

        @inlinable
        public init(next: UInt32, begin: UInt32, end: UInt32, isFree: Bool) {
            self.next = next
            self.begin = begin
            self.end = end
            first = begin
            self.isFree = isFree
        }

        @inlinable
        public var byteCount: Int { Int(end - begin) }
    }

    /// The index of no buffer.
    public static let none = UInt32.max

    public let largeCount: Int
    public let blockCount: Int
    /// One per buffer; the owner reads and writes it.
    public let chunks: FlatArray<Chunk>
    @usableFromInline
    let memory: UnsafeMutableRawPointer
    private let freeLarge: FreeList
    private let freeBlocks: FreeList
    /// Free large buffers.
    public var freeLargeCount: Int { freeLarge.count }
    public var freeBlockCount: Int { freeBlocks.count }

    public init(largeCount: Int, blockCount: Int) {
        precondition(largeCount > 0 && blockCount > 0 && largeCount + blockCount < 1 << 31)
        self.largeCount = largeCount
        self.blockCount = blockCount
        let byteCount = largeCount * Self.largeByteCount + blockCount * Self.blockByteCount
        unsafe memory = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 4096)
        chunks = FlatArray(
            repeating: Chunk(next: Self.none, begin: 0, end: 0, isFree: true), count: largeCount + blockCount)
        freeLarge = FreeList(0..<UInt32(largeCount))
        freeBlocks = FreeList(UInt32(largeCount)..<UInt32(largeCount + blockCount))
    }

    deinit {
        unsafe memory.deallocate()
        chunks.deallocate()
        freeLarge.deallocate()
        freeBlocks.deallocate()
    }

    /// A large buffer with an empty chunk, or nil where none is free.
    public func takeLarge() -> UInt32? { take(from: freeLarge) }

    /// A block with an empty chunk, or nil where none is free.
    public func takeBlock() -> UInt32? { take(from: freeBlocks) }

    private func take(from list: FreeList) -> UInt32? {
        guard let index = list.pop() else { return nil }
        chunks[Int(index)] = Chunk(next: Self.none, begin: 0, end: 0, isFree: false)
        return index
    }

    /// Gives a buffer back. Traps where it is free already.
    public func release(_ index: UInt32) {
        precondition(!chunks[Int(index)].isFree, "buffer \(index) was released twice")
        chunks[Int(index)].isFree = true
        (Int(index) < largeCount ? freeLarge : freeBlocks).push(index)
    }

    /// Bytes that buffer `index` can hold.
    @inlinable
    public func capacity(of index: UInt32) -> Int {
        Int(index) < largeCount ? Self.largeByteCount : Self.blockByteCount
    }

    /// Buffers that are not free.
    public var outstandingCount: Int { largeCount - freeLargeCount + blockCount - freeBlockCount }

    /// Where buffer `index` starts. For drivers, which hand it to the kernel while the buffer is theirs.
    @unsafe
    @inlinable
    public func address(of index: UInt32) -> UnsafeMutableRawPointer {
        let position = Int(index)
        precondition(position < largeCount + blockCount)
        return position < largeCount
            ? unsafe memory + position * Self.largeByteCount
            : unsafe memory + largeCount * Self.largeByteCount + (position - largeCount) * Self.blockByteCount
    }

    /// Calls `body` with bytes `range` of buffer `index`.
    @inlinable
    public func withBytes<Result: ~Copyable>(
        of index: UInt32, _ range: Range<Int>, _ body: (Span<UInt8>) -> Result
    ) -> Result {
        precondition(range.lowerBound >= 0 && range.upperBound <= capacity(of: index))
        let start = unsafe address(of: index).assumingMemoryBound(to: UInt8.self) + range.lowerBound
        return body(unsafe Span(_unsafeStart: start, count: range.count))
    }

    /// Calls `body` with the free room behind the chunk of `index`. It returns how many bytes it wrote from the start
    /// of the room; they become part of the chunk.
    @inlinable
    @discardableResult
    public func append(to index: UInt32, _ body: (inout MutableSpan<UInt8>) -> Int) -> Int {
        let end = Int(chunks[Int(index)].end)
        let count = capacity(of: index) - end
        let start = unsafe address(of: index).assumingMemoryBound(to: UInt8.self) + end
        var room = unsafe MutableSpan(_unsafeStart: start, count: count)
        let written = body(&room)
        precondition(written >= 0 && written <= count)
        chunks[Int(index)].end = UInt32(end + written)
        return written
    }

    /// Copies `range` of buffer `source` behind the chunk of `destination`, which must have room.
    public func copy(_ range: Range<Int>, of source: UInt32, to destination: UInt32) {
        let end = Int(chunks[Int(destination)].end)
        precondition(source != destination)
        precondition(range.lowerBound >= 0 && range.upperBound <= capacity(of: source))
        precondition(end + range.count <= capacity(of: destination))
        unsafe (address(of: destination) + end).copyMemory(
            from: address(of: source) + range.lowerBound, byteCount: range.count)
        chunks[Int(destination)].end = UInt32(end + range.count)
    }
}

/// The free buffers of one size, last in first out.
private struct FreeList {
    /// How many there are, then which. Apart from whoever holds the list, so that no access to it is checked while the
    /// program runs (see `Slab`).
    private let entries: FlatArray<UInt32>

    /// All of `range` are free; the lowest comes first.
    init(_ range: Range<UInt32>) {
        entries = FlatArray(repeating: 0, count: range.count + 1)
        for index in range.reversed() { push(index) }
    }

    func deallocate() { entries.deallocate() }

    var count: Int { Int(entries[0]) }

    func push(_ index: UInt32) {
        entries[count + 1] = index
        entries[0] += 1
    }

    func pop() -> UInt32? {
        guard entries[0] > 0 else { return nil }
        entries[0] -= 1
        return entries[count + 1]
    }
}
