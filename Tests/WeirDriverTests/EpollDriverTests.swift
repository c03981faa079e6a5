import Glibc
import Testing
import WeirDriverHarness
import WeirEpoll
import WeirIO
import WeirMemory
import WeirNet
import WeirSockets

/// What only the driver on epoll has: a loop that could spin, turns that it has to share out, listening sockets that it
/// must not change.
@Suite struct EpollDriverTests {
    /// Calls to epoll_wait(2) during `turn`.
    private func waits(_ harness: DriverHarness, during turn: () -> Void) -> UInt64 {
        let before = harness.driver.figures.enterCount
        turn()
        return harness.driver.figures.enterCount - before
    }

    /// A turn of 20 ms in which nothing completes. Spinning would take thousands of waits; a few are news of room or bytes
    /// that nobody asked for, or interrupted, as a ring that has just gone does to its thread.
    private func expectQuietTurn(_ harness: DriverHarness, sourceLocation: SourceLocation = #_sourceLocation) {
        let deadline = harness.driver.now().advanced(byNanoseconds: 20_000_000)
        let count = waits(harness) { harness.turn(until: deadline) }
        #expect(count < 20, sourceLocation: sourceLocation)
        #expect(harness.arrived.isEmpty, sourceLocation: sourceLocation)
        #expect(harness.driver.now() >= deadline, sourceLocation: sourceLocation)
    }

    @Test func idleTurnDoesNotSpin() throws {
        let harness = try DriverHarness(.epoll)
        let pairs = try (0..<8).map { _ in try Loopback.pair() }
        let listener = try Loopback.listening()
        harness.ask(.accept(), .accept(listener.socket))
        for (index, pair) in pairs.enumerated() {
            harness.ask(.receive(UInt32(index)), .receive(pair.near.socket, isContinuing: index % 2 == 0))
            harness.ask(.watch(UInt32(index)), .watch(pair.near.socket))
        }
        expectQuietTurn(harness)
    }

    @Test func bytesThatNobodyAsksForDoNotSpin() throws {
        let harness = try DriverHarness(.epoll)
        let (near, far) = try Loopback.pair()
        harness.ask(.watch(), .watch(near.socket))
        harness.turn()
        far.send([1])
        far.end()
        #expect(near.wait(for: Int32(POLLIN)))
        expectQuietTurn(harness)
    }

    /// As in the pause after a shortage of descriptors.
    @Test func connectionThatNobodyAcceptsDoesNotSpin() throws {
        let harness = try DriverHarness(.epoll)
        let listener = try Loopback.listening()
        harness.ask(.accept(), .accept(listener.socket))
        harness.turn()
        harness.ask(.cancel(.accept()))
        #expect(try harness.completion(of: .accept()).result == -ECANCELED)
        let client = try Loopback.connected(to: listener)
        expectQuietTurn(harness)
        let completion = try harness.result(.accept(), .accept(listener.socket))
        #expect(harness.driver.peerAddress(of: Socket(rawValue: completion.result)) == client.address)
        harness.ask(.close(Socket(rawValue: completion.result)))
        harness.turn()
    }

    @Test func waitShorterThanAMillisecondIsOneWait() throws {
        let harness = try DriverHarness(.epoll)
        for _ in 0..<5 {
            let deadline = harness.driver.now().advanced(byNanoseconds: 300_000)
            #expect(waits(harness) { harness.turn(until: deadline) } < 20)
            #expect(harness.driver.now() >= deadline)
        }
    }

    /// A message costs a call fewer; who waits for events gets his turn all the same.
    @Test func operationsThatCompleteAtOnceAskForEventsEverySecondTurn() throws {
        let harness = try DriverHarness(.epoll)
        let (near, far) = try Loopback.pair()
        let (other, otherFar) = try Loopback.pair()
        harness.ask(.receive(), .receive(other.socket, isContinuing: false))
        harness.turn()
        otherFar.send([2])
        #expect(other.wait(for: Int32(POLLIN)))
        let payload = harness.payload([1])
        harness.ask(.send(), .send(near.socket, payload))
        #expect(waits(harness) { harness.turn() } == 0)
        #expect(try harness.completion(of: .send()).result == 1)
        harness.ask(.send(), .send(near.socket, payload))
        #expect(waits(harness) { harness.turn() } == 1)
        #expect(harness.arrived.map(\.token) == [.send(), .receive()])
        #expect(far.receiveAll(2) == [1, 1])
    }

