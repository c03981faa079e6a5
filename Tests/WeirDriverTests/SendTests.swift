import Glibc
import Testing
import WeirDriverHarness
import WeirIO
import WeirMemory
import WeirNet

@Suite struct SendTests {
    @Test(arguments: DriverKind.here) func sendsStopWaitingForAcknowledgementsWhenTold(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening()
        let completion = try harness.result(.connect(), .connect(to: listener.address, from: nil))
        let connected = try Loopback(descriptor: completion.result)
        #expect(!connected.hasNoDelay)
        harness.ask(.noDelay(connected.socket))
        harness.turn()
        #expect(connected.hasNoDelay)
    }

    /// Sends whole buffers until one stays in flight, because nobody reads.
    private func fill(
        _ near: Loopback, _ harness: DriverHarness
    ) throws -> (before: [UInt8], pending: [UInt8]) {
        var sent: [UInt8] = []
        for round in 0..<200 {
            let bytes = (0..<BufferPool.largeByteCount).map { UInt8(truncatingIfNeeded: $0 / 3 + round) }
            let payload = harness.payload(bytes)
            harness.ask(.send(), .send(near.socket, payload))
            harness.turn()
            if harness.arrived.isEmpty { return (sent, bytes) }
            #expect(Int(try harness.completion(of: .send()).result) == bytes.count)
            harness.pool.release(payload.buffer)
            sent += bytes
        }
        Issue.record("the socket never filled up")
        return (sent, [])
    }

    @Test(arguments: DriverKind.here) func payloadArrives(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        var payload = harness.payload([0, 1, 2, 3, 4, 5])
        payload.offset = 2
        payload.byteCount = 3
        #expect(try harness.result(.send(), .send(near.socket, payload)).result == 3)
        harness.pool.release(payload.buffer)
        #expect(far.receive() == .bytes([2, 3, 4]))
        #expect(harness.heldBufferCount == 0)
    }

    /// U-11
    @Test(arguments: DriverKind.here) func sendThatMustWaitCompletesWhole(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair(bufferByteCount: 4608)
        let (before, pending) = try fill(near, harness)
        var received: [UInt8] = []
        while received.count < before.count + BufferPool.largeByteCount {
            guard case .bytes(let bytes) = far.receive() else { break }
            received += bytes
            harness.turn()
        }
        #expect(Int(try harness.completion(of: .send()).result) == BufferPool.largeByteCount)
        #expect(received == before + pending)
    }

    /// U-10, U-11: cancelled, it completes once and says how many bytes went out: those the peer gets.
    @Test(arguments: DriverKind.here) func cancelledSendSaysWhatWentOut(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair(bufferByteCount: 4608)
        let (before, pending) = try fill(near, harness)
        harness.ask(.cancel(.send()))
        let completion = try harness.completion(of: .send())
        #expect(completion.result > 0 || completion.result == -ECANCELED)
        harness.turn()
        #expect(harness.arrived.isEmpty)
        harness.ask(.shutdown(near.socket))
        harness.turn()
        let all = before + pending[..<max(0, Int(completion.result))]
        #expect(far.receiveAll(all.count + 1) == all)
    }

    @Test(arguments: DriverKind.here) func sendAndCancelRaceCompletesOnce(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair(bufferByteCount: 4608)
        var sent: [UInt8] = []
        var received: [UInt8] = []
        for round in 0..<100 {
            let bytes = (0..<BufferPool.largeByteCount).map { UInt8(truncatingIfNeeded: $0 / 5 + round) }
            let payload = harness.payload(bytes)
            harness.ask(.send(), .send(near.socket, payload))
            if round % 2 == 1 { harness.turn() }
            if round % 3 == 2, far.wait(for: Int32(POLLIN)), case .bytes(let bytes) = far.receive(upTo: 3000) {
                received += bytes
            }
            harness.ask(.cancel(.send()))
            let completion = try harness.completion(of: .send())
            #expect(completion.result > 0 || completion.result == -ECANCELED)
            sent += bytes[..<max(0, Int(completion.result))]
            harness.pool.release(payload.buffer)
            harness.turn()
            #expect(harness.arrived.isEmpty)
        }
        harness.ask(.shutdown(near.socket))
        harness.turn()
        received += far.receiveAll(sent.count + 1 - received.count)
        #expect(received == sent)
        #expect(harness.heldBufferCount == 0)
    }

    @Test(arguments: DriverKind.here) func bytesHeldBackGoWithTheNext(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        let first = harness.payload([1, 2, 3], more: true)
        #expect(try harness.result(.send(), .send(near.socket, first)).result == 3)
        let second = harness.payload([4, 5])
        #expect(try harness.result(.send(), .send(near.socket, second)).result == 2)
        #expect(far.receiveAll(5) == [1, 2, 3, 4, 5])
    }

    @Test(arguments: DriverKind.here) func bytesHeldBackGoWithTheEnd(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        let first = harness.payload([1, 2, 3], more: true)
        #expect(try harness.result(.send(), .send(near.socket, first)).result == 3)
        harness.ask(.shutdown(near.socket))
        harness.turn()
        #expect(far.receive() == .bytes([1, 2, 3]))
        #expect(far.receive() == .end)
    }

    @Test(arguments: DriverKind.here) func sendAfterTheEndIsAnErrorAndNoSignal(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            signal(SIGPIPE, SIG_DFL)
            let harness = try DriverHarness(kind)
            let (near, far) = try Loopback.pair()
            harness.ask(.shutdown(near.socket))
            let completion = try harness.result(.send(), .send(near.socket, harness.payload([1])))
            #expect(completion.result == -EPIPE)
            #expect(far.receive() == .end)
        }
    }

    @Test(arguments: DriverKind.here) func sendAfterAResetIsAnErrorAndNoSignal(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            signal(SIGPIPE, SIG_DFL)
            let harness = try DriverHarness(kind)
            let (near, far) = try Loopback.pair()
            far.reset()
            #expect(near.wait(for: Int32(POLLERR)))
            let payload = harness.payload([1])
            #expect(try harness.result(.send(), .send(near.socket, payload)).result == -ECONNRESET)
            // The error is taken; what remains is a closed connection.
            #expect(try harness.result(.send(), .send(near.socket, payload)).result == -EPIPE)
        }
    }

    @Test(arguments: DriverKind.here) func resetEndsASendThatWaits(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair(bufferByteCount: 4608)
        _ = try fill(near, harness)
        far.reset()
        let completion = try harness.completion(of: .send())
        // Part of it may have gone out before.
        #expect(completion.result < BufferPool.largeByteCount)
        if completion.result >= 0 {
            let payload = harness.payload([1])
            #expect(try harness.result(.send(), .send(near.socket, payload)).result < 0)
        }
    }
}
