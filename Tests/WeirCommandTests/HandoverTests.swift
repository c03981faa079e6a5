import Glibc
import Testing
import Weir
import WeirCommand

@Suite struct HandoverTests {
    private static let messages: [HandoverMessage] = [
        .version(1), .listener(key: "0.0.0.0:443", isLent: false), .listener(key: "name [::1]:0", isLent: true), .admin,
        .end, .unused(key: "a name 127.0.0.1:0"), .ready,
    ]

    @Test(arguments: messages)
    func aMessageIsReadAsItWasWritten(message: HandoverMessage) {
        #expect(HandoverMessage(message.text) == message)
    }

    @Test(arguments: [
        "", "weir", "weir one", "listener", "listener own", "listener borrowed a", "admin x", "unused", "go",
    ])
    func whatIsNoMessageIsNotRead(text: String) {
        #expect(HandoverMessage(text) == nil)
    }

    private static func listening() throws -> CInt {
        try ExclusiveSocket(listeningOn: SocketAddress("127.0.0.1:0")!).descriptor
    }

    @Test func theNextProcessGetsTheSocketsUnderTheirKeys() throws {
        let (here, there) = try HandoverChannel.pair()
        let sockets = try [Self.listening(), Self.listening(), Self.listening()]
        #expect(here.send(.version(1)) == 0)
        #expect(here.send(.listener(key: "a", isLent: false), Array(sockets[..<2])) == 0)
        #expect(here.send(.listener(key: "b", isLent: true), [sockets[2]]) == 0)
        #expect(here.send(.admin, [sockets[0]]) == 0)
        #expect(here.send(.end) == 0)
        let predecessor = try Predecessor(there)
        #expect(
            predecessor.sockets.map(\.maker) == [
                .predecessor(key: "a"), .predecessor(key: "a"), .handedOn(key: "b"),
            ])
        let admin = try #require(predecessor.admin)
        #expect(admin.address == predecessor.sockets[0].address)
        #expect(predecessor.adminSocket(for: admin.address) != nil)
        predecessor.takeLeave(unused: ["b"])
        #expect(try here.receive().message == .unused(key: "b"))
        #expect(try here.receive().message == .ready)
        #expect(throws: HandoverChannel.Closed.self) { try here.receive() }
        for socket in sockets + predecessor.sockets.map(\.descriptor) + [admin.descriptor, here.descriptor] {
            #expect(close(socket) == 0)
        }
    }

    @Test func aProcessThatEndsInTheMiddleIsAFailure() throws {
        let (here, there) = try HandoverChannel.pair()
        _ = here.send(.version(1))
        here.close()
        #expect(throws: CommandFailure(.runTime, ["weir: the process before this one has gone"])) {
            try Predecessor(there)
        }
        there.close()
    }

    @Test(arguments: [HandoverMessage.version(2), .listener(key: "a", isLent: false), .ready])
    func anotherVersionIsAFailure(first: HandoverMessage) throws {
        let (here, there) = try HandoverChannel.pair()
        _ = here.send(first)
        _ = here.send(.end)
        #expect(throws: CommandFailure.self) { try Predecessor(there) }
        here.close()
        there.close()
    }

    @Test func aMessageMayBringAsManyDescriptorsAsThereIsRoomFor() throws {
        let (here, there) = try HandoverChannel.pair()
        let count = HandoverChannel.descriptorCountMax
        #expect(here.send(.admin, Array(repeating: here.descriptor, count: count)) == 0)
        #expect(here.send(.admin, Array(repeating: here.descriptor, count: count + 1)) == E2BIG)
        let arrival = try there.receive()
        #expect(arrival.descriptors.count == count)
        for descriptor in arrival.descriptors { close(descriptor) }
        here.close()
        there.close()
    }

    @Test func aChannelThatNobodyReadsDoesNotHoldItsWriterUp() throws {
        let (here, there) = try HandoverChannel.pair()
        var code: CInt = 0
        for _ in 0..<10_000 where code == 0 { code = here.send(.end) }
        #expect(code == EAGAIN)
        here.close()
        there.close()
    }
}

@Suite struct ProgramTests {
    @Test func anAbsolutePathIsKept() {
        #expect(Program.path(of: "/opt/weir/../bin/weir") == "/opt/weir/../bin/weir")
    }

    @Test func aRelativePathIsFromTheWorkingDirectory() {
        let path = Program.path(of: "./weir")
        #expect(path.hasPrefix("/") && path.hasSuffix("/./weir"))
    }

    @Test func aNameIsLookedForAsAShellDoes() {
        #expect(["/bin/sh", "/usr/bin/sh"].contains(Program.path(of: "sh")))
    }
}
