import Glibc
import Testing
import WeirDriverHarness
import WeirIO
import WeirNet

@Suite struct WatchTests {
    /// RS-06
    @Test(arguments: DriverKind.here) func resetIsReported(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.watch(), .watch(near.socket))
        harness.turn()
        #expect(harness.arrived.isEmpty)
        far.reset()
        let completion = try harness.completion(of: .watch())
        #expect(completion.result == -ECONNRESET)
        #expect(!completion.hasMore)
        harness.turn()
        #expect(harness.arrived.isEmpty)
    }

    @Test(arguments: DriverKind.here) func resetBeforeTheWatchIsReported(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        far.reset()
        #expect(near.wait(for: Int32(POLLERR)))
        #expect(try harness.result(.watch(), .watch(near.socket)).result == -ECONNRESET)
    }

    @Test(arguments: DriverKind.here) func watchIsSilentOnBytesAndEndOfStream(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.watch(), .watch(near.socket))
        harness.turn()
        far.send([1])
        far.end()
        // Once the end has been read, whatever the watch had to say about it is here as well.
        #expect(harness.take(try harness.result(.receive(), .receive(near.socket, isContinuing: false))) == [1])
        #expect(try harness.result(.receive(), .receive(near.socket, isContinuing: false)).result == 0)
        harness.turn()
        #expect(harness.arrived.isEmpty)
        harness.ask(.cancelWatch(.watch()))
        #expect(try harness.completion(of: .watch()).result == -ECANCELED)
        harness.turn()
        #expect(harness.arrived.isEmpty)
    }

    /// RS-06: a side that has sent FIN is watched, not received from.
    @Test(arguments: DriverKind.here) func resetAfterTheEndOfStreamIsReported(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        far.end()
        #expect(try harness.result(.receive(), .receive(near.socket, isContinuing: false)).result == 0)
        harness.ask(.watch(), .watch(near.socket))
        harness.turn()
        #expect(harness.arrived.isEmpty)
        far.reset()
        // On a connection whose other end has sent FIN the kernel calls a reset EPIPE.
        #expect(try harness.completion(of: .watch()).result == -EPIPE)
    }

    @Test(arguments: DriverKind.here) func endOfBothDirectionsIsReported(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.watch(), .watch(near.socket))
        far.end()
        #expect(try harness.result(.receive(), .receive(near.socket, isContinuing: false)).result == 0)
        #expect(harness.arrived.isEmpty)
        harness.ask(.shutdown(near.socket))
        #expect(try harness.completion(of: .watch()).result == 0)
    }

    @Test(arguments: DriverKind.here) func watchOfAConnectionThatIsOverEndsAtOnce(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.shutdown(near.socket))
        harness.turn()
        #expect(far.receive() == .end)
        far.end()
        #expect(near.wait(for: Int32(POLLHUP)))
        #expect(try harness.result(.watch(), .watch(near.socket)).result == 0)
    }

    @Test(arguments: DriverKind.here) func watchesOfBothSidesOfASlotAreKeptApart(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        let (other, otherFar) = try Loopback.pair()
        let second = Token(kind: 7, index: 0, generation: 1)
        harness.ask(.watch(), .watch(near.socket))
        harness.ask(second, .watch(other.socket))
        harness.turn()
        otherFar.reset()
        #expect(try harness.completion(of: second).result == -ECONNRESET)
        harness.ask(.cancelWatch(.watch()))
        #expect(try harness.completion(of: .watch()).result == -ECANCELED)
        withExtendedLifetime(far) {}
    }

    /// U-10: each watch of a place completes once, with nothing left over from the one before.
    @Test(arguments: DriverKind.here) func watchAndCancelRaceCompletesOnce(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        for round in 0..<200 {
            let (near, far) = try Loopback.pair()
            harness.ask(.watch(), .watch(near.socket))
            if round % 2 == 1 { harness.turn() }
            if round % 4 >= 2 { far.reset() }
            if round % 8 >= 4 { harness.turn() }
            harness.ask(.cancelWatch(.watch()))
            let completion = try harness.completion(of: .watch())
            #expect(completion.result == -ECANCELED || completion.result == -ECONNRESET)
            harness.close(near)
            #expect(harness.arrived.isEmpty)
        }
    }
}
