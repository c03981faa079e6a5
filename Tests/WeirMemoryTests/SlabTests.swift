import Glibc
import Testing
import WeirMemory

/// A slab that an expectation can name: those copy what they look at.
private final class SlabBox<Element: BitwiseCopyable> {
    private let slab: Slab<Element>
    private let initial: Element

    /// `initial`: what a slot is given to hold.
    init(capacity: Int, initial: Element) {
        slab = Slab(capacity: capacity)
        self.initial = initial
    }

    var capacity: Int { slab.capacity }
    var liveCount: Int { slab.liveCount }
    var touchedCount: Int { slab.touchedCount }
    func allocate() -> Int? { slab.allocate(initial) }
    func free(_ index: Int) { slab.free(index) }
    func isLive(_ index: Int) -> Bool { slab.isLive(index) }
    func isLive(_ index: Int, generation: UInt32) -> Bool { slab.isLive(index, generation: generation) }
    func generation(of index: Int) -> UInt32 { slab.generation(of: index) }
    subscript(index: Int) -> Element {
        get { slab[index] }
        set { slab[index] = newValue }
    }
}

private struct Session: BitwiseCopyable, Equatable {
    var byteCount = 0
    var isOpen = false
}

@Suite struct SlabTests {

    @Test func slotsAreGivenFromTheFirstOnUntilAllAreLive() {
        let slab = SlabBox(capacity: 3, initial: 0)
        let given = (0..<4).map { _ in slab.allocate() }
        #expect(given == [0, 1, 2, nil])
        #expect(slab.liveCount == 3)
        #expect(slab.touchedCount == 3)
        #expect(slab.capacity == 3)
    }

    @Test func theSlotFreedLastIsUsedNext() {
        let slab = SlabBox(capacity: 8, initial: 0)
        for _ in 0..<4 { _ = slab.allocate() }
        slab.free(1)
        slab.free(3)
        slab.free(0)
        let given = (0..<4).map { _ in slab.allocate() }
        #expect(given == [0, 3, 1, 4])
    }

    @Test func everyTenantStartsAsTheElementGiven() throws {
        let slab = SlabBox(capacity: 1, initial: Session())
        let first = try #require(slab.allocate())
        slab[first].byteCount = 7
        slab[first].isOpen = true
        #expect(slab[first] == Session(byteCount: 7, isOpen: true))
        slab.free(first)
        let second = try #require(slab.allocate())
        #expect(slab[second] == Session())
    }

    @Test func aSlotsGenerationTellsItsTenantsApart() throws {
        let slab = SlabBox(capacity: 2, initial: 0)
        let index = try #require(slab.allocate())
        let generation = slab.generation(of: index)
        #expect(slab.isLive(index, generation: generation))
        slab.free(index)
        #expect(!slab.isLive(index, generation: generation))
        #expect(slab.generation(of: index) == generation + 1)
        _ = slab.allocate()
        #expect(slab.isLive(index))
        #expect(!slab.isLive(index, generation: generation))
        #expect(slab.isLive(index, generation: generation + 1))
    }

    @Test func whatIsOutsideOrNeverUsedIsNotLive() {
        let slab = SlabBox(capacity: 4, initial: 0)
        _ = slab.allocate()
        #expect(slab.isLive(0))
        for index in [-1, 1, 3, 4, Int.max] {
            #expect(!slab.isLive(index))
            #expect(!slab.isLive(index, generation: 0))
        }
        #expect(slab.generation(of: 3) == 0)
    }

    /// Against a plain model: the same indices are live after any run of allocations and frees.
    @Test(arguments: [1, 2, 3] as [UInt64]) func anyRunOfOperationsAgreesWithASet(seed: UInt64) {
        let slab = SlabBox(capacity: 50, initial: UInt64(0))
        var model: [Int: UInt64] = [:]
        var random = seed &* 0x9e37_79b9_7f4a_7c15
        for step in 0..<5000 {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            if random >> 33 & 1 == 0 {
                guard let index = slab.allocate() else {
                    #expect(model.count == 50)
                    continue
                }
                #expect(model.updateValue(UInt64(step), forKey: index) == nil, "a live slot was given again")
                slab[index] = UInt64(step)
            } else if let victim = model.keys.min() {
                #expect(slab[victim] == model.removeValue(forKey: victim))
                slab.free(victim)
            }
            #expect(slab.liveCount == model.count)
        }
        for (index, value) in model {
            #expect(slab[index] == value)
        }
    }

    @Test func freeingTwiceTraps() async {
        await #expect(processExitsWith: .failure) {
            let slab = Slab<Int>(capacity: 2)
            let index = slab.allocate(0) ?? 0
            slab.free(index)
            slab.free(index)
        }
    }

    @Test func lookingAtAFreeSlotTraps() async {
        await #expect(processExitsWith: .failure) {
            let slab = Slab<Int>(capacity: 2)
            let index = slab.allocate(0) ?? 0
            slab.free(index)
            slab[index] = 1
        }
    }

    /// Its slots are never written here, so that only addresses are used up where they leak.
    @Test func aDroppedSlabGivesItsMemoryBack() throws {
        let slotCount = 1 << 22
        let byteCount = slotCount * MemoryLayout<InlineArray<8, UInt64>>.stride
        let before = try virtualByteCount()
        for _ in 0..<64 { _ = SlabBox(capacity: slotCount, initial: InlineArray<8, UInt64>(repeating: 0)) }
        #expect(try virtualByteCount() < before + 32 * byteCount)
    }
}

/// The address space of this process in use (proc(5), `statm`).
private func virtualByteCount() throws -> Int {
    let file = unsafe open("/proc/self/statm", O_RDONLY)
    try #require(file >= 0)
    defer { close(file) }
    var line = [UInt8](repeating: 0, count: 128)
    let count = unsafe read(file, &line, line.count)
    let text = String(decoding: line.prefix(max(count, 0)), as: UTF8.self)
    return try #require(text.split(separator: " ").first.flatMap { Int($0) }) * sysconf(Int32(_SC_PAGESIZE))
}
