import WeirEngine
import WeirIO
import WeirMemory
import WeirSession

/// The books of one worker, balanced after each of its turns: what its sessions say they hold and have in flight is what
/// the pool and the simulated kernel say is out, each thing once.
final class SimulatedLedger {
    /// A client that is counted against a limit.
    struct Counted: Hashable {
        let listener: Int
        let high: UInt64
        let low: UInt64
    }

    private let worker: SimulatedWorker
    var fail: (String) -> Void = { _ in }

    /// Of the worker's last turn.
    private(set) var sessions: [SessionAccount] = []
    /// Live sessions by listener slot, and by client where they are counted.
    private(set) var liveByListener: [Int: Int] = [:]
    private(set) var liveByClient: [Counted: Int] = [:]
    /// Since when the tenant of a slot has been closing.
    private var closingSince: [(generation: UInt32, since: UInt64)]

    // The number of the turn in which each was last found with an owner.
    private var turn: UInt32 = 0
    private var bufferTurn: [UInt32]
    private var socketTurn: [UInt32] = []
    /// The account of each slot; valid where its turn is this one.
    private var place: [(turn: UInt32, index: Int)]

    init(_ worker: SimulatedWorker) {
        self.worker = worker
        bufferTurn = Array(repeating: 0, count: worker.pool.largeCount + worker.pool.blockCount)
        place = []
        closingSince = []
    }

    func balance() {
        turn += 1
        sessions.removeAll(keepingCapacity: true)
        worker.worker.forEachSession { sessions.append($0) }
        liveByListener.removeAll(keepingCapacity: true)
        liveByClient.removeAll(keepingCapacity: true)
        for (index, session) in sessions.enumerated() {
            while place.count <= session.slot { place.append((0, 0)) }
            place[session.slot] = (turn, index)
            liveByListener[session.listenerSlot, default: 0] += 1
            if let client = session.countedClient {
                let counted = Counted(listener: session.listenerSlot, high: client.high, low: client.low)
                liveByClient[counted, default: 0] += 1
            }
        }
        balanceBuffers()
        balanceSockets()
        balanceOperations()
    }

    // MARK: Buffers

    private func balanceBuffers() {
        var ownedCount = 0
        for buffer in worker.driver.offeredBuffers {
            ownedCount += 1
            own(buffer) { "the ring" }
        }
        for session in sessions {
            let machine = session.machine
            for (side, head) in [(Side.downstream, session.toDownstream), (Side.upstream, session.toUpstream)] {
                var count = 0
                var buffer = head
                while buffer != BufferPool.none && count <= worker.pool.chunks.count {
                    count += 1
                    own(buffer) { "the queue of \(session.slot) towards its \(side)" }
                    buffer = worker.pool.chunks[Int(buffer)].next
                }
                ownedCount += count
                if count != Int(machine[side].queuedCount) {
                    fail("session \(session.slot) has \(count) chunks towards its \(side), and counts otherwise")
                }
            }
        }
        for session in sessions {
            var buffer = session.sent
            while buffer != BufferPool.none && ownedCount <= worker.pool.chunks.count {
                ownedCount += 1
                own(buffer) { "what \(session.slot) has sent" }
                buffer = worker.pool.chunks[Int(buffer)].next
            }
        }
        if ownedCount != worker.pool.outstandingCount {
            fail("\(worker.pool.outstandingCount) buffers are out and \(ownedCount) have an owner")
        }
    }

    private func own(_ buffer: UInt32, _ owner: () -> String) {
        if worker.pool.chunks[Int(buffer)].isFree { fail("buffer \(buffer) in \(owner()) is free") }
        if bufferTurn[Int(buffer)] == turn { fail("buffer \(buffer) in \(owner()) has another owner") }
        bufferTurn[Int(buffer)] = turn
    }

    // MARK: Descriptors

    private func balanceSockets() {
        var ownedCount = 0
        for session in sessions {
            ownedCount += own(session.downstream)
            if !session.upstream.isNone { ownedCount += own(session.upstream) }
        }
        for operation in worker.worker.pendingOperations {
            switch operation.action {
            case .close(let socket), .reset(let socket):
                if worker.driver.openConnection(socket) != nil { ownedCount += own(socket) }
            default: break
            }
        }
        if ownedCount != worker.driver.connectionCount {
            fail("\(worker.driver.connectionCount) connections are open and \(ownedCount) have an owner")
        }
    }

    private func own(_ socket: Socket) -> Int {
        guard worker.driver.openConnection(socket) != nil else {
            fail("\(socket) is held and is no open connection")
            return 0
        }
        let index = Int(socket.rawValue)
        while socketTurn.count <= index { socketTurn.append(0) }
        if socketTurn[index] == turn { fail("\(socket) has two owners") }
        socketTurn[index] = turn
        return 1
    }

    // MARK: Operations

    private func balanceOperations() {
        var expectedCount = worker.worker.acceptingCount
        for session in sessions { expectedCount += session.machine.operationCount }
        var count = 0
        for (_, operation) in worker.driver.inFlight {
            count += 1
            if !isExpected(operation) { fail("\(operation.token.story) is in flight and nobody's") }
        }
        for operation in worker.worker.pendingOperations where operation.token != .silent { count += 1 }
        if count != expectedCount { fail("\(count) operations are in flight and \(expectedCount) are waited for") }
    }

    private func account(_ token: Token) -> SessionAccount? {
        let slot = Int(token.index)
        guard slot < place.count, place[slot].turn == turn else { return nil }
        let session = sessions[place[slot].index]
        return session.generation == token.generation ? session : nil
    }

    private func isExpected(_ operation: SimulatedOperation) -> Bool {
        if case .accept = operation.kind { return worker.worker.isAccepting(Int(operation.token.index)) }
        // A freed slot, or its next tenant, has nothing in flight.
        guard let session = account(operation.token) else { return false }
        let side: Side = operation.token.kind % 2 == 0 ? .downstream : .upstream
        let half = session.machine[side]
        let socket = side == .downstream ? session.downstream : session.upstream
        switch operation.kind {
        case .accept: return true
        case .connect: return session.machine.isConnecting(operation.token.kind == 0 ? .first : .second)
        case .receive(let connection, _): return half.isReceiving && connection.socket == socket
        case .watch(let connection): return half.isWatching && connection.socket == socket
        case .send(let connection, let payload):
            let head = side == .downstream ? session.toDownstream : session.toUpstream
            return half.isSending && connection.socket == socket && payload.buffer == head
        case .pump(let source, let destination):
            let other = side == .downstream ? session.upstream : session.downstream
            return half.isPumping && source.socket == socket && destination.socket == other
        }
    }

    // MARK: Counters

    private var acceptedCount: UInt64 = 0
    private var closedCount: UInt64 = 0

    /// Whether any connection was accepted or session closed since it was last asked.
    func hasChanged(_ accepted: UInt64, _ closed: UInt64) -> Bool {
        if accepted == acceptedCount && closed == closedCount { return false }
        acceptedCount = accepted
        closedCount = closed
        return true
    }

    // MARK: Time

    /// For how long the tenant of its slot has been closing.
    func closingTime(_ session: SessionAccount, now: UInt64) -> UInt64 {
        while closingSince.count <= session.slot { closingSince.append((.max, 0)) }
        if closingSince[session.slot].generation != session.generation {
            closingSince[session.slot] = (session.generation, now)
        }
        return now - closingSince[session.slot].since
    }
}
