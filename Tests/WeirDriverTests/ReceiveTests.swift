import Glibc
import Testing
import WeirDriverHarness
import WeirIO
import WeirMemory
import WeirNet

@Suite struct ReceiveTests {
    @Test(arguments: DriverKind.here) func singleReceiveEndsWithTheFirstBytes(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.receive(), .receive(near.socket, isContinuing: false))
        harness.turn()
        #expect(harness.arrived.isEmpty)
        far.send([1, 2, 3])
        let completion = try harness.completion(of: .receive())
        #expect(completion.result == 3)
        #expect(!completion.hasMore)
        #expect(harness.take(completion) == [1, 2, 3])
        #expect(harness.heldBufferCount == 0)
    }

    @Test(arguments: DriverKind.here) func continuingReceiveGoesOnUntilTheEnd(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.receive(), .receive(near.socket, isContinuing: true))
        for byte in UInt8(1)...20 {
            far.send([byte])
            let completion = try harness.completion(of: .receive())
            #expect(completion.hasMore)
            #expect(harness.take(completion) == [byte])
        }
        far.end()
        let end = try harness.completion(of: .receive())
        #expect(end.result == 0)
        #expect(end.buffer == BufferPool.none)
        #expect(!end.hasMore)
        #expect(harness.heldBufferCount == 0)
    }

    @Test(arguments: DriverKind.here, [true, false])
    func bytesThatTheEndStandsBehindSaySo(on kind: DriverKind, isContinuing: Bool) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.receive(), .receive(near.socket, isContinuing: isContinuing))
        harness.turn()
        far.sendWithEnd([1, 2, 3])
        let completion = try harness.completion(of: .receive())
        #expect(harness.take(completion) == [1, 2, 3])
        #expect(completion.isBeforeEnd)
        if !completion.hasMore { harness.ask(.receive(), .receive(near.socket, isContinuing: isContinuing)) }
        #expect(try harness.completion(of: .receive()).result == 0)
    }

    @Test(arguments: DriverKind.here) func bytesWithNothingBehindThemSayNothingOfTheEnd(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        far.send([1, 2, 3])
        let completion = try harness.result(.receive(), .receive(near.socket, isContinuing: false))
        #expect(!completion.isBeforeEnd)
        #expect(harness.take(completion) == [1, 2, 3])
    }

    /// More bytes may be what the kernel has left.
    @Test(arguments: DriverKind.here) func fullBufferSaysNothingOfTheEnd(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        far.sendWithEnd([UInt8](repeating: 7, count: BufferPool.largeByteCount))
        let completion = try harness.result(.receive(), .receive(near.socket, isContinuing: false))
        #expect(completion.result == Int32(BufferPool.largeByteCount))
        #expect(!completion.isBeforeEnd)
        _ = harness.take(completion)
    }

    @Test(arguments: DriverKind.here) func moreThanABufferComesInSeveral(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        let bytes = (0..<40_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
        #expect(far.send(bytes) == bytes.count)
        harness.ask(.receive(), .receive(near.socket, isContinuing: true))
        var received: [UInt8] = []
        while received.count < bytes.count { received += harness.take(try harness.completion(of: .receive())) }
        #expect(received == bytes)
    }

    @Test(arguments: DriverKind.here) func resetIsReported(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.receive(), .receive(near.socket, isContinuing: true))
        harness.turn()
        far.reset()
        let completion = try harness.completion(of: .receive())
        #expect(completion.result == -ECONNRESET)
        #expect(!completion.hasMore)
        #expect(harness.heldBufferCount == 0)
    }

    /// U-07: the receive ends when no buffer is left, loses nothing, and goes on when one is back.
    @Test(arguments: DriverKind.here, [true, false])
    func receiveWithoutABufferEndsAndLosesNothing(on kind: DriverKind, isContinuing: Bool) throws {
        let harness = try DriverHarness(kind, largeCount: 2, bufferRingCount: 2)
        let (near, far) = try Loopback.pair()
        harness.ask(.receive(), .receive(near.socket, isContinuing: isContinuing))
        var held: [Completion] = []
        for byte in UInt8(1)...3 {
            far.send([byte])
            let completion = try harness.completion(of: .receive())
            if completion.result > 0 { held.append(completion) }
            if completion.result == -ENOBUFS {
                #expect(!completion.hasMore)
                #expect(completion.buffer == BufferPool.none)
            } else if !completion.hasMore {
                harness.ask(.receive(), .receive(near.socket, isContinuing: isContinuing))
            }
        }
        #expect(held.count == 2)
        #expect(harness.pool.takeLarge() == nil)
        #expect(harness.heldBufferCount == 2)
        #expect(held.map { harness.take($0) } == [[1], [2]])
        let recovered = try harness.result(.receive(), .receive(near.socket, isContinuing: isContinuing))
        #expect(harness.take(recovered) == [3])
        #expect(harness.heldBufferCount == 0)
    }

    /// U-10: either bytes or "cancelled", never both for one arm, never neither; and no byte is lost.
    @Test(arguments: DriverKind.here, [true, false])
    func receiveAndCancelRaceCompletesOnce(on kind: DriverKind, isContinuing: Bool) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        var received: [UInt8] = []
        let sent = (0..<200).map { UInt8(truncatingIfNeeded: $0) }
        for (round, byte) in sent.enumerated() {
            harness.ask(.receive(), .receive(near.socket, isContinuing: isContinuing))
            if round % 4 == 0 { far.send([byte]) }
            if round % 2 == 1 { harness.turn() }
            if round % 4 != 0 { far.send([byte]) }
            if round % 4 == 3 { harness.turn() }
            harness.ask(.cancel(.receive()))
            var isOver = false
            while !isOver {
                let completion = try harness.completion(of: .receive())
                #expect(completion.result > 0 || completion.result == -ECANCELED)
                received += harness.take(completion)
                isOver = !completion.hasMore
            }
            harness.turn()
            #expect(harness.arrived.isEmpty)
        }
        far.end()
        var isEnded = false
        while !isEnded {
            let completion = try harness.result(.receive(), .receive(near.socket, isContinuing: false))
            received += harness.take(completion)
            isEnded = completion.result == 0
        }
        #expect(received == sent)
        #expect(harness.heldBufferCount == 0)
    }

    /// RS-06: bytes and a reset that are seen together. Taken for FIN, a cut stream would look complete.
    @Test(arguments: DriverKind.here) func resetBehindBytesIsNoEnd(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.receive(), .receive(near.socket, isContinuing: false))
        harness.turn()
        far.send([1, 2, 3])
        far.reset()
        #expect(near.wait(for: Int32(POLLERR)))
        #expect(harness.take(try harness.completion(of: .receive())) == [1, 2, 3])
        let completion = try harness.result(.receive(), .receive(near.socket, isContinuing: false))
        #expect(completion.result == -ECONNRESET)
    }
}
