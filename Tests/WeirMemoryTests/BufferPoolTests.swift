import Testing
import WeirMemory

@Suite struct BufferPoolTests {
    private let pool = BufferPool(largeCount: 4, blockCount: 3)

    @Test func everyBufferIsGivenOnce() {
        let large = (0..<4).map { _ in pool.takeLarge() }
        let blocks = (0..<3).map { _ in pool.takeBlock() }
        #expect(large == [0, 1, 2, 3])
        #expect(blocks == [4, 5, 6])
        #expect(pool.takeLarge() == nil)
        #expect(pool.takeBlock() == nil)
        #expect(pool.outstandingCount == 7)
    }

    @Test func lastReleasedIsGivenFirst() {
        let large = (0..<3).compactMap { _ in pool.takeLarge() }
        let blocks = (0..<2).compactMap { _ in pool.takeBlock() }
        pool.release(large[0])
        pool.release(large[2])
        pool.release(blocks[0])
        #expect(pool.takeLarge() == large[2])
        #expect(pool.takeLarge() == large[0])
        #expect(pool.takeBlock() == blocks[0])
    }

    @Test func countsFollowTakesAndReleases() {
        #expect(pool.outstandingCount == 0)
        let large = pool.takeLarge()!
        let block = pool.takeBlock()!
        #expect(pool.outstandingCount == 2)
        #expect(pool.freeLargeCount == 3)
        #expect(pool.freeBlockCount == 2)
        pool.release(large)
        pool.release(block)
        #expect(pool.outstandingCount == 0)
        #expect(pool.freeLargeCount == 4)
        #expect(pool.freeBlockCount == 3)
    }

    @Test func takenBufferIsEmpty() {
        let index = pool.takeLarge()!
        pool.append(to: index) { _ in 100 }
        pool.chunks[Int(index)].next = 2
        pool.release(index)
        let again = pool.takeLarge()!
        #expect(again == index)
        #expect(pool.chunks[Int(again)].byteCount == 0)
        #expect(pool.chunks[Int(again)].next == BufferPool.none)
    }

    @Test func sizesDiffer() {
        #expect(pool.capacity(of: 3) == BufferPool.largeByteCount)
        #expect(pool.capacity(of: 4) == BufferPool.blockByteCount)
    }

    /// Every byte of every buffer is its own: no buffer reaches into another.
    @Test func buffersDoNotOverlap() {
        let all = (0..<4).map { _ in pool.takeLarge()! } + (0..<3).map { _ in pool.takeBlock()! }
        for index in all {
            let written = pool.append(to: index) { room in
                for position in room.indices { room[position] = UInt8(index) }
                return room.count
            }
            #expect(written == pool.capacity(of: index))
        }
        for index in all {
            let isWhole = pool.withBytes(of: index, 0..<pool.capacity(of: index)) { bytes in
                bytes.indices.allSatisfy { bytes[$0] == UInt8(index) }
            }
            #expect(isWhole)
        }
    }

    @Test func bytesAreAppendedBehindOneAnother() {
        let index = pool.takeBlock()!
        for byte in UInt8(1)...3 {
            pool.append(to: index) { room in
                room[0] = byte
                return 1
            }
        }
        #expect(pool.chunks[Int(index)].byteCount == 3)
        pool.withBytes(of: index, 0..<3) { bytes in #expect([bytes[0], bytes[1], bytes[2]] == [1, 2, 3]) }
    }

    @Test func copyGoesBehindWhatIsThere() {
        let source = pool.takeLarge()!
        let destination = pool.takeBlock()!
        for (index, bytes) in [(source, [UInt8(1), 2, 3, 4]), (destination, [9])] {
            pool.append(to: index) { room in
                for position in bytes.indices { room[position] = bytes[position] }
                return bytes.count
            }
        }
        pool.copy(1..<3, of: source, to: destination)
        #expect(pool.chunks[Int(destination)].byteCount == 3)
        pool.withBytes(of: destination, 0..<3) { bytes in #expect([bytes[0], bytes[1], bytes[2]] == [9, 2, 3]) }
    }

    @Test func secondReleaseTraps() async {
        await #expect(processExitsWith: .failure) {
            let pool = BufferPool(largeCount: 4, blockCount: 3)
            let index = pool.takeLarge()!
            pool.release(index)
            pool.release(index)
        }
    }

    @Test func releaseOfAFreeBufferTraps() async {
        await #expect(processExitsWith: .failure) { BufferPool(largeCount: 4, blockCount: 3).release(2) }
    }

    @Test(arguments: [0, 1, 2, 3])
    func bytesBeyondABufferAreNotReached(way: Int) async {
        await #expect(processExitsWith: .failure) { [way] in
            let pool = BufferPool(largeCount: 2, blockCount: 2)
            let large = pool.takeLarge()!
            let block = pool.takeBlock()!
            switch way {
            case 0: pool.withBytes(of: block, 0..<(BufferPool.blockByteCount + 1)) { _ in }
            case 1: pool.withBytes(of: 4, 0..<1) { _ in }
            case 2: pool.copy(0..<(BufferPool.blockByteCount + 1), of: large, to: block)
            default: pool.append(to: block) { room in room.count + 1 }
            }
        }
    }
}
