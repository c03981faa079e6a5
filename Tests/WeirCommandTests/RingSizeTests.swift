import Testing
import Weir

/// U-03: what is tried where rings find no memory.
@Suite struct RingSizeTests {
    private func facts(lockedMemoryMax: UInt64 = .max) -> HostFacts {
        var facts = HostFacts()
        facts.lockedMemoryMax = lockedMemoryMax
        return facts
    }

    @Test func withoutALimitInSightTheSizeIsHalvedDownToTheSmallest() {
        var size: RingSize? = RingSize(completionCount: 65536, bufferRingCount: 256)
        var completionCounts: [Int] = []
        while let tried = size {
            completionCounts.append(tried.completionCount)
            #expect(tried.submissionCount * 4 <= tried.completionCount && tried.submissionCount <= 1024)
            size = tried.smaller(workerCount: 64, facts())
        }
        #expect(completionCounts == [65536, 32768, 16384, 8192, 4096, 2048, 1024])
    }

    /// 8 MiB are the default of systemd and of the kernel. Smaller steps would each wait for the kernel.
    @Test(arguments: [(8, 32768), (16, 16384), (32, 8192), (64, 2048)])
    func aLimitThatAllRingsShareIsMetInOneStep(workerCount: Int, completionCount: Int) throws {
        let size = RingSize(completionCount: 65536, bufferRingCount: 256)
        let next = try #require(size.smaller(workerCount: workerCount, facts(lockedMemoryMax: 8 << 20)))
        #expect(next.completionCount == completionCount)
    }

    @Test func theSmallestIsTriedThoughTheLimitLooksTooLow() {
        let size = RingSize(completionCount: 4096, bufferRingCount: 256)
        let next = size.smaller(workerCount: 2, facts(lockedMemoryMax: 1))
        #expect(next?.completionCount == 1024)
        #expect(next?.smaller(workerCount: 2, facts()) == nil)
    }
}
