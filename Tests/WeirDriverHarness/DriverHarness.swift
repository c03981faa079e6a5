import Glibc
import WeirEpoll
import WeirIO
import WeirMemory
import WeirNet
import WeirSockets
import WeirUring

/// Whether this machine lets us make a ring; where it does not, what needs one is skipped.
package let ringWorks = UringProbe.run().isUsable

/// Which driver a test runs on.
package enum DriverKind: String, Codable, CaseIterable, Sendable {
    case uring
    case epoll

    /// Those that this machine lets us make.
    package static let here = allCases.filter { $0 != .uring || ringWorks }
}

/// What a driver's pumps move bytes in.
package enum PumpCarriers: Sendable, CaseIterable {
    case none
    case pipes
    /// Filled and drained by the ring; on epoll as `pipes`.
    case pipesOfTheRing
    case buffers

    /// `Loopback` makes blocking sockets.
    func pool() -> CarrierPool {
        switch self {
        case .none: CarrierPool()
        case .pipes, .pipesOfTheRing:
            CarrierPool(pipeBudget: 1 << 23, pipeCountMax: 4, bufferCountMax: 0, areSocketsBlocking: true)
        case .buffers:
            CarrierPool(pipeBudget: 0, pipeCountMax: 0, bufferCountMax: 4, areSocketsBlocking: true)
        }
    }
}

/// A driver the way a worker uses it, one step at a time.
package final class DriverHarness {
    package struct NoCompletion: Error { let token: Token }

    /// A wait longer than this is a failure. Beside all other tests a driver may get no turn for half a minute.
    package static let patience: UInt64 = 120_000_000_000

    package let pool: BufferPool
    package let driver: any Driver
    package let carriers: CarrierPool
    /// For the next turn.
    package var operations: [Operation] = []
    /// What has come and has not been asked for.
    package private(set) var arrived: [Completion] = []

    /// The last three are a ring's.
    package init(
        _ kind: DriverKind, largeCount: Int = 32, bufferRingCount: Int = 8, submissionCount: UInt32 = 64,
        kernel: KernelRelease = .current(), carriers: PumpCarriers = .none
    ) throws {
        pool = BufferPool(largeCount: largeCount, blockCount: 1)
        let method: SpliceMethod = carriers == .pipesOfTheRing ? .ring : .direct
        let carriers = carriers.pool()
        self.carriers = carriers
        switch kind {
        case .uring:
            driver = try UringDriver(
                pool: pool, slotCount: 64, completionCount: 0, bufferRingCount: bufferRingCount,
                submissionCount: submissionCount, kernel: kernel, carriers: carriers,
                spliceMethod: method)
        case .epoll:
            driver = try EpollDriver(pool: pool, slotCount: 64, carriers: carriers)
        }
    }

    package func ask(_ token: Token, _ action: Operation.Action) { operations.append(Operation(token, action)) }

    package func ask(_ action: Operation.Action) { operations.append(Operation(.silent, action)) }

    /// Hands everything over and takes what is there at once.
    package func turn() { turn(until: driver.now()) }

    @discardableResult
    package func turn(until deadline: Instant) -> Instant { driver.turn(&operations, into: &arrived, until: deadline) }

    /// The next completion of `token`, as soon as there is one.
    package func completion(of token: Token) throws -> Completion {
        let limit = driver.now().advanced(byNanoseconds: Self.patience)
        var now = driver.now()
        repeat {
            if let index = arrived.firstIndex(where: { $0.token == token }) { return arrived.remove(at: index) }
            now = turn(until: limit)
        } while now < limit
        throw NoCompletion(token: token)
    }

    /// All that has come and has not been asked for.
    package func takeArrived() -> [Completion] {
        defer { arrived.removeAll() }
        return arrived
    }

    /// Closes what the driver knows: a number closed behind its back may come to it again.
    package func close(_ connection: Loopback) {
        ask(.close(connection.relinquish()))
        turn()
    }

    /// What `action` becomes.
    package func result(_ token: Token, _ action: Operation.Action) throws -> Completion {
        ask(token, action)
        return try completion(of: token)
    }

    /// The bytes of a receive, whose buffer goes back.
    package func take(_ completion: Completion) -> [UInt8] {
        guard completion.buffer != BufferPool.none else { return [] }
        defer { pool.release(completion.buffer) }
        return bytes(of: completion.buffer)
    }

    package func bytes(of buffer: UInt32) -> [UInt8] {
        let chunk = pool.chunks[Int(buffer)]
        return pool.withBytes(of: buffer, Int(chunk.begin)..<Int(chunk.end)) { span in span.indices.map { span[$0] } }
    }

    /// A buffer of the pool with `bytes` in it.
    package func payload(_ bytes: [UInt8], more: Bool = false) -> Payload {
        let buffer = pool.takeLarge()!
        pool.append(to: buffer) { room in
            for index in bytes.indices { room[index] = bytes[index] }
            return bytes.count
        }
        return Payload(buffer: buffer, offset: 0, byteCount: UInt32(bytes.count), more: more)
    }

    /// One of everything in flight, on connections that the caller holds. `busy` lets no connect come to its end.
    package func keepBusy(_ listener: Loopback, _ busy: Loopback) throws -> [Loopback] {
        let receiving = try Loopback.pair()
        let single = try Loopback.pair()
        let sending = try Loopback.pair(bufferByteCount: 4608)
        ask(.accept(), .accept(listener.socket))
        ask(.connect(), .connect(to: busy.address, from: nil))
        ask(.receive(0), .receive(receiving.near.socket, isContinuing: true))
        ask(.receive(1), .receive(single.near.socket, isContinuing: false))
        ask(.watch(0), .watch(receiving.near.socket))
        turn()
        // Nobody reads, so one of them stays.
        for index in UInt32(0)..<20 {
            let bytes = [UInt8](repeating: 9, count: BufferPool.largeByteCount)
            ask(.send(index), .send(sending.near.socket, payload(bytes)))
            turn()
            if arrived.count <= index { break }
        }
        return [receiving.near, receiving.far, single.near, single.far, sending.near, sending.far]
    }

    /// Buffers that neither the pool nor the driver's ring has.
    package var heldBufferCount: Int { pool.outstandingCount - driver.figures.offeredBufferCount }
}

/// Tokens like the engine's.
extension Token {
    package static func connect(_ index: UInt32 = 0) -> Token { Token(kind: 0, index: index, generation: 1) }
    package static func receive(_ index: UInt32 = 0) -> Token { Token(kind: 2, index: index, generation: 1) }
    package static func send(_ index: UInt32 = 0) -> Token { Token(kind: 4, index: index, generation: 1) }
    package static func watch(_ index: UInt32 = 0) -> Token { Token(kind: 6, index: index, generation: 1) }
    package static func pump(_ index: UInt32 = 0) -> Token { Token(kind: 10, index: index, generation: 1) }
    package static func accept(_ index: UInt32 = 0) -> Token { Token(kind: 8, index: index, generation: 1) }
}
