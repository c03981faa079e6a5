import Glibc
import Testing
import WeirDriverHarness
import WeirIO
import WeirMemory
import WeirSockets

/// A driver and what its pumps move bytes in.
struct PumpKind: Sendable, CustomTestStringConvertible {
    let driver: DriverKind
    let carriers: PumpCarriers

    var testDescription: String { "\(driver), \(carriers)" }

    static var here: [PumpKind] {
        DriverKind.here.flatMap { driver in
            PumpCarriers.allCases.filter { $0 != .none && (driver == .uring || $0 != .pipesOfTheRing) }
                .map { PumpKind(driver: driver, carriers: $0) }
        }
    }
}

@Suite struct PumpTests {
    /// From `source.far` through the pump to `destination.far`.
    private struct Line {
        let harness: DriverHarness
        let source: (near: Loopback, far: Loopback)
        let destination: (near: Loopback, far: Loopback)
        /// What the pump has said so far.
        var movedCount = 0
        var last: Completion?

        init(_ kind: PumpKind, bufferByteCount: Int32? = nil) throws {
            harness = try DriverHarness(kind.driver, carriers: kind.carriers)
            source = try Loopback.pair(bufferByteCount: bufferByteCount)
            destination = try Loopback.pair(bufferByteCount: bufferByteCount)
            harness.ask(.pump(), .pump(from: source.near.socket, to: destination.near.socket))
            harness.turn()
        }

        /// Takes what the pump says, until it is over (`last`) or has moved so many bytes.
        mutating func run(until byteCount: Int = .max) throws {
            while movedCount < byteCount && last == nil {
                let completion = try harness.completion(of: .pump())
                if completion.hasMore { movedCount += Int(completion.result) } else { last = completion }
            }
        }

        /// One turn, without waiting.
        mutating func pass() {
            harness.turn()
            for completion in harness.takeArrived() {
                if completion.hasMore { movedCount += Int(completion.result) } else { last = completion }
            }
        }

        /// Sends what there is room for while nobody reads at the far end, so that the pump has to wait for room. Returns
        /// how much that was.
        mutating func clog(_ text: [UInt8]) -> Int {
            var sentCount = 0
            var vainCount = 0
            while vainCount < 20 && sentCount < text.count {
                let count = max(source.far.sendNow(text[sentCount...]), 0)
                sentCount += count
                pass()
                if count == 0 { usleep(5000) }
                vainCount = count == 0 ? vainCount + 1 : 0
            }
            return sentCount
        }

        /// All that has come out at the far end, while the driver goes on; `count` bytes are there.
        func received(_ count: Int) -> [UInt8] {
            var bytes: [UInt8] = []
            while bytes.count < count {
                harness.turn()
                guard case .bytes(let more) = destination.far.receive() else { break }
                bytes += more
            }
            return bytes
        }
    }

