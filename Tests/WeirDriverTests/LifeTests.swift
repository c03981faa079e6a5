import Glibc
import Testing
import WeirDriverHarness
import WeirIO
import WeirMemory
import WeirNet

@Suite struct LifeTests {
    @Test(arguments: DriverKind.here) func droppedDriverLeavesNoDescriptorAndNoMemory(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            let listener = try Loopback.listening()
            let busy = try Loopback.listening(backlog: 0)
            let waiting = try Loopback.connected(to: busy)
            let before = await Holdings.settled()
            for _ in 0..<10 {
                weak var pool: BufferPool?
                do {
                    let harness = try DriverHarness(kind)
                    pool = harness.pool
                    _ = try harness.keepBusy(listener, busy)
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
    @Test(arguments: DriverKind.here) func droppedDriverWritesToNoBuffer(on kind: DriverKind) throws {
        for _ in 0..<20 {
            var harness: DriverHarness? = try DriverHarness(kind, largeCount: 32, bufferRingCount: 32)
            let pool = try #require(harness?.pool)
            // The memory may hold what another test has left there.
            for buffer in try (0..<32).map({ _ in try #require(pool.takeLarge()) }) {
                pool.append(to: buffer) { room in
                    room[0] = 0
                    return 1
                }
                pool.release(buffer)
            }
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

    @Test(arguments: DriverKind.here) func idleDriverMayBeDroppedAnywhere(on kind: DriverKind) throws {
        final class Box: @unchecked Sendable { var harness: DriverHarness? }
        weak var pool: BufferPool?
        do {
            let box = Box()
            box.harness = try DriverHarness(kind)
            pool = box.harness?.pool
            try withThread {
                box.harness?.turn()
            } whileRunning: {
            }
            box.harness = nil
        }
        #expect(pool == nil)
    }

    @Test(arguments: DriverKind.here) func driverThatNeverTurnedLeavesNothing(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            let before = await Holdings.settled()
            for _ in 0..<10 {
                weak var pool: BufferPool?
                do {
                    let harness = try DriverHarness(kind)
                    pool = harness.pool
                }
                #expect(pool == nil)
            }
            #expect(Holdings().areUnchanged(since: before, driverCount: 10))
        }
    }
}