    /// U-18: one that sends without end has its share of a turn, and goes on in the next by itself.
    @Test func greedySenderLeavesOthersTheirTurn() throws {
        let harness = try DriverHarness(.epoll, largeCount: 64)
        let (greedy, greedyFar) = try Loopback.pair(bufferByteCount: 1 << 20)
        let (modest, modestFar) = try Loopback.pair()
        let byteCount = 9 * BufferPool.largeByteCount
        #expect(greedyFar.send([UInt8](repeating: 5, count: byteCount)) == byteCount)
        #expect(greedy.wait(forByteCount: byteCount))
        harness.ask(.receive(0), .receive(greedy.socket, isContinuing: true))
        harness.ask(.receive(1), .receive(modest.socket, isContinuing: true))
        harness.turn()
        #expect(harness.arrived.map(\.token) == [.receive(0), .receive(0), .receive(0), .receive(0)])
        modestFar.send([1])
        #expect(modest.wait(for: Int32(POLLIN)))
        harness.turn(until: .distantFuture)
        #expect(harness.arrived.count { $0.token == .receive(0) } == 8)
        #expect(harness.take(try harness.completion(of: .receive(1))) == [1])
        var receivedCount = 0
        while receivedCount < byteCount {
            receivedCount += harness.take(try harness.completion(of: .receive(0))).count
        }
        #expect(receivedCount == byteCount)
        #expect(harness.heldBufferCount == 0)
    }

