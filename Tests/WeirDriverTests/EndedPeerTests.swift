import Glibc
import Testing
import WeirDriverHarness
import WeirIO
import WeirMemory

/// U-12: sends to a peer that has ended its side. A ring's own wait for room takes FIN for it and ends on a thread.
@Suite struct EndedPeerTests {
    /// Sends whole buffers until one stays in flight, because nobody reads; says how many bytes went before it.
    private static func fill(_ near: Loopback, _ harness: DriverHarness) throws -> Int {
        var sentCount = 0
        while true {
            let payload = harness.payload([UInt8](repeating: 7, count: BufferPool.largeByteCount))
            harness.ask(.send(), .send(near.socket, payload))
            for _ in 0..<3 { harness.turn() }
            if harness.arrived.isEmpty { return sentCount }
            sentCount += Int(try harness.completion(of: .send()).result)
            harness.pool.release(payload.buffer)
        }
    }

    /// Turns until the driver has done all that it can: the end of a poll, the send, the next two polls.
    private static func goOn(_ harness: DriverHarness) {
        for _ in 0..<10 { harness.turn() }
    }

    private static func endedPair() throws -> (near: Loopback, far: Loopback) {
        let (near, far) = try Loopback.pair(bufferByteCount: 4608)
        far.end()
        #expect(near.wait(for: Int32(POLLIN)))
        return (near, far)
    }

    @Test(arguments: DriverKind.here) func sendWaitsWithoutAThreadAndCompletesWhole(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            let harness = try DriverHarness(kind)
            let (near, far) = try Self.endedPair()
            let before = try Self.fill(near, harness)
            for _ in 0..<300 { harness.turn() }
            #expect(harness.arrived.isEmpty)
            #expect(Holdings().kernelThreadCount == 0)
            var count = 0
            while count < before + BufferPool.largeByteCount, case .bytes(let bytes) = far.receive() {
                count += bytes.count
                Self.goOn(harness)
            }
            #expect(count == before + BufferPool.largeByteCount)
            #expect(Int(try harness.completion(of: .send()).result) == BufferPool.largeByteCount)
            #expect(Holdings().kernelThreadCount == 0)
        }
    }

    @Test(arguments: DriverKind.here) func peerThatEndsDuringTheWaitMakesNoDifference(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            let harness = try DriverHarness(kind)
            let (near, far) = try Loopback.pair(bufferByteCount: 4608)
            let before = try Self.fill(near, harness)
            far.end()
            #expect(near.wait(for: Int32(POLLIN)))
            for _ in 0..<300 { harness.turn() }
            #expect(harness.arrived.isEmpty)
            #expect(Holdings().kernelThreadCount == 0)
            var count = 0
            while count < before + BufferPool.largeByteCount, case .bytes(let bytes) = far.receive() {
                count += bytes.count
                Self.goOn(harness)
            }
            #expect(Int(try harness.completion(of: .send()).result) == BufferPool.largeByteCount)
        }
    }

    @Test(arguments: DriverKind.here) func sendIsCancelled(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Self.endedPair()
        let before = try Self.fill(near, harness)
        harness.ask(.cancel(.send()))
        let completion = try harness.completion(of: .send())
        #expect(completion.result > 0 || completion.result == -ECANCELED)
        harness.turn()
        #expect(harness.arrived.isEmpty)
        harness.ask(.shutdown(near.socket))
        harness.turn()
        let count = before + max(0, Int(completion.result))
        #expect(far.receiveAll(count + 1).count == count)
    }

    @Test(arguments: DriverKind.here) func resetEndsTheWait(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Self.endedPair()
        _ = try Self.fill(near, harness)
        far.reset()
        #expect(try harness.completion(of: .send()).result < 0)
    }

    /// RS-06: part of the payload is out; the reset is told once, and a receive that came later would see an end.
    @Test(arguments: DriverKind.here) func resetOfAPeerThatDoesNotReadIsReported(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair(bufferByteCount: 4608)
        _ = try Self.fill(near, harness)
        far.reset()
        #expect(try harness.completion(of: .send()).result == -ECONNRESET)
    }
}
