import Glibc
import Testing
import WeirDriverHarness
import WeirIO
import WeirNet

@Suite struct CloseTests {
    @Test(arguments: DriverKind.here) func shutdownEndsOneDirection(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.shutdown(near.socket))
        harness.turn()
        #expect(far.receive() == .end)
        far.send([1])
        #expect(harness.take(try harness.result(.receive(), .receive(near.socket, isContinuing: false))) == [1])
    }

    @Test(arguments: DriverKind.here) func closeEndsTheStream(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        #expect(try harness.result(.send(), .send(near.socket, harness.payload([1, 2]))).result == 2)
        harness.ask(.close(near.relinquish()))
        harness.turn()
        #expect(far.receiveAll(3) == [1, 2])
        #expect(far.receive() == .end)
    }

    /// RS-06
    @Test(arguments: DriverKind.here) func resetDropsWhatWasNotSent(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.reset(near.relinquish()))
        harness.turn()
        #expect(far.receive() == .failed(ECONNRESET))
    }

    @Test(arguments: DriverKind.here) func resetLetsGoOfWhatWasHeldBack(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        #expect(try harness.result(.send(), .send(near.socket, harness.payload([1, 2], more: true))).result == 2)
        harness.ask(.reset(near.relinquish()))
        harness.turn()
        #expect(far.receive() == .bytes([1, 2]))
        #expect(far.receive() == .failed(ECONNRESET))
    }

    @Test(arguments: DriverKind.here) func silentOperationsTakeEffectInTheirOrder(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        let (other, otherFar) = try Loopback.pair()
        #expect(try harness.result(.send(), .send(near.socket, harness.payload([1]))).result == 1)
        // One batch: FIN before a send, which then fails; FIN before close; RST of another connection.
        harness.ask(.shutdown(near.socket))
        harness.ask(.send(), .send(near.socket, harness.payload([2])))
        harness.ask(.shutdown(other.socket))
        harness.ask(.reset(other.relinquish()))
        #expect(try harness.completion(of: .send()).result == -EPIPE)
        harness.ask(.close(near.relinquish()))
        harness.turn()
        #expect(far.receive() == .bytes([1]))
        #expect(far.receive() == .end)
        #expect(otherFar.wait(for: Int32(POLLERR)))
    }

    /// U-09: FIN goes out although an operation was in flight until just before.
    @Test(arguments: DriverKind.here) func closeAfterACancelEndsTheStream(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        harness.ask(.receive(), .receive(near.socket, isContinuing: true))
        harness.ask(.watch(), .watch(near.socket))
        harness.turn()
        harness.ask(.cancel(.receive()))
        harness.ask(.cancelWatch(.watch()))
        #expect(try harness.completion(of: .receive()).result == -ECANCELED)
        #expect(try harness.completion(of: .watch()).result == -ECANCELED)
        harness.ask(.close(near.relinquish()))
        harness.turn()
        #expect(far.receive() == .end)
    }

    @Test(arguments: DriverKind.here) func numberOfAClosedSocketMayComeBackInTheSameBatch(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening()
        for _ in 0..<50 {
            let (near, far) = try Loopback.pair()
            harness.ask(.close(near.relinquish()))
            harness.ask(.connect(), .connect(to: listener.address, from: nil))
            let connected = try Loopback(descriptor: try harness.completion(of: .connect()).result)
            #expect(far.receive() == .end)
            #expect(try listener.accept().address == listener.address)
            connected.send([1])
            harness.close(connected)
        }
    }

    @Test(arguments: DriverKind.here) func closingTwiceTraps(on kind: DriverKind) async {
        await #expect(processExitsWith: .failure) { [kind] in
            let harness = try DriverHarness(kind)
            let (near, _) = try Loopback.pair()
            let socket = near.relinquish()
            harness.ask(.close(socket))
            harness.ask(.close(socket))
            harness.turn()
        }
    }
}
