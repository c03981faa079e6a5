import Glibc
import Testing
import WeirDriverHarness
import WeirIO
import WeirNet
import WeirUring

@Suite struct ConnectTests {
    /// A listener whose backlog is full, so that a connect to it stays pending.
    private struct BusyListener {
        let listener: Loopback
        private let waiting: Loopback

        init() throws {
            listener = try Loopback.listening(backlog: 0)
            waiting = try Loopback.connected(to: listener)
        }
    }

    @Test(arguments: DriverKind.here, [IPAddress.loopback, IPAddress(v6High: 0, low: 1)])
    func connectBringsASocket(on kind: DriverKind, to ip: IPAddress) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening(on: ip)
        let completion = try harness.result(.connect(), .connect(to: listener.address, from: nil))
        let connected = try Loopback(descriptor: completion.result)
        #expect(!completion.hasMore)
        #expect(harness.driver.peerAddress(of: connected.socket) == listener.address)
        #expect(harness.driver.localAddress(of: connected.socket) == connected.address)
        // U-17
        #expect(kind == .epoll || fcntl(connected.descriptor, F_GETFL) & O_NONBLOCK == 0)
        #expect(fcntl(connected.descriptor, F_GETFD) & FD_CLOEXEC != 0)
        let accepted = try listener.accept()
        accepted.send([1, 2, 3])
        #expect(connected.receive() == .bytes([1, 2, 3]))
    }

    /// Linux 6.6 has no IORING_OP_URING_CMD for sockets.
    @Test(arguments: DriverKind.here, [KernelRelease.current(), KernelRelease(release: "6.6.99", version: "")])
    func firstSendCarriesTheLastAcknowledgementOfTheHandshake(on kind: DriverKind, kernel: KernelRelease) throws {
        let harness = try DriverHarness(kind, kernel: kernel)
        let listener = try Loopback.listening()
        // Whoever is kept from its core for longer than the kernel waits sees one more.
        let counts = try (0..<10).map { _ in
            let completion = try harness.result(
                .connect(), .connect(to: listener.address, from: nil, sendsFirst: true))
            let connected = try Loopback(descriptor: completion.result)
            #expect(try harness.result(.send(), .send(connected.socket, harness.payload([1]))).result == 1)
            let accepted = try listener.accept()
            #expect(accepted.receive() == .bytes([1]))
            defer { harness.close(connected) }
            return accepted.segmentsIn
        }
        // SYN and the byte.
        #expect(counts.min() == 2)
    }

    @Test(arguments: DriverKind.here) func refusalIsReported(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let deaf = try Loopback.bound()
        let completion = try harness.result(.connect(), .connect(to: deaf.address, from: nil))
        #expect(completion.result == -ECONNREFUSED)
        #expect(!completion.hasMore)
    }

    @Test(arguments: DriverKind.here) func sourceAddressIsBound(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening()
        let source = IPAddress(v4: 0x7f00_0003)
        let completion = try harness.result(.connect(), .connect(to: listener.address, from: source))
        let connected = try Loopback(descriptor: completion.result)
        let accepted = try listener.accept()
        #expect(connected.address.ip == source)
        #expect(harness.driver.peerAddress(of: accepted.socket) == connected.address)
    }

    @Test(arguments: DriverKind.here) func foreignSourceAddressIsRefusedAtOnce(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening()
        // 203.0.113.0/24 is for documentation: nobody has it.
        harness.ask(.connect(), .connect(to: listener.address, from: IPAddress(v4: 0xcb00_7101)))
        // Known while it is prepared, so not even a far deadline delays it.
        harness.turn(until: .distantFuture)
        #expect(try harness.completion(of: .connect()).result == -EADDRNOTAVAIL)
    }

    /// S0-5: a source may be bound to an interface.
    @Test(arguments: DriverKind.here) func interfaceIsBound(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening()
        let loopback = unsafe Int32(if_nametoindex("lo"))
        let completion = try harness.result(
            .connect(),
            .connect(to: listener.address, from: .loopback, through: Outlet(interface: loopback, mark: 0)))
        let connected = try Loopback(descriptor: completion.result)
        #expect(connected.option(SO_BINDTOIFINDEX) == loopback)
    }

    /// S0-5: none of its packets leaves through another.
    @Test(arguments: DriverKind.here, [-1, 1_000_000]) func anInterfaceThatIsNotThereIsAnError(
        on kind: DriverKind, interface: Int32
    ) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening()
        let outlet = Outlet(interface: interface, mark: 0)
        let completion = try harness.result(.connect(), .connect(to: listener.address, from: nil, through: outlet))
        #expect(completion.result == -ENODEV)
    }

    /// S0-5. Who may not set marks hears so.
    @Test(arguments: DriverKind.here) func markIsSet(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening()
        let trial = try Loopback.bound().setOption(SO_MARK, 16)
        let completion = try harness.result(
            .connect(), .connect(to: listener.address, from: nil, through: Outlet(interface: 0, mark: 16)))
        guard trial == 0 else {
            #expect(completion.result == -trial)
            return
        }
        #expect(try Loopback(descriptor: completion.result).option(SO_MARK) == 16)
    }

    @Test(arguments: DriverKind.here) func keepaliveIsSetWhereItIsAskedFor(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening()
        func options(_ keepalive: Keepalive) throws -> [Int32?] {
            let completion = try harness.result(
                .connect(), .connect(to: listener.address, from: nil, keepalive: keepalive))
            let connected = try Loopback(descriptor: completion.result)
            defer { harness.close(connected) }
            let times = [TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT].map {
                connected.option($0, at: Int32(IPPROTO_TCP))
            }
            return [connected.option(SO_KEEPALIVE)] + times
        }
        #expect(try options(Keepalive(idle: 60, interval: 10, probes: 3)) == [1, 60, 10, 3])
        #expect(try options(.off)[0] == 0)
    }

    @Test(arguments: DriverKind.here) func aConnectionThatNobodyLedHereWasMeantForThisEnd(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening()
        _ = try harness.result(.connect(), .connect(to: listener.address, from: nil))
        let accepted = try listener.accept()
        #expect(harness.driver.originalDestination(of: accepted.socket) == listener.address)
    }

    /// S0-5: towards two destinations one source address may have the same port, so a bind must not take one for all.
    @Test(arguments: DriverKind.here) func aBoundSourceChoosesItsPortAtTheConnect(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let listener = try Loopback.listening()
        let completion = try harness.result(.connect(), .connect(to: listener.address, from: .loopback))
        let connected = try Loopback(descriptor: completion.result)
        #expect(connected.option(IP_BIND_ADDRESS_NO_PORT, at: Int32(IPPROTO_IP)) == 1)
    }

    @Test(arguments: DriverKind.here) func pendingConnectIsCancelled(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let busy = try BusyListener()
        harness.ask(.connect(), .connect(to: busy.listener.address, from: nil))
        harness.turn()
        #expect(harness.arrived.isEmpty)
        harness.ask(.cancelConnect(.connect()))
        #expect(try harness.completion(of: .connect()).result == -ECANCELED)
    }

    @Test(arguments: DriverKind.here) func twoConnectsOfOneSlotAreKeptApart(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let busy = try BusyListener()
        let listener = try Loopback.listening()
        let second = Token(kind: 1, index: 0, generation: 1)
        harness.ask(.connect(), .connect(to: busy.listener.address, from: nil))
        harness.ask(second, .connect(to: listener.address, from: nil))
        let won = try Loopback(descriptor: try harness.completion(of: second).result)
        #expect(harness.driver.peerAddress(of: won.socket) == listener.address)
        harness.ask(.cancelConnect(.connect()))
        #expect(try harness.completion(of: .connect()).result == -ECANCELED)
    }

    /// U-10: whichever wins, the connect completes once, and no descriptor is left.
    @Test(arguments: DriverKind.here) func connectAndCancelRaceLeaksNothing(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            let harness = try DriverHarness(kind)
            let listener = try Loopback.listening(backlog: 1024)
            harness.turn()
            let before = Holdings().sockets
            for round in 0..<300 {
                harness.ask(.connect(), .connect(to: listener.address, from: nil))
                // In the same batch, right after it was handed over, and after it had a chance.
                if round % 3 > 0 { harness.turn() }
                if round % 3 > 1 { harness.turn() }
                harness.ask(.cancelConnect(.connect()))
                let completion = try harness.completion(of: .connect())
                #expect(completion.result >= 0 || completion.result == -ECANCELED)
                if completion.result >= 0 { harness.ask(.close(Socket(rawValue: completion.result))) }
                harness.turn()
                #expect(harness.arrived.isEmpty)
            }
            #expect(Holdings().sockets == before)
        }
    }

    @Test(arguments: DriverKind.here) func descriptorShortageIsReported(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            _ = await Holdings.settled()
            let harness = try DriverHarness(kind)
            let listener = try Loopback.listening()
            harness.turn()
            harness.ask(.connect(), .connect(to: listener.address, from: nil))
            withoutFreeDescriptors { harness.turn() }
            #expect(try harness.completion(of: .connect()).result == -EMFILE)
            let completion = try harness.result(.connect(), .connect(to: listener.address, from: nil))
            #expect(completion.result >= 0)
        }
    }

    /// The kernel reads an address when it takes the entry; a batch beyond the queue must not overwrite it before.
    @Test(arguments: DriverKind.here) func manyConnectsInOneBatchGoWhereTheyWereSent(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind, submissionCount: 4)
        let listeners = try (0..<20).map { _ in try Loopback.listening() }
        for (index, listener) in listeners.enumerated() {
            harness.ask(.connect(UInt32(index)), .connect(to: listener.address, from: nil))
        }
        for (index, listener) in listeners.enumerated() {
            let connected = try Loopback(descriptor: try harness.completion(of: .connect(UInt32(index))).result)
            #expect(harness.driver.peerAddress(of: connected.socket) == listener.address)
        }
    }
}
