import Testing
import WeirMemory

@Suite struct FlatArrayTests {
    @Test func copiesShareTheirElements() {
        let array = FlatArray([1, 2, 3])
        let copy = array
        copy[1] = 7
        #expect(array.indices.map { array[$0] } == [1, 7, 3])
        array.deallocate()
    }

    @Test func anEmptyArrayHasNoElement() {
        let array = FlatArray([Int]())
        #expect(array.count == 0)
        #expect(array.indices.isEmpty)
        array.deallocate()
    }

    @Test func lookingBehindTheEndTraps() async {
        await #expect(processExitsWith: .failure) {
            let array = FlatArray(repeating: 0, count: 2)
            array[2] = 1
        }
    }
}

@Suite struct SPSCRingTests {
    @Test func whatIsPushedComesOutInOrderUntilFull() {
        let ring = SPSCRing<Int>(capacity: 3)
        #expect(ring.capacity == 4)
        #expect((0..<5).map { ring.push($0) } == [true, true, true, true, false])
        #expect((0..<5).map { _ in ring.pop() } == [0, 1, 2, 3, nil])
        #expect(ring.isEmpty)
    }

    @Test func twoThreadsPassEverythingOnce() async {
        let ring = SPSCRing<Int>(capacity: 8)
        let sum = await withTaskGroup(of: Int.self) { group in
            group.addTask {
                for number in 1...5000 {
                    while !ring.push(number) { await Task.yield() }
                }
                return 0
            }
            group.addTask {
                var last = 0
                while last < 5000 {
                    guard let number = ring.pop() else {
                        await Task.yield()
                        continue
                    }
                    // Each is the one after the last; anything else ends the count early and wrong.
                    guard number == last + 1 else { return -1 }
                    last = number
                }
                return last
            }
            return await group.reduce(0, +)
        }
        #expect(sum == 5000)
    }
}
