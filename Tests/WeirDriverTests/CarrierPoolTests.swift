import Glibc
import Testing
import WeirSockets

@Suite struct CarrierPoolTests {
    private func pool(pipeBudget: Int = 1 << 23, pipeCountMax: Int = 64, bufferCountMax: Int = 0) -> CarrierPool {
        CarrierPool(
            pipeBudget: pipeBudget, pipeCountMax: pipeCountMax, bufferCountMax: bufferCountMax, areSocketsBlocking: true
        )
    }

    private func takeAll(_ pool: CarrierPool) -> [Carrier] {
        var taken: [Carrier] = []
        while let carrier = pool.take() { taken.append(carrier) }
        return taken
    }

    @Test func pipesGetSmallerAsMoreAreInUseAndStayWithinTheBudget() {
        let pool = pool()
        let taken = takeAll(pool)
        let sizes = taken.map { pool.capacity(of: $0) }
        #expect(sizes.first == 1 << 20)
        #expect(sizes == sizes.sorted(by: >))
        #expect(Set(sizes) == [1 << 20, 1 << 18, 1 << 16])
        #expect(sizes.reduce(0, +) <= 1 << 23)
        for carrier in taken { pool.giveBack(carrier, isEmpty: true) }
    }

    @Test func thereAreNoMorePipesThanAllowed() {
        let pool = pool(pipeCountMax: 3)
        let taken = takeAll(pool)
        #expect(taken.count == 3)
        for carrier in taken { pool.giveBack(carrier, isEmpty: true) }
    }

    @Test func buffersFollowWhereThereAreNoPipes() {
        let pool = pool(pipeCountMax: 1, bufferCountMax: 2)
        let taken = takeAll(pool)
        #expect(
            taken.map { pool.capacity(of: $0) } == [1 << 20, CarrierPool.bufferByteCount, CarrierPool.bufferByteCount])
        for carrier in taken { pool.giveBack(carrier, isEmpty: true) }
        #expect(takeAll(pool).count == 3)
    }

    @Test func anEmptyPipeIsUsedAgain() {
        let pool = pool()
        let first = pool.take()
        pool.giveBack(first!, isEmpty: true)
        #expect(pool.take() == first)
        pool.giveBack(first!, isEmpty: true)
    }

    /// Of an open descriptor; 0: it is closed.
    private func inode(_ descriptor: Int32) -> UInt {
        var facts = stat()
        return unsafe fstat(descriptor, &facts) == 0 ? UInt(facts.st_ino) : 0
    }

    @Test func aPipeThatHeldBytesIsClosedAndMakesPlace() {
        let pool = pool(pipeCountMax: 1)
        guard let carrier = pool.take(), case .pipe(let read, _, _) = carrier else {
            Issue.record("no pipe")
            return
        }
        let before = inode(read)
        pool.giveBack(carrier, isEmpty: false)
        // Another test may have the number by now.
        #expect(inode(read) != before)
        let next = pool.take()
        #expect(next != nil)
        if let next { pool.giveBack(next, isEmpty: true) }
    }
}
