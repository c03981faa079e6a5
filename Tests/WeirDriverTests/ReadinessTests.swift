import Glibc
import Testing
import WeirDriverHarness
import WeirIO
import WeirMemory
import WeirNet

/// What happened while no operation asked is not lost: a driver that is told of changes only has to remember them.
@Suite struct ReadinessTests {
    /// A connection that the driver has waited on before, with nothing in flight on it now.
    private static func known(_ harness: DriverHarness, bufferByteCount: Int32? = nil) throws -> (
        near: Loopback, far: Loopback
    ) {
        let (near, far) = try Loopback.pair(bufferByteCount: bufferByteCount)
        harness.ask(.receive(), .receive(near.socket, isContinuing: false))
        harness.turn()
        harness.ask(.cancel(.receive()))
        #expect(try harness.completion(of: .receive()).result == -ECANCELED)
        return (near, far)
    }

    @Test(arguments: DriverKind.here, [true, false])
    func bytesThatCameBeforeTheReceiveAreThereAtOnce(on kind: DriverKind, isContinuing: Bool) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Self.known(harness)
        far.send([1, 2])
        #expect(near.wait(for: Int32(POLLIN)))
        for _ in 0..<3 { harness.turn() }
        harness.ask(.receive(), .receive(near.socket, isContinuing: isContinuing))
        // Nothing else will ever happen: a receive that waited for it would hang here.
        harness.turn(until: .distantFuture)
        #expect(harness.take(try harness.completion(of: .receive())) == [1, 2])
    }

    @Test(arguments: DriverKind.here, [true, false])
    func endThatCameWithBytesFollowsThem(on kind: DriverKind, isContinuing: Bool) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Self.known(harness)
        far.send([1])
        far.end()
        #expect(near.wait(for: Int32(POLLIN)))
        for _ in 0..<3 { harness.turn() }
        harness.ask(.receive(), .receive(near.socket, isContinuing: isContinuing))
        let bytes = try harness.completion(of: .receive())
        #expect(harness.take(bytes) == [1])
        if !bytes.hasMore { harness.ask(.receive(), .receive(near.socket, isContinuing: isContinuing)) }
        #expect(try harness.completion(of: .receive()).result == 0)
        #expect(harness.heldBufferCount == 0)
    }

    /// RS-06
    @Test(arguments: DriverKind.here) func resetThatCameBeforeTheWatchIsReported(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Self.known(harness)
        far.reset()
        #expect(near.wait(for: Int32(POLLERR)))
        for _ in 0..<3 { harness.turn() }
        harness.ask(.watch(), .watch(near.socket))
        harness.turn(until: .distantFuture)
        #expect(try harness.completion(of: .watch()).result == -ECONNRESET)
    }

    /// Room that came after a send had been given up serves the next.
    @Test(arguments: DriverKind.here) func roomThatCameBeforeTheSendIsUsed(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind, largeCount: 256)
        let (near, far) = try Loopback.pair(bufferByteCount: 4608)
        let payload = harness.payload([UInt8](repeating: 7, count: BufferPool.largeByteCount))
        var sentCount = 0
        while true {
            harness.ask(.send(), .send(near.socket, payload))
            harness.turn()
            if harness.arrived.isEmpty { break }
            sentCount += Int(try harness.completion(of: .send()).result)
        }
        harness.ask(.cancel(.send()))
        sentCount += max(0, Int(try harness.completion(of: .send()).result))
        #expect(far.receiveAll(sentCount).count == sentCount)
        for _ in 0..<3 { harness.turn() }
        let last = harness.payload([1, 2, 3])
        #expect(try harness.result(.send(), .send(near.socket, last)).result == 3)
        #expect(far.receiveAll(3) == [1, 2, 3])
    }

    /// RS-10: a receive stops at urgent bytes although others are there, and no event comes for those.
    @Test(arguments: DriverKind.here, [true, false])
    func urgentBytesHoldNothingUp(on kind: DriverKind, isContinuing: Bool) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Self.known(harness)
        far.send([1, 2])
        far.sendUrgent(9)
        far.send([3, 4])
        #expect(try Self.received(5, from: near, harness, isContinuing) == [1, 2, 9, 3, 4])
    }

    /// RS-10: all have come before the receive that waits for them hears of the first.
    @Test(arguments: DriverKind.here, [true, false])
    func urgentBytesAmongOthersHoldNothingUp(on kind: DriverKind, isContinuing: Bool) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Self.known(harness)
        harness.ask(.receive(), .receive(near.socket, isContinuing: isContinuing))
        harness.turn()
        far.send([1, 2])
        far.sendUrgent(9)
        far.send([3, 4])
        #expect(try Self.received(5, from: near, harness, isContinuing, isAsked: true) == [1, 2, 9, 3, 4])
    }

    private static func received(
        _ byteCount: Int, from near: Loopback, _ harness: DriverHarness, _ isContinuing: Bool, isAsked: Bool = false
    ) throws -> [UInt8] {
        var received: [UInt8] = []
        var isAsked = isAsked
        while received.count < byteCount {
            if !isAsked { harness.ask(.receive(), .receive(near.socket, isContinuing: isContinuing)) }
            let completion = try harness.completion(of: .receive())
            isAsked = completion.hasMore
            received += harness.take(completion)
        }
        return received
    }

    /// The number of a closed socket comes back; what happens on the connection that had it before is not its news.
    @Test(arguments: DriverKind.here) func reusedNumberHearsNothingOfItsEarlierConnection(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            let harness = try DriverHarness(kind)
            let (near, far) = try Self.known(harness)
            let number = near.descriptor
            // The connection stays open under another number, so closing this one is not its end.
            let kept = try Loopback(descriptor: dup(number))
            harness.close(near)
            let (next, nextFar) = try Loopback.pair()
            let reused = try Loopback(descriptor: fcntl(next.descriptor, F_DUPFD_CLOEXEC, number))
            #expect(reused.descriptor == number)
            harness.ask(.receive(), .receive(reused.socket, isContinuing: true))
            harness.turn()
            far.send([1])
            far.end()
            #expect(kept.wait(for: Int32(POLLIN)))
            for _ in 0..<3 { harness.turn() }
            #expect(harness.arrived.isEmpty)
            for byte in UInt8(2)...4 {
                nextFar.send([byte])
                #expect(harness.take(try harness.completion(of: .receive())) == [byte])
            }
        }
    }
}
