import Glibc
import WeirUring

/// How large a worker's ring is. All workers of a process have the same size, found by making their rings, from what is
/// wanted downwards, because memory for them is limited per user and in its continuous size (U-03). A smaller ring
/// overflows sooner, which costs calls and loses nothing.
package struct RingSize: Equatable, Sendable {
    package let submissionCount: Int
    package let completionCount: Int
    /// Buffers that stand ready in the kernel's ring.
    package let bufferRingCount: Int

    private static let submissionCountMax = 1024
    private static let completionCounts = 1024...65536

    /// Room for four times the operations that may be in flight, as far as the kernel allows. Powers of two, to which the
    /// kernel would round up.
    init(wantedFor capacity: Capacity) {
        var completionCount = Self.submissionCountMax * 4
        while completionCount < capacity.sessionCountMax * 4 && completionCount < Self.completionCounts.upperBound {
            completionCount *= 2
        }
        // Half the buffers at most stand in the kernel's ring; 256 keep a busy turn supplied.
        var bufferRingCount = 256
        while bufferRingCount > max(capacity.largeBufferCount / 2, 1) { bufferRingCount /= 2 }
        self.init(completionCount: completionCount, bufferRingCount: bufferRingCount)
    }

    package init(completionCount: Int, bufferRingCount: Int) {
        self.completionCount = completionCount
        self.bufferRingCount = bufferRingCount
        // The driver wants four completions per submission at least.
        submissionCount = min(Self.submissionCountMax, completionCount / 4)
    }

    /// What to try where `workerCount` rings of this size have found no memory, once it is time: half, or as much as the
    /// limit has room for; nil where nothing smaller would do.
    package func smaller(workerCount: Int, _ facts: HostFacts) -> RingSize? {
        guard completionCount > Self.completionCounts.lowerBound else { return nil }
        let half = RingSize(completionCount: completionCount / 2, bufferRingCount: bufferRingCount)
        if UInt64(half.lockedByteCount * workerCount) > facts.lockedMemoryMax,
            let next = half.smaller(workerCount: workerCount, facts)
        {
            return next
        }
        return half
    }

    /// The kernel gives the memory of closed rings back after a grace period; 20 to 45 ms were seen on Linux 6.18.
    static func awaitMemory() { usleep(50_000) }

    private var lockedByteCount: Int {
        UringDriver.lockedByteCount(
            submissionCount: submissionCount, completionCount: completionCount, bufferRingCount: bufferRingCount)
    }
}
