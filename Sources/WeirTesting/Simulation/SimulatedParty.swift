import WeirNet

/// The script of one far end: what it writes, how fast it writes and reads, and how it leaves.
final class SimulatedParty {
    enum Ending {
        /// FIN once all is written.
        case afterWriting
        /// FIN once all is written and the other side's FIN was read.
        case afterReadingEnd
        /// It stays for as long as it is let.
        case never
    }

    struct Pace {
        var writeByteCount = Int.max
        var writePause: UInt64 = 0
        var readByteCount = Int.max
        var readPause: UInt64 = 0
    }

    let connection: SimulatedConnection
    /// The kernel of the worker at the other end.
    let driver: SimulatedDriver
    /// All it will ever write; the first `preambleCount` bytes in pieces of `preamblePiece`.
    let outgoing: [UInt8]
    var preambleCount = 0
    var preamblePiece = Int.max
    var pace = Pace()
    var ending = Ending.afterWriting
    /// RST once so many bytes are written.
    var resetAfter: Int?
    /// It vanishes instead.
    var vanishes = false
    /// Writes no more than so many.
    var outgoingLimit = Int.max
    /// Reads no more once it has read so many.
    var readsAtMost = Int.max
    private var writtenCount = 0
    /// The world is to call it.
    var isCalled = false
    private var nextWrite = Instant(nanoseconds: 0)
    private var nextRead = Instant(nanoseconds: 0)

    init(_ connection: SimulatedConnection, _ driver: SimulatedDriver, _ outgoing: [UInt8]) {
        self.connection = connection
        self.driver = driver
        self.outgoing = outgoing
        connection.readsAtOnce = false
    }

    /// Does all that it set out to do and leaves with FIN, whatever the other side does.
    var isHealthy: Bool { resetAfter == nil && readsAtMost == .max && ending != .never && outgoingLimit == .max }

    /// Reads and writes what is due; answers when it wants to go on, nil: when something changes.
    func act() -> Instant? {
        guard !connection.hasFarReset, connection.sawResetAt == nil else { return nil }
        let now = driver.now()
        var next: Instant?
        func callAgain(_ moment: Instant) { next = min(next ?? moment, moment) }

        let readable = min(connection.unconsumedCount, readsAtMost - connection.consumedCount)
        if readable > 0 {
            if nextRead <= now {
                let count = min(readable, pace.readByteCount)
                driver.consume(count, on: connection)
                nextRead = now.advanced(byNanoseconds: pace.readPause)
                if count < readable { callAgain(nextRead) }
            } else {
                callAgain(nextRead)
            }
        }
        if connection.hasFarEnded { return next }
        if let resetAfter, writtenCount >= min(resetAfter, outgoing.count) {
            if vanishes { driver.vanish(connection) } else { driver.abort(connection) }
            return nil
        }
        if writtenCount < min(outgoing.count, outgoingLimit) {
            if nextWrite <= now {
                write()
                nextWrite = now.advanced(byNanoseconds: pace.writePause)
                let isLeaving = resetAfter.map { writtenCount >= min($0, outgoing.count) } ?? false
                if isLeaving || (writtenCount < outgoing.count && connection.sendRoom > 0) { callAgain(nextWrite) }
            } else {
                callAgain(nextWrite)
            }
        }
        if writtenCount == outgoing.count && resetAfter == nil { endIfDue() }
        return next
    }

    private func write() {
        var count = min(connection.sendRoom, min(outgoing.count, outgoingLimit) - writtenCount)
        if writtenCount < preambleCount {
            count = min(count, preamblePiece, preambleCount - writtenCount)
        } else {
            count = min(count, pace.writeByteCount)
        }
        if let resetAfter { count = min(count, resetAfter - writtenCount) }
        guard count > 0 else { return }
        driver.write(outgoing[writtenCount..<writtenCount + count], on: connection)
        writtenCount += count
    }

    private func endIfDue() {
        switch ending {
        case .afterWriting: driver.shutDown(connection)
        case .afterReadingEnd: if connection.hasReadEnd { driver.shutDown(connection) }
        case .never: break
        }
    }
}

/// What far ends say: bytes that depend on who says them and on their place, so that one that is lost, repeated or
/// somebody else's shows at once.
enum SimulatedContent {
    private static let byteCount = 1 << 20

    private static let table: [UInt8] = {
        var random = SimulatedRandom(seed: 0x636f_6e74_656e_74)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(byteCount)
        while bytes.count < byteCount {
            let word = random.next()
            for shift in stride(from: UInt64(0), to: 64, by: 8) {
                bytes.append(UInt8(truncatingIfNeeded: word >> shift))
            }
        }
        return bytes
    }()

    /// Up to half a mebibyte that belong to `owner` alone.
    static func bytes(of owner: UInt64, count: Int) -> ArraySlice<UInt8> {
        precondition(count <= byteCount / 2)
        var random = SimulatedRandom(seed: owner)
        let start = random.below(byteCount / 2)
        return table[start..<start + count]
    }

    /// The first bytes of an upstream: who it is.
    static let tagByteCount = 5

    static func tag(_ number: Int) -> [UInt8] {
        [UInt8(ascii: "U")] + (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }

    static func number(inTag tag: ArraySlice<UInt8>) -> Int? {
        guard tag.count == tagByteCount, tag.first == UInt8(ascii: "U") else { return nil }
        return tag.dropFirst().reversed().reduce(0) { $0 << 8 | Int($1) }
    }
}