    @Test func receiveOutOfItsShareCanBeCancelledAndItsSocketClosed() throws {
        let harness = try DriverHarness(.epoll, largeCount: 64)
        let (greedy, greedyFar) = try Loopback.pair(bufferByteCount: 1 << 20)
        let byteCount = 6 * BufferPool.largeByteCount
        #expect(greedyFar.send([UInt8](repeating: 5, count: byteCount)) == byteCount)
        #expect(greedy.wait(forByteCount: byteCount))
        harness.ask(.receive(), .receive(greedy.socket, isContinuing: true))
        harness.turn()
        for _ in 0..<4 { #expect(harness.take(try harness.completion(of: .receive())).count == 16384) }
        harness.ask(.cancel(.receive()))
        harness.ask(.reset(greedy.relinquish()))
        let (next, nextFar) = try Loopback.pair()
        harness.ask(.receive(1), .receive(next.socket, isContinuing: true))
        harness.turn()
        #expect(harness.arrived.map(\.result) == [-ECANCELED])
        nextFar.send([3])
        #expect(harness.take(try harness.completion(of: .receive(1))) == [3])
    }

    @Test func silentSocketsHoldNoBuffer() throws {
        let harness = try DriverHarness(.epoll, largeCount: 4)
        let pairs = try (0..<32).map { _ in try Loopback.pair() }
        for (index, pair) in pairs.enumerated() {
            harness.ask(.receive(UInt32(index)), .receive(pair.near.socket, isContinuing: index % 2 == 0))
        }
        harness.turn()
        #expect(harness.arrived.isEmpty)
        #expect(harness.pool.outstandingCount == 0)
        for (index, pair) in pairs.enumerated() {
            pair.far.send([UInt8(index)])
            #expect(harness.take(try harness.completion(of: .receive(UInt32(index)))) == [UInt8(index)])
        }
        #expect(harness.pool.outstandingCount == 0)
    }

    /// U-17: another process may accept from the same socket through a ring, which O_NONBLOCK would break.
    @Test func listeningSocketStaysBlockingAndNoAcceptHangs() throws {
        let harness = try DriverHarness(.epoll)
        let listener = try Loopback.listening()
        harness.ask(.accept(), .accept(listener.socket))
        harness.turn()
        #expect(fcntl(listener.descriptor, F_GETFL) & O_NONBLOCK == 0)
        // What the driver's accept does when another was faster.
        var code = EINTR
        while code == EINTR { code = accept(listener.descriptor, nil, nil) < 0 ? errno : 0 }
        #expect(code == EAGAIN)
    }

    /// U-17: both drivers accept from one socket, as two processes do during an upgrade; each connection comes once.
    @Test(.enabled(if: ringWorks)) func listeningSocketMayBeSharedWithARing() throws {
        let harness = try DriverHarness(.epoll)
        let ring = try DriverHarness(.uring)
        let listener = try Loopback.listening()
        let same = try Loopback(descriptor: dup(listener.descriptor))
        harness.ask(.accept(), .accept(listener.socket))
        ring.ask(.accept(), .accept(same.socket))
        harness.turn()
        ring.turn()
        var clients: [Loopback] = []
        var peers: [SocketAddress?] = []
        var sockets: [Int] = []
        for round in 0..<60 {
            clients.append(try Loopback.connected(to: listener))
            for party in round % 2 == 0 ? [harness, ring] : [ring, harness] {
                party.turn()
                while let completion = party.arrived.first {
                    _ = try party.completion(of: completion.token)
                    #expect(completion.result >= 0)
                    if !completion.hasMore {
                        party.ask(.accept(), .accept(party === ring ? same.socket : listener.socket))
                    }
                    peers.append(party.driver.peerAddress(of: Socket(rawValue: completion.result)))
                    sockets.append(Int(completion.result))
                }
            }
        }
        // The driver on epoll has left the socket: the ring goes on.
        harness.ask(.cancel(.accept()))
        #expect(try harness.completion(of: .accept()).result == -ECANCELED)
        harness.close(listener)
        clients.append(try Loopback.connected(to: same))
        while peers.count < clients.count {
            let completion = try ring.completion(of: .accept())
            #expect(completion.result >= 0)
            peers.append(ring.driver.peerAddress(of: Socket(rawValue: completion.result)))
            sockets.append(Int(completion.result))
            if !completion.hasMore { ring.ask(.accept(), .accept(same.socket)) }
        }
        #expect(Set(peers) == Set(clients.map(\.address)))
        #expect(peers.count == clients.count)
        // What it has accepted inherits the bound on waiting (SO_RCVTIMEO), which a ring does not wait by.
        ring.ask(.receive(), .receive(Socket(rawValue: Int32(sockets[sockets.count - 1])), isContinuing: false))
        ring.turn(until: ring.driver.now().advanced(byNanoseconds: 20_000_000))
        #expect(ring.arrived.isEmpty)
        clients[clients.count - 1].send([7])
        #expect(ring.take(try ring.completion(of: .receive())) == [7])
        for socket in sockets { close(Int32(socket)) }
    }

    @Test func highDescriptorNumbersAreServed() throws {
        let harness = try DriverHarness(.epoll)
        let (near, far) = try Loopback.pair()
        let high = try Loopback(descriptor: fcntl(near.descriptor, F_DUPFD_CLOEXEC, 1500))
        harness.ask(.receive(), .receive(high.socket, isContinuing: false))
        harness.turn()
        far.send([1])
        #expect(harness.take(try harness.completion(of: .receive())) == [1])
    }

    @Test func failedSetUpLeavesNothing() async {
        await #expect(processExitsWith: .success) {
            let before = await Holdings.settled()
            for _ in 0..<10 {
                weak var weakPool: BufferPool?
                do {
                    let pool = BufferPool(largeCount: 8, blockCount: 1)
                    weakPool = pool
                    let wake = try WakeEvent()
                    var failure: DriverSetupFailure?
                    withoutFreeDescriptors {
                        do throws(DriverSetupFailure) {
                            _ = try EpollDriver(pool: pool, slotCount: 1, wake: wake)
                        } catch {
                            failure = error
                        }
                    }
                    #expect(failure?.step == "epoll_create1")
                    #expect(failure?.code == EMFILE)
                }
                #expect(weakPool == nil)
            }
            #expect(Holdings().areUnchanged(since: before, driverCount: 10))
        }
    }

    @Test func closingWithAnOperationInFlightTraps() async {
        await #expect(processExitsWith: .failure) {
            let harness = try DriverHarness(.epoll)
            let (near, far) = try Loopback.pair()
            harness.ask(.receive(), .receive(near.socket, isContinuing: false))
            harness.ask(.close(near.relinquish()))
            harness.turn()
            far.close()
        }
    }
}
