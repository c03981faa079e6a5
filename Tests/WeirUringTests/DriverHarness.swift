import Glibc
import WeirIO
import WeirMemory
import WeirNet
import WeirUring

/// Whether this machine lets us make a ring; where it does not, what needs one is skipped.
let ringWorks = UringProbe.run().isUsable

/// A driver the way a worker uses it, one step at a time.
final class DriverHarness {
    struct NoCompletion: Error { let token: Token }

    /// A wait longer than this is a failure.
    static let patience: UInt64 = 5_000_000_000

    let pool: BufferPool
    let driver: UringDriver
    /// For the next turn.
    var operations: [Operation] = []
    /// What has come and has not been asked for.
    private(set) var arrived: [Completion] = []

    init(
        largeCount: Int = 32, bufferRingCount: Int = 8, submissionCount: UInt32 = 64,
        kernel: KernelRelease = .current()
    ) throws {
        pool = BufferPool(largeCount: largeCount, blockCount: 1)
        driver = try UringDriver(
            pool: pool, slotCount: 64, completionCount: 0, bufferRingCount: bufferRingCount,
            submissionCount: submissionCount, kernel: kernel)
    }

    func ask(_ token: Token, _ action: Operation.Action) { operations.append(Operation(token, action)) }

    func ask(_ action: Operation.Action) { operations.append(Operation(.silent, action)) }

    /// Hands everything over and takes what is there at once.
    func turn() { turn(until: driver.now()) }

    @discardableResult
    func turn(until deadline: Instant) -> Instant { driver.turn(&operations, into: &arrived, until: deadline) }

    /// The next completion of `token`, as soon as there is one.
    func completion(of token: Token) throws -> Completion {
        let limit = driver.now().advanced(byNanoseconds: Self.patience)
        var now = driver.now()
        repeat {
            if let index = arrived.firstIndex(where: { $0.token == token }) { return arrived.remove(at: index) }
            now = turn(until: limit)
        } while now < limit
        throw NoCompletion(token: token)
    }

    /// What `action` becomes.
    func result(_ token: Token, _ action: Operation.Action) throws -> Completion {
        ask(token, action)
        return try completion(of: token)
    }

    /// The bytes of a receive, whose buffer goes back.
    func take(_ completion: Completion) -> [UInt8] {
        guard completion.buffer != BufferPool.none else { return [] }
        defer { pool.release(completion.buffer) }
        return bytes(of: completion.buffer)
    }

    func bytes(of buffer: UInt32) -> [UInt8] {
        let chunk = pool.chunks[Int(buffer)]
        return pool.withBytes(of: buffer, Int(chunk.begin)..<Int(chunk.end)) { span in span.indices.map { span[$0] } }
    }

    /// A buffer of the pool with `bytes` in it.
    func payload(_ bytes: [UInt8], more: Bool = false) -> Payload {
        let buffer = pool.takeLarge()!
        pool.append(to: buffer) { room in
            for index in bytes.indices { room[index] = bytes[index] }
            return bytes.count
        }
        return Payload(buffer: buffer, offset: 0, byteCount: UInt32(bytes.count), more: more)
    }

    /// Buffers that neither the pool nor the driver's ring has.
    var heldBufferCount: Int { pool.outstandingCount - driver.figures.offeredBufferCount }
}

/// Tokens like the engine's.
extension Token {
    static func connect(_ index: UInt32 = 0) -> Token { Token(kind: 0, index: index, generation: 1) }
    static func receive(_ index: UInt32 = 0) -> Token { Token(kind: 2, index: index, generation: 1) }
    static func send(_ index: UInt32 = 0) -> Token { Token(kind: 4, index: index, generation: 1) }
    static func watch(_ index: UInt32 = 0) -> Token { Token(kind: 6, index: index, generation: 1) }
    static func accept(_ index: UInt32 = 0) -> Token { Token(kind: 8, index: index, generation: 1) }
}