    private static func text(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 / 7 + $0) } }

    /// RS-13
    @Test(arguments: PumpKind.here) func bytesArriveInOrderAndTheEndAfterThem(on kind: PumpKind) throws {
        var line = try Line(kind)
        let text = Self.text(100_000)
        line.source.far.send(text)
        line.source.far.end()
        try line.run()
        #expect(line.last?.result == 0)
        #expect(line.movedCount == text.count)
        #expect(line.received(text.count) == text)
        #expect(line.harness.carriers.takenCount == 0)
    }

    @Test(arguments: PumpKind.here) func pumpWaitsForBytesAndGoesOn(on kind: PumpKind) throws {
        var line = try Line(kind)
        for round in 1...5 {
            line.source.far.send(Self.text(1000))
            try line.run(until: round * 1000)
            #expect(line.received(1000) == Self.text(1000))
        }
        #expect(line.last == nil)
        line.harness.ask(.cancel(.pump()))
        try line.run()
        #expect(line.last?.result == -ECANCELED)
    }

    @Test(arguments: PumpKind.here) func pumpWaitsForRoomAndLosesNothing(on kind: PumpKind) throws {
        var line = try Line(kind, bufferByteCount: 4608)
        let text = Self.text(300_000)
        var sentCount = 0
        var received: [UInt8] = []
        var idleCount = 0
        while received.count < text.count && idleCount < 5000 {
            sentCount += max(line.source.far.sendNow(text[sentCount...]), 0)
            line.pass()
            let more = line.destination.far.receiveNow()
            received += more
            if more.isEmpty { usleep(1000) }
            idleCount = more.isEmpty ? idleCount + 1 : 0
        }
        #expect(received == text)
        line.source.far.end()
        try line.run()
        #expect(line.last?.result == 0)
        #expect(line.movedCount == text.count)
    }

    @Test(arguments: PumpKind.here) func stoppedPumpMovesWhatItHolds(on kind: PumpKind) throws {
        var line = try Line(kind, bufferByteCount: 4608)
        let text = Self.text(1 << 20)
        let sentCount = line.clog(text)
        line.harness.ask(.stopPump(.pump()))
        var received: [UInt8] = []
        while line.last == nil {
            line.pass()
            received += line.destination.far.receiveNow()
        }
        // What was moved may still be on its way.
        received += line.destination.far.receiveAll(line.movedCount - received.count)
        #expect(line.last?.result == -ECANCELED)
        #expect(line.harness.carriers.takenCount == 0)
        // What it has not taken is there for a receive.
        while received.count < sentCount {
            let completion = try line.harness.result(.receive(), .receive(line.source.near.socket, isContinuing: false))
            guard completion.result > 0 else { break }
            received += line.harness.take(completion)
        }
        #expect(received == Array(text[..<sentCount]))
    }

    @Test(arguments: PumpKind.here) func cancelledPumpGivesItsCarrierBack(on kind: PumpKind) throws {
        var line = try Line(kind, bufferByteCount: 4608)
        _ = line.clog(Self.text(1 << 20))
        line.harness.ask(.cancel(.pump()))
        try line.run()
        #expect(line.last?.result == -ECANCELED)
        #expect(line.harness.carriers.takenCount == 0)
    }

    /// RS-06
    @Test(arguments: PumpKind.here) func resetOfTheSourceEndsThePumpWhileItWaitsForRoom(on kind: PumpKind) throws {
        var line = try Line(kind, bufferByteCount: 4608)
        _ = line.clog(Self.text(1 << 20))
        line.source.far.reset()
        try line.run()
        #expect(line.last?.result == -ECONNRESET)
        #expect(line.last?.isOfDestination == false)
    }

    @Test(arguments: PumpKind.here) func resetOfTheSourceEndsThePumpThatWaitsForBytes(on kind: PumpKind) throws {
        var line = try Line(kind)
        line.source.far.reset()
        try line.run()
        #expect(line.last?.result == -ECONNRESET)
        #expect(line.last?.isOfDestination == false)
    }

    @Test(arguments: PumpKind.here) func resetOfTheDestinationIsToldAsItsOwn(on kind: PumpKind) throws {
        var line = try Line(kind)
        line.destination.far.reset()
        for _ in 0..<1000 where line.last == nil {
            line.source.far.send(Self.text(1000))
            line.pass()
        }
        #expect(line.last?.result == -ECONNRESET || line.last?.result == -EPIPE)
        #expect(line.last?.isOfDestination == true)
        #expect(line.harness.carriers.takenCount == 0)
    }

    /// RS-10: a pipe does not pass an urgent byte; a receive does.
    @Test(arguments: PumpKind.here) func anUrgentByteCutsNothingOff(on kind: PumpKind) throws {
        var line = try Line(kind)
        let text = Self.text(3000)
        line.source.far.send(Array(text[..<1000]))
        try line.run(until: 1000)
        line.source.far.sendUrgent(9)
        line.source.far.send(Array(text[1000...]))
        line.source.far.end()
        for _ in 0..<1000 where line.last == nil {
            line.pass()
            usleep(1000)
        }
        var received = line.received(line.movedCount)
        if line.last?.result == -ECANCELED {
            while true {
                let completion = try line.harness.result(
                    .receive(), .receive(line.source.near.socket, isContinuing: false))
                guard completion.result > 0 else { break }
                received += line.harness.take(completion)
            }
        }
        #expect(received == text[..<1000] + [9] + text[1000...])
    }

    /// RS-06: the kernel tells one of the two of the reset, and the other of an end. The engine hears of the reset first.
    @Test(arguments: PumpKind.here) func aResetThatAPumpWasToldOfIsNoEndForTheReceive(on kind: PumpKind) throws {
        for _ in 0..<30 {
            let line = try Line(kind)
            line.harness.ask(.receive(), .receive(line.destination.near.socket, isContinuing: false))
            line.harness.turn()
            _ = line.source.far.sendNow(Self.text(200_000)[...])
            line.destination.far.reset()
            _ = line.source.far.sendNow(Self.text(200_000)[...])
            var over: [Completion] = []
            while !over.contains(where: { $0.token == .receive() }) {
                line.harness.turn()
                over += line.harness.takeArrived().filter { !$0.hasMore }
            }
            #expect(over.first?.result == -ECONNRESET)
            var rest = line
            rest.last = over.first { $0.token == .pump() }
            line.harness.ask(.cancel(.pump()))
            try rest.run()
        }
    }

    @Test(arguments: PumpKind.here) func aPumpThatRestsGivesItsCarrierToTheNext(on kind: PumpKind) throws {
        let harness = try DriverHarness(kind.driver, carriers: kind.carriers)
        var pairs: [(near: Loopback, far: Loopback)] = []
        func start(_ number: UInt32) throws {
            let (from, to) = (try Loopback.pair(), try Loopback.pair())
            pairs += [from, to]
            harness.ask(.pump(number), .pump(from: from.near.socket, to: to.near.socket))
        }
        for number in 0..<4 { try start(UInt32(number)) }
        for _ in 0..<5 { harness.turn() }
        #expect(harness.takeArrived().isEmpty)
        try start(4)
        #expect(try harness.completion(of: .pump(4)).result == -ENOBUFS)
        for _ in 0..<5 { harness.turn() }
        let stopped = harness.takeArrived()
        #expect(stopped.map(\.result) == [-ECANCELED])
        try start(5)
        for _ in 0..<5 { harness.turn() }
        #expect(harness.takeArrived().isEmpty)
        #expect(harness.carriers.takenCount == 4)
        withExtendedLifetime(pairs) {}
    }

    @Test(arguments: DriverKind.here) func pumpWithoutACarrierSaysSo(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        let (otherNear, otherFar) = try Loopback.pair()
        #expect(try harness.result(.pump(), .pump(from: near.socket, to: otherNear.socket)).result == -ENOBUFS)
        withExtendedLifetime((far, otherFar)) {}
    }

    /// What the ring receives on a socket that a pump moves bytes to must not end with EAGAIN: the socket stays blocking.
    @Test(arguments: PumpKind.here) func theDestinationCanBeReceivedFromMeanwhile(on kind: PumpKind) throws {
        var line = try Line(kind)
        line.source.far.send(Self.text(50_000))
        try line.run(until: 50_000)
        line.harness.ask(.receive(), .receive(line.destination.near.socket, isContinuing: false))
        line.harness.turn()
        line.destination.far.send([1, 2, 3])
        let completion = try line.harness.completion(of: .receive())
        #expect(completion.result == 3)
        line.harness.pool.release(completion.buffer)
    }
}
