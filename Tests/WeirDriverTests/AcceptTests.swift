import Glibc
import Synchronization
import Testing
import WeirDriverHarness
import WeirIO
import WeirNet
import WeirUring

@Suite struct AcceptTests {
    /// Takes what one accept brings until `count` sockets are there; starts it again where it ended.
    private func accept(_ count: Int, on listener: Loopback, _ harness: DriverHarness) throws -> [Loopback] {
        var accepted: [Loopback] = []
        while accepted.count < count {
            let completion = try harness.completion(of: .accept())
            accepted.append(try Loopback(descriptor: completion.result))
            if !completion.hasMore { harness.ask(.accept(), .accept(listener.socket)) }
        }
        return accepted
    }

    @Test(arguments: DriverKind.here) func oneAcceptTakesManyConnections(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind, kernel: KernelRelease(release: "6.18.0", version: ""))
        let listener = try Loopback.listening()
        harness.ask(.accept(), .accept(listener.socket))
        for _ in 0..<3 {
            let client = try Loopback.connected(to: listener)
            let completion = try harness.completion(of: .accept())
            let accepted = try Loopback(descriptor: completion.result)
            #expect(completion.hasMore)
            #expect(harness.driver.peerAddress(of: accepted.socket) == client.address)
            #expect(harness.driver.localAddress(of: accepted.socket) == listener.address)
            // U-17: on a ring blocking, or it would answer EAGAIN; and not for children.
            #expect(kind == .epoll || fcntl(accepted.descriptor, F_GETFL) & O_NONBLOCK == 0)
            #expect(fcntl(accepted.descriptor, F_GETFD) & FD_CLOEXEC != 0)
            harness.close(accepted)
        }
    }

    /// U-20: the accept holds the listener's file, so it has to be home before the port is free.
    @Test(arguments: DriverKind.here) func cancelledAcceptFreesThePort(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening()
        let address = listener.address
        harness.ask(.accept(), .accept(listener.socket))
        harness.turn()
        harness.ask(.cancel(.accept()))
        let completion = try harness.completion(of: .accept())
        #expect(completion.result == -ECANCELED)
        #expect(!completion.hasMore)
        harness.ask(.close(listener.relinquish()))
        harness.turn()
        let again = try Loopback(descriptor: Loopback.exclusive(address))
        #expect(again.address == address)
    }

    /// U-04, U-05: more connections than the ring's completion queue holds and than epoll takes in a turn, all at once.
    @Test(arguments: DriverKind.here) func burstOfConnectionsIsTakenWhole(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind, submissionCount: 4)
        let listener = try Loopback.listening(backlog: 128)
        let clients = try (0..<100).map { _ in try Loopback.connected(to: listener) }
        harness.ask(.accept(), .accept(listener.socket))
        let accepted = try accept(100, on: listener, harness)
        #expect(Set(accepted.map { harness.driver.peerAddress(of: $0.socket) }) == Set(clients.map(\.address)))
    }

    /// P-08: another process that has the socket may be faster, also between poll(2) and accept(2).
    @Test(arguments: DriverKind.here) func whoLooksForAClientDoesNotWaitForTheNext(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            // Ends a process that waits in accept(2) for ever.
            alarm(30)
            let listener = try Loopback.listening()
            let socket = listener.socket
            let takenCount = Atomic<Int>(0)
            let isOver = Atomic<Bool>(false)
            @Sendable func look(_ harness: DriverHarness) {
                guard let client = harness.driver.acceptWaiting(on: socket) else { return }
                harness.ask(.close(client))
                harness.turn()
                takenCount.add(1, ordering: .relaxed)
            }
            try withThread {
                let rival = try DriverHarness(kind)
                while !isOver.load(ordering: .relaxed) { look(rival) }
            } whileRunning: {
                let harness = try DriverHarness(kind)
                for count in 1...3000 {
                    let client = try Loopback.connected(to: listener)
                    while takenCount.load(ordering: .relaxed) < count { look(harness) }
                    client.reset()
                }
                isOver.store(true, ordering: .relaxed)
            }
        }
    }

    /// U-06: a shortage ends the accept; the connection waits in the backlog until there is a descriptor again.
    @Test(arguments: DriverKind.here) func descriptorShortageEndsTheAcceptAndLosesNothing(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            _ = await Holdings.settled()
            let harness = try DriverHarness(kind)
            let listener = try Loopback.listening()
            harness.turn()
            let client = try Loopback.connected(to: listener)
            harness.ask(.accept(), .accept(listener.socket))
            withoutFreeDescriptors { harness.turn() }
            let refused = try harness.completion(of: .accept())
            #expect(refused.result == -EMFILE)
            #expect(!refused.hasMore)
            let completion = try harness.result(.accept(), .accept(listener.socket))
            let accepted = try Loopback(descriptor: completion.result)
            #expect(harness.driver.peerAddress(of: accepted.socket) == client.address)
        }
    }
}
