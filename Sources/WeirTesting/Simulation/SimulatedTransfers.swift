import Glibc
import WeirIO
import WeirMemory

// What sockets do once they are open: receiving, sending, watching, closing.

extension SimulatedDriver {
    // MARK: Receiving

    func receiveSoon(_ connection: SimulatedConnection) {
        if let operation = connection.receiving, case .pump = operation.kind {
            pumpSoon(operation)
            return
        }
        guard connection.receiving != nil, !connection.isReceiveDue else { return }
        connection.isReceiveDue = true
        schedule.add(.receive(connection), at: soon())
    }

    /// Goes as far as a receive can: one chunk, or an end, or nothing.
    func receive(_ connection: SimulatedConnection) {
        connection.isReceiveDue = false
        guard let operation = connection.receiving, case .receive(_, let isContinuing) = operation.kind else { return }
        let available = connection.arrivedCount - connection.readCount
        let isOver = connection.resetArrivedAt != nil || connection.endArrived
        let isRingEmpty = offeredHead == offered.count
        if isRingEmpty { tally.add(.emptyRing) }
        let isRefused = !isRingEmpty && available > 0 && random.chance(faults.noBuffer)
        if isRefused { tally.add(.refusedBuffer) }
        if isRingEmpty || isRefused {
            post(operation, -ENOBUFS)
            return
        }
        guard available > 0 || isOver else { return }
        if random.chance(faults.interrupted) {
            tally.add(.interrupted)
            post(operation, -EINTR)
            return
        }
        if random.chance(faults.noMemoryToReceive) {
            lackMemory(connection)
            post(operation, -ENOMEM)
            return
        }
        if available > 0 {
            deliver(connection, operation, available, isContinuing: isContinuing)
        } else if connection.pendingError != 0 {
            let code = connection.pendingError
            connection.pendingError = 0
            post(operation, -code)
        } else {
            connection.endReadAt = now()
            connection.movedAt = now()
            post(operation, 0)
        }
    }

    private func lackMemory(_ connection: SimulatedConnection) {
        tally.add(.outOfMemory)
        connection.hasLackedMemory = true
    }

    private func deliver(
        _ connection: SimulatedConnection, _ operation: SimulatedOperation, _ available: Int, isContinuing: Bool
    ) {
        guard let buffer = takeOffered() else { preconditionFailure("looked for before") }
        var count = min(available, BufferPool.largeByteCount)
        if random.chance(faults.shortReceive) { count = random.scaled(1, count) }
        if count < available { tally.add(.splitReceive) }
        let bytes = connection.readCount..<connection.readCount + count
        pool.append(to: buffer) { room in
            room.write(connection.sent, bytes)
            return count
        }
        connection.readCount += count
        connection.movedAt = now()
        let hasMore = isContinuing && !random.chance(faults.silentEnd)
        if isContinuing && !hasMore { tally.add(.endedReceive) }
        let endStandsBehind = count == available && connection.endArrived && connection.resetArrivedAt == nil
        let isBeforeEnd = random.chance(endStandsBehind ? 500 : faults.falseHint)
        if isBeforeEnd { tally.add(endStandsBehind ? .hintOfEnd : .falseHintOfEnd) }
        post(operation, Int32(count), buffer: buffer, hasMore: hasMore, isBeforeEnd: isBeforeEnd)
        world?.changed(connection)
        if hasMore { receiveSoon(connection) }
    }

    // MARK: Sending

    func check(_ payload: Payload) throws(BrokenRule) {
        let index = Int(payload.buffer)
        guard index < pool.chunks.count else { throw broken("a send from buffer \(index), which does not exist") }
        let chunk = pool.chunks[index]
        if chunk.isFree { throw broken("a send from buffer \(index), which is free") }
        if index < isOffered.count && isOffered[index] {
            throw broken("a send from buffer \(index), which stands in the ring")
        }
        if payload.byteCount == 0 { throw broken("a send of nothing") }
        if payload.offset < chunk.begin || payload.offset + payload.byteCount > chunk.end {
            throw broken("a send of \(payload) from outside its chunk \(chunk.begin)..<\(chunk.end)")
        }
    }

    func sendSoon(_ connection: SimulatedConnection) {
        if let operation = connection.sending, case .pump = operation.kind {
            pumpSoon(operation)
            return
        }
        guard connection.sending != nil, !connection.isSendDue else { return }
        connection.isSendDue = true
        schedule.add(.send(connection), at: soon())
    }

