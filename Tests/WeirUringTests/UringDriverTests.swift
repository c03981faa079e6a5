import Glibc
import Testing
import WeirDriverHarness
import WeirIO
import WeirMemory
import WeirNet
import WeirSockets
import WeirUring

/// What only the driver on io_uring has: queues that overflow, a ring of buffers, a thread that it belongs to. What every
/// driver has is in WeirDriverTests.
@Suite(.enabled(if: ringWorks)) struct UringDriverTests {
    /// U-05
    @Test func kernelThatLosesSocketsAcceptsOneByOne() throws {
        let harness = try DriverHarness(.uring, kernel: KernelRelease(release: "6.6.15", version: ""))
        let listener = try Loopback.listening()
        for _ in 0..<2 {
            harness.ask(.accept(), .accept(listener.socket))
            let client = try Loopback.connected(to: listener)
            let completion = try harness.completion(of: .accept())
            let accepted = try Loopback(descriptor: completion.result)
            #expect(!completion.hasMore)
            #expect(harness.driver.peerAddress(of: accepted.socket) == client.address)
        }
    }

    /// U-04: more completions than the queue holds; each comes once, and the overflow is counted.
    @Test func overflownQueueLosesNoBytes() throws {
        let harness = try DriverHarness(.uring, largeCount: 64, bufferRingCount: 64, submissionCount: 4)
        let pairs = try (0..<40).map { _ in try Loopback.pair() }
        for (index, pair) in pairs.enumerated() {
            pair.far.send([UInt8(index)])
            harness.ask(.receive(UInt32(index)), .receive(pair.near.socket, isContinuing: false))
        }
        for index in pairs.indices {
            let completion = try harness.completion(of: .receive(UInt32(index)))
            #expect(harness.take(completion) == [UInt8(index)])
        }
        #expect(harness.arrived.isEmpty)
        #expect(harness.driver.figures.overflowCount > 0)
        #expect(harness.heldBufferCount == 0)
    }

    /// U-06: with the queue full, a continuing receive ends early and says so.
    @Test func overflownQueueEndsContinuingReceivesVisibly() throws {
        let harness = try DriverHarness(.uring, largeCount: 64, bufferRingCount: 64, submissionCount: 4)
        let pairs = try (0..<40).map { _ in try Loopback.pair() }
        for (index, pair) in pairs.enumerated() {
            harness.ask(.receive(UInt32(index)), .receive(pair.near.socket, isContinuing: true))
        }
        harness.turn()
        for (index, pair) in pairs.enumerated() {
            pair.far.send([UInt8(index)])
            pair.far.end()
        }
        for (index, pair) in pairs.enumerated() {
            var received: [UInt8] = []
            while true {
                let completion = try harness.completion(of: .receive(UInt32(index)))
                if completion.result == 0 { break }
                received += harness.take(completion)
                if !completion.hasMore {
                    harness.ask(.receive(UInt32(index)), .receive(pair.near.socket, isContinuing: true))
                }
            }
            #expect(received == [UInt8(index)])
        }
        #expect(harness.heldBufferCount == 0)
    }

    @Test func highestBufferNumberFits() throws {
        // 16 bits in a completion. The memory is reserved, not touched.
        let harness = try DriverHarness(.uring, largeCount: 1 << 16)
        let (near, far) = try Loopback.pair()
        // The pool gives the lowest first: all but the last are taken away.
        var taken: [UInt32] = []
        while harness.pool.freeLargeCount > 1 { taken.append(harness.pool.takeLarge()!) }
        far.send([7])
        let completion = try harness.result(.receive(), .receive(near.socket, isContinuing: false))
        #expect(completion.buffer == 65535)
        #expect(harness.take(completion) == [7])
    }

    @Test func largerPoolIsNotTaken() async {
        await #expect(processExitsWith: .failure) { _ = try DriverHarness(.uring, largeCount: 65537) }
    }

    @Test func buffersAreOfferedAsTheyComeBack() throws {
        let harness = try DriverHarness(.uring, largeCount: 32, bufferRingCount: 8)
        harness.turn()
        #expect(harness.driver.figures.offeredBufferCount == 8)
        #expect(harness.pool.freeLargeCount == 24)
        let (near, far) = try Loopback.pair()
        far.send([1])
        let completion = try harness.result(.receive(), .receive(near.socket, isContinuing: false))
        #expect(harness.heldBufferCount == 1)
        harness.pool.release(completion.buffer)
        harness.turn()
        #expect(harness.driver.figures.offeredBufferCount == 8)
        #expect(harness.pool.freeLargeCount == 24)
    }

    /// U-06: a full completion queue ends the polls; the watches go on and end once each.
    @Test func watchesOutliveAnOverflow() throws {
        let harness = try DriverHarness(.uring, submissionCount: 4)
        let pairs = try (0..<40).map { _ in try Loopback.pair() }
        for (index, pair) in pairs.enumerated() { harness.ask(.watch(UInt32(index)), .watch(pair.near.socket)) }
        harness.turn()
        for pair in pairs { pair.far.end() }
        for pair in pairs { #expect(pair.near.wait(for: Int32(POLLIN))) }
        for _ in 0..<10 { harness.turn() }
        #expect(harness.driver.figures.overflowCount > 0)
        #expect(harness.arrived.isEmpty)
        for pair in pairs { pair.far.reset() }
        for index in pairs.indices {
            #expect(try harness.completion(of: .watch(UInt32(index))).result == -EPIPE)
        }
        harness.turn()
        #expect(harness.arrived.isEmpty)
    }

    /// Elsewhere nothing can be cancelled: then the memory stays where it is.
    @Test func driverDroppedOnAnotherThreadKeepsTheMemoryItsOperationsName() throws {
        final class Box: @unchecked Sendable { var harness: DriverHarness? }
        weak var pool: BufferPool?
        let (near, far) = try Loopback.pair()
        do {
            let box = Box()
            box.harness = try DriverHarness(.uring)
            pool = box.harness?.pool
            let socket = near.socket
            try withThread {
                box.harness?.ask(.receive(), .receive(socket, isContinuing: true))
                box.harness?.turn()
            } whileRunning: {
            }
            box.harness = nil
        }
        #expect(pool != nil)
        far.send([1])
    }

    enum Refusal: String, CaseIterable, Codable {
        /// A queue without entries.
        case ring = "io_uring_setup"
        /// More entries than the kernel takes.
        case buffers = "io_uring_register_buf_ring"
    }

    @Test(arguments: Refusal.allCases)
    func failedSetUpLeavesNothing(refusal: Refusal) async {
        await #expect(processExitsWith: .success) { [refusal] in
            let before = await Holdings.settled()
            for _ in 0..<10 {
                weak var weakPool: BufferPool?
                do {
                    let pool = BufferPool(largeCount: 8, blockCount: 1)
                    weakPool = pool
                    do throws(DriverSetupFailure) {
                        _ = try UringDriver(
                            pool: pool, slotCount: 1, completionCount: 64,
                            bufferRingCount: refusal == .buffers ? 65536 : 8,
                            submissionCount: refusal == .ring ? 0 : 8)
                        Issue.record("it was set up")
                    } catch {
                        #expect(error.step == refusal.rawValue)
                        #expect(error.code == EINVAL)
                    }
                }
                #expect(weakPool == nil)
            }
            #expect(Holdings().areUnchanged(since: before, driverCount: 10))
        }
    }

    /// U-03: a limit on locked memory is met with a smaller queue, or reported; never a trap.
    @Test func completionQueueIsClamped() throws {
        let pool = BufferPool(largeCount: 8, blockCount: 1)
        let driver = try UringDriver(pool: pool, slotCount: 1, completionCount: .max, bufferRingCount: 8)
        var operations: [Operation] = []
        var completions: [Completion] = []
        _ = driver.turn(&operations, into: &completions, until: driver.now())
        #expect(completions.isEmpty)
    }

    /// U-12: no operation of ours makes the kernel start a thread.
    @Test func kernelStartsNoThread() async {
        await #expect(processExitsWith: .success) {
            let harness = try DriverHarness(.uring)
            let listener = try Loopback.listening()
            let busy = try Loopback.listening(backlog: 0)
            let waiting = try Loopback.connected(to: busy)
            let sockets = try harness.keepBusy(listener, busy)
            harness.ask(.shutdown(sockets[0].socket))
            harness.ask(.close(sockets[1].relinquish()))
            for _ in 0..<5 { harness.turn() }
            #expect(Holdings().kernelThreadCount == 0)
            withExtendedLifetime(waiting) {}
        }
    }
}
