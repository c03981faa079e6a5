import Glibc
import Testing
import WeirIO
import WeirNet
import WeirUring

@Suite(.enabled(if: ringWorks)) struct WatchTests {
    /// RS-06
    @Test func resetIsReported() throws {
        let harness = try DriverHarness()
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

    @Test func resetBeforeTheWatchIsReported() throws {
        let harness = try DriverHarness()
        let (near, far) = try Loopback.pair()
        far.reset()
        #expect(near.wait(for: Int32(POLLERR)))
        #expect(try harness.result(.watch(), .watch(near.socket)).result == -ECONNRESET)
    }

    @Test func watchIsSilentOnBytesAndEndOfStream() throws {
        let harness = try DriverHarness()
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
    @Test func resetAfterTheEndOfStreamIsReported() throws {
        let harness = try DriverHarness()
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

    @Test func endOfBothDirectionsIsReported() throws {
        let harness = try DriverHarness()
        let (near, far) = try Loopback.pair()
        harness.ask(.watch(), .watch(near.socket))
        far.end()
        #expect(try harness.result(.receive(), .receive(near.socket, isContinuing: false)).result == 0)
        #expect(harness.arrived.isEmpty)
        harness.ask(.shutdown(near.socket))
        #expect(try harness.completion(of: .watch()).result == 0)
    }

    @Test func watchOfAConnectionThatIsOverEndsAtOnce() throws {
        let harness = try DriverHarness()
        let (near, far) = try Loopback.pair()
        harness.ask(.shutdown(near.socket))
        harness.turn()
        #expect(far.receive() == .end)
        far.end()
        #expect(near.wait(for: Int32(POLLHUP)))
        #expect(try harness.result(.watch(), .watch(near.socket)).result == 0)
    }

    @Test func watchesOfBothSidesOfASlotAreKeptApart() throws {
        let harness = try DriverHarness()
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
    @Test func watchAndCancelRaceCompletesOnce() throws {
        let harness = try DriverHarness()
        for round in 0..<200 {
            let (near, far) = try Loopback.pair()
            harness.ask(.watch(), .watch(near.socket))
            if round % 2 == 1 { harness.turn() }
            if round % 4 >= 2 { far.reset() }
            if round % 8 >= 4 { harness.turn() }
            harness.ask(.cancelWatch(.watch()))
            let completion = try harness.completion(of: .watch())
            #expect(completion.result == -ECANCELED || completion.result == -ECONNRESET)
            harness.turn()
            #expect(harness.arrived.isEmpty)
        }
    }

    /// U-06: a full completion queue ends the polls; the watches go on and end once each.
    @Test func watchesOutliveAnOverflow() throws {
        let harness = try DriverHarness(submissionCount: 4)
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
}
