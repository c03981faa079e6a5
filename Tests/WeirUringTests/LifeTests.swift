import CWeir
import Glibc
import Testing
import WeirIO
import WeirMemory
import WeirNet
import WeirSockets
import WeirUring

@Suite(.enabled(if: ringWorks)) struct LifeTests {
    /// One of everything in flight, on connections that the caller holds.
    private static func keepBusy(_ harness: DriverHarness, _ listener: Loopback, _ busy: Loopback) throws -> [Loopback]
    {
        let receiving = try Loopback.pair()
        let single = try Loopback.pair()
        let sending = try Loopback.pair(bufferByteCount: 4608)
        harness.ask(.accept(), .accept(listener.socket))
        harness.ask(.connect(), .connect(to: busy.address, from: nil))
        harness.ask(.receive(0), .receive(receiving.near.socket, isContinuing: true))
        harness.ask(.receive(1), .receive(single.near.socket, isContinuing: false))
        harness.ask(.watch(0), .watch(receiving.near.socket))
        harness.turn()
        // Nobody reads, so one of them stays.
        for index in UInt32(0)..<20 {
            let bytes = [UInt8](repeating: 9, count: BufferPool.largeByteCount)
            harness.ask(.send(index), .send(sending.near.socket, harness.payload(bytes)))
            harness.turn()
            if harness.arrived.count <= index { break }
        }
        return [receiving.near, receiving.far, single.near, single.far, sending.near, sending.far]
    }

    @Test func droppedDriverLeavesNoDescriptorAndNoMemory() async {
        await #expect(processExitsWith: .success) {
            let listener = try Loopback.listening()
            let busy = try Loopback.listening(backlog: 0)
            let waiting = try Loopback.connected(to: busy)
            let before = await Holdings.settled()
            for _ in 0..<10 {
                weak var pool: BufferPool?
                do {
                    let harness = try DriverHarness()
                    pool = harness.pool
                    _ = try Self.keepBusy(harness, listener, busy)
                }
                #expect(pool == nil)
            }
            #expect(Holdings().areUnchanged(since: before, driverCount: 10))
            // U-20: no accept holds the listener any more.
            let address = listener.address
            listener.close()
            #expect(try Loopback(descriptor: Loopback.exclusive(address)).address == address)
            withExtendedLifetime(waiting) {}
        }
    }

    /// Closing a ring only asks the kernel to stop; memory goes back when it has.
    @Test func droppedDriverWritesToNoBuffer() throws {
        for _ in 0..<20 {
            var harness: DriverHarness? = try DriverHarness(largeCount: 32, bufferRingCount: 32)
            let pool = try #require(harness?.pool)
            let pairs = try (0..<8).map { _ in try Loopback.pair() }
            for (index, pair) in pairs.enumerated() {
                harness?.ask(.receive(UInt32(index)), .receive(pair.near.socket, isContinuing: index % 2 == 0))
            }
            harness?.turn()
            // Bytes that are on their way when it goes, and bytes that come afterwards.
            for pair in pairs.prefix(4) { pair.far.send([0xaa]) }
            harness = nil
            for pair in pairs { pair.far.send([0xbb]) }
            for index in UInt32(0)..<32 {
                let first = pool.withBytes(of: index, 0..<1) { $0[0] }
                // The first four may have arrived before.
                #expect(first != 0xbb)
            }
            for pair in pairs.dropFirst(4) { #expect(pair.near.receive() == .bytes([0xbb])) }
        }
    }

    /// Elsewhere nothing can be cancelled: then the memory stays where it is.
    @Test func driverDroppedOnAnotherThreadKeepsTheMemoryItsOperationsName() throws {
        final class Box: @unchecked Sendable { var harness: DriverHarness? }
        weak var pool: BufferPool?
        let (near, far) = try Loopback.pair()
        do {
            let box = Box()
            box.harness = try DriverHarness()
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

    @Test func idleDriverMayBeDroppedAnywhere() throws {
        final class Box: @unchecked Sendable { var harness: DriverHarness? }
        weak var pool: BufferPool?
        do {
            let box = Box()
            box.harness = try DriverHarness()
            pool = box.harness?.pool
            try withThread {
                box.harness?.turn()
            } whileRunning: {
            }
            box.harness = nil
        }
        #expect(pool == nil)
    }

    @Test func driverThatNeverTurnedLeavesNothing() async {
        await #expect(processExitsWith: .success) {
            let before = await Holdings.settled()
            for _ in 0..<10 {
                weak var pool: BufferPool?
                do {
                    let harness = try DriverHarness()
                    pool = harness.pool
                }
                #expect(pool == nil)
            }
            #expect(Holdings().areUnchanged(since: before, driverCount: 10))
        }
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
            let harness = try DriverHarness()
            let listener = try Loopback.listening()
            let busy = try Loopback.listening(backlog: 0)
            let waiting = try Loopback.connected(to: busy)
            let sockets = try Self.keepBusy(harness, listener, busy)
            harness.ask(.shutdown(sockets[0].socket))
            harness.ask(.close(sockets[1].relinquish()))
            for _ in 0..<5 { harness.turn() }
            #expect(Holdings().kernelThreadCount == 0)
            withExtendedLifetime(waiting) {}
        }
    }
}