    /// Goes as far as a send can. As with MSG_WAITALL it waits until all is taken, unless something comes between.
    func send(_ connection: SimulatedConnection) {
        connection.isSendDue = false
        guard let operation = connection.sending, case .send(_, let payload) = operation.kind else { return }
        if connection.resetArrivedAt != nil {
            let code = connection.pendingError == 0 ? EPIPE : connection.pendingError
            if operation.sentCount > 0 {
                post(operation, Int32(operation.sentCount))
            } else {
                connection.pendingError = 0
                post(operation, -code)
            }
            return
        }
        if random.chance(faults.interrupted) {
            tally.add(.interrupted)
            post(operation, operation.sentCount > 0 ? Int32(operation.sentCount) : -EINTR)
            return
        }
        if operation.sentCount == 0 && random.chance(faults.noMemoryToSend) {
            lackMemory(connection)
            post(operation, random.chance(500) ? -ENOMEM : -ENOBUFS)
            return
        }
        let room = connection.outboundWindow - (connection.received.count - connection.consumedCount)
        let left = Int(payload.byteCount) - operation.sentCount
        var count = min(room, left)
        guard count > 0 else { return }
        let isShort = random.chance(faults.shortSend)
        if isShort { count = random.scaled(1, count) }
        take(connection, payload, from: operation.sentCount, count)
        operation.sentCount += count
        if operation.sentCount == Int(payload.byteCount) || isShort {
            if operation.sentCount < Int(payload.byteCount) { tally.add(.shortSend) }
            connection.movedAt = now()
            post(operation, Int32(operation.sentCount))
        }
    }

    func take(_ connection: SimulatedConnection, _ payload: Payload, from start: Int, _ count: Int) {
        // Until it is home the payload belongs to the kernel, which reads it again and again.
        do { try check(payload) } catch { return }
        let first = Int(payload.offset) + start
        let taken = first..<first + count
        pool.withBytes(of: payload.buffer, taken) { connection.received.append(copying: $0) }
        if connection.heldBackCount == 0 {
            connection.heldBackSince = clock
            connection.heldBackTurn = counts.enterCount
        }
        connection.heldBackCount += taken.count
        connection.mayHoldBack = payload.more
        // Linux pushes it where there is no room left, and else after a while.
        let isFull = connection.received.count - connection.consumedCount >= connection.outboundWindow
        if payload.more && !isFull {
            tally.add(.heldBack)
            schedule.add(.push(connection), at: clock + Self.holdBackTime)
        } else {
            push(connection)
        }
    }

    static let holdBackTime: UInt64 = 200_000_000

    /// Sends what was held back.
    func push(_ connection: SimulatedConnection) {
        guard connection.heldBackCount > 0 else { return }
        schedule.add(.outbound(connection, connection.heldBackCount), at: outboundArrival(connection))
        connection.heldBackCount = 0
    }

    func outboundArrival(_ connection: SimulatedConnection) -> UInt64 {
        connection.lastOutboundArrival = max(connection.lastOutboundArrival, clock + random.within(faults.latency))
        return connection.lastOutboundArrival
    }

    func inboundArrival(_ connection: SimulatedConnection) -> UInt64 {
        connection.lastInboundArrival = max(connection.lastInboundArrival, clock + random.within(faults.latency))
        return connection.lastInboundArrival
    }

    func sendEnd(_ connection: SimulatedConnection) {
        push(connection)
        schedule.add(.outboundEnd(connection), at: outboundArrival(connection))
    }

    /// What was held back is lost.
    func sendReset(_ connection: SimulatedConnection) {
        connection.heldBackCount = 0
        if connection.nearResetAt == nil { connection.nearResetAt = now() }
        schedule.add(.outboundReset(connection), at: outboundArrival(connection))
    }

    // MARK: Watching

    /// A watch is over when the connection was reset or has ended in both directions.
    func look(_ connection: SimulatedConnection) {
        guard let operation = connection.watching else { return }
        if connection.pendingError != 0 {
            // Linux leaves the error for the next call that asks for it.
            post(operation, -connection.pendingError)
        } else if connection.resetArrivedAt != nil || (connection.endArrived && connection.hasNearEnded) {
            post(operation, 0)
        }
    }

    // MARK: Closing

    func close(_ socket: Socket, reset: Bool) throws(BrokenRule) {
        switch try entry(socket, "close") {
        case .listener(let listener):
            if listener.accepting != nil { throw broken("\(socket) was closed with an accept in flight") }
            listener.isOpen = false
            listeners[listener.address] = nil
            for client in listener.waiting { sendReset(client) }
            listener.waiting = []
        case .connecting:
            throw broken("\(socket) was closed with a connect in flight")
        case .connection(let connection):
            if connection.receiving != nil { throw broken("\(socket) was closed with a receive in flight") }
            if connection.sending != nil { throw broken("\(socket) was closed with a send in flight") }
            if connection.watching != nil { throw broken("\(socket) was closed with a watch in flight") }
            connection.closedAt = now()
            connection.socket = .none
            // A close with bytes unread says RST, so that the far end does not take them for read.
            if connection.isUpstream && !connection.isUsed { tally.add(.raceLost) }
            if connection.arrivedCount > connection.readCount && !reset { tally.add(.closeWithBytesUnread) }
            let isReset = reset || connection.arrivedCount > connection.readCount
            if connection.resetArrivedAt == nil {
                if isReset {
                    sendReset(connection)
                } else if !connection.hasNearEnded {
                    sendEnd(connection)
                }
            }
            connection.hasNearEnded = true
        }
        free(socket)
    }

    func answerWithReset(_ connection: SimulatedConnection) {
        if connection.nearResetAt == nil { sendReset(connection) }
    }
}
