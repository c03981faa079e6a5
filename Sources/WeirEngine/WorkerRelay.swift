import Glibc
import WeirIO
import WeirMemory
import WeirNet
import WeirSession
import WeirTelemetry

// Moving bytes: completions to events, actions to operations, queues of chunks between them.

extension Worker {
    func token(_ slot: Int, _ kind: OperationKind) -> Token {
        Token(kind: kind.rawValue, index: UInt32(truncatingIfNeeded: slot), generation: generation(slot))
    }

    /// The slot's generation as tokens carry it: of a live slot, that of its session.
    func generation(_ slot: Int) -> UInt32 { sessions.generation(of: slot) & 0xff_ffff }

    /// Whether `slot`, which may be anything below the capacity, has the session that had this generation.
    func isTenant(_ slot: Int, _ generation: UInt32) -> Bool {
        sessions.isLive(slot) && self.generation(slot) == generation
    }

    /// Asks the machine what follows and does it. The session may be gone afterwards.
    func advance(_ slot: Int) {
        guard sessions.isLive(slot) else { return }
        let actions = sessions[slot].machine.next(isScarce: isScarce)
        countReceivesAhead(slot)
        perform(slot, actions)
    }

    /// Keeps `receivesAheadCount` after every change of a session.
    private func countReceivesAhead(_ slot: Int) {
        let before = sessions[slot].receivesAheadCount
        let after = sessions[slot].machine.receivesAheadCount
        if before == after { return }
        sessions[slot].receivesAheadCount = after
        receivesAheadCount += Int(after) - Int(before)
    }

    /// Turns actions into operations.
    func perform(_ slot: Int, _ actions: SessionActions) {
        if actions.isEmpty { return }
        let downstream = sessions[slot].downstream
        let upstream = sessions[slot].upstream
        if actions.contains(.receiveDownstream) {
            let isContinuing = sessions[slot].machine.downstream.isContinuing
            submit(slot, .receiveDownstream, .receive(downstream, isContinuing: isContinuing))
        }
        if actions.contains(.receiveUpstream) {
            let isContinuing = sessions[slot].machine.upstream.isContinuing
            submit(slot, .receiveUpstream, .receive(upstream, isContinuing: isContinuing))
        }
        if actions.contains(.sendDownstream) { send(slot, .downstream) }
        if actions.contains(.sendUpstream) {
            makePrompt(actions, upstream)
            send(slot, .upstream)
        }
        if actions.contains(.shutdownDownstream) {
            noteHalfClose(slot)
            operations.append(Operation(.silent, .shutdown(downstream)))
        }
        if actions.contains(.shutdownUpstream) {
            noteHalfClose(slot)
            if !sessions[slot].machine.upstream.hasEnded { sessions[slot].sentUpstreamEndFirst = true }
            operations.append(Operation(.silent, .shutdown(upstream)))
        }
        if actions.contains(.scheduleWatch) {
            sessions[slot].watchAt = now.advanced(byNanoseconds: Self.watchDelay)
            schedule(slot)
        }
        if actions.rawValue & Self.rareActions.rawValue != 0 { performRare(slot, actions, downstream, upstream) }
    }

    /// How long a side may be neither received from nor watched. Most short sessions are over by then and save the
    /// two operations; a reset is still carried over within 50 ms.
    private static let watchDelay: UInt64 = 20_000_000

    private static let rareActions: SessionActions = [
        .watchDownstream, .watchUpstream, .cancelReceiveDownstream, .cancelReceiveUpstream, .cancelSendDownstream,
        .cancelSendUpstream, .cancelWatchDownstream, .cancelWatchUpstream, .cancelConnectFirst, .cancelConnectSecond,
        .pumpDownstream, .pumpUpstream, .stopPumpDownstream, .stopPumpUpstream, .cancelPumpDownstream,
        .cancelPumpUpstream, .release, .dropUpstream,
    ]

    private func performRare(_ slot: Int, _ actions: SessionActions, _ downstream: Socket, _ upstream: Socket) {
        if actions.contains(.watchDownstream) { submit(slot, .watchDownstream, .watch(downstream)) }
        if actions.contains(.watchUpstream) { submit(slot, .watchUpstream, .watch(upstream)) }
        if actions.contains(.cancelReceiveDownstream) { cancel(slot, .receiveDownstream) }
        if actions.contains(.cancelReceiveUpstream) { cancel(slot, .receiveUpstream) }
        if actions.contains(.cancelSendDownstream) { cancel(slot, .sendDownstream) }
        if actions.contains(.cancelSendUpstream) { cancel(slot, .sendUpstream) }
        if actions.contains(.cancelWatchDownstream) {
            operations.append(Operation(.silent, .cancelWatch(token(slot, .watchDownstream))))
        }
        if actions.contains(.cancelWatchUpstream) {
            operations.append(Operation(.silent, .cancelWatch(token(slot, .watchUpstream))))
        }
        if actions.contains(.cancelConnectFirst) {
            operations.append(Operation(.silent, .cancelConnect(token(slot, .connectFirst))))
        }
        if actions.contains(.cancelConnectSecond) {
            operations.append(Operation(.silent, .cancelConnect(token(slot, .connectSecond))))
        }
        if actions.contains(.pumpDownstream) {
            makePrompt(actions, upstream)
            pump(slot, .pumpDownstream, downstream, upstream)
        }
        if actions.contains(.pumpUpstream) { pump(slot, .pumpUpstream, upstream, downstream) }
        if actions.contains(.stopPumpDownstream) {
            operations.append(Operation(.silent, .stopPump(token(slot, .pumpDownstream))))
        }
        if actions.contains(.stopPumpUpstream) {
            operations.append(Operation(.silent, .stopPump(token(slot, .pumpUpstream))))
        }
        if actions.contains(.cancelPumpDownstream) { cancel(slot, .pumpDownstream) }
        if actions.contains(.cancelPumpUpstream) { cancel(slot, .pumpUpstream) }
        if actions.contains(.release) { release(slot) }
        if actions.contains(.dropUpstream) { dropUpstream(slot) }
    }

    private func makePrompt(_ actions: SessionActions, _ upstream: Socket) {
        if actions.contains(.noDelayUpstream) { operations.append(Operation(.silent, .noDelay(upstream))) }
    }

    private func submit(_ slot: Int, _ kind: OperationKind, _ action: Operation.Action) {
        operations.append(Operation(token(slot, kind), action))
    }

    private func pump(_ slot: Int, _ kind: OperationKind, _ from: Socket, _ to: Socket) {
        pumpCount += 1
        submit(slot, kind, .pump(from: from, to: to))
    }

    private func cancel(_ slot: Int, _ kind: OperationKind) {
        operations.append(Operation(.silent, .cancel(token(slot, kind))))
    }

    private func noteHalfClose(_ slot: Int) {
        if sessions[slot].machine.phase == .relaying { sessions[slot].record.flags.insert(.halfClosed) }
    }

    /// Sends the head of the queue towards `side`.
    private func send(_ slot: Int, _ side: Side) {
        let isDownstream = side == .downstream
        let head = isDownstream ? sessions[slot].toDownstream.head : sessions[slot].toUpstream.head
        let chunk = pool.chunks[Int(head)]
        // Where more, or FIN, follows at once, a segment may be filled.
        let more = chunk.next != BufferPool.none || sessions[slot].machine.isEnding(towards: side, isScarce: isScarce)
        let payload = Payload(buffer: head, offset: chunk.begin, byteCount: chunk.end - chunk.begin, more: more)
        let socket = isDownstream ? sessions[slot].downstream : sessions[slot].upstream
        submit(slot, isDownstream ? .sendDownstream : .sendUpstream, .send(socket, payload))
    }

    // MARK: Completions

    func receiveCompleted(_ slot: Int, _ side: Side, _ completion: Completion) {
        let result = completion.result
        if result > 0 {
            sessions[slot].machine.received(
                from: side, byteCount: Int(result), hasMore: completion.hasMore, isBeforeEnd: completion.isBeforeEnd)
            received(slot, side, completion.buffer, Int(result))
        } else if result == 0 {
            sessions[slot].machine.ended(side)
            ended(slot, side)
        } else {
            receiveFailed(slot, side, -result, completion.hasMore)
        }
        advance(slot)
    }

    private func received(_ slot: Int, _ side: Side, _ buffer: UInt32, _ byteCount: Int) {
        switch sessions[slot].machine.phase {
        case .preamble:
            readPreamble(slot, buffer, byteCount)
            if sessions[slot].machine.phase != .preamble { schedule(slot) }
        case .relaying:
            if sessions[slot].opening >= 0 { proved(slot, hasSpoken: side == .upstream) }
            sessions[slot].activeAt = now
            countBytes(slot, from: side, byteCount)
            queueReceived(slot, to: side.other, buffer, byteCount)
        case .retrying where side == .downstream:
            // For the next upstream, behind what is held back.
            sessions[slot].activeAt = now
            countBytes(slot, from: side, byteCount)
            openings[Int(sessions[slot].opening)].hasMore = true
            enqueue(slot, to: .upstream, buffer)
        case .retrying, .refusing, .closing:
            pool.release(buffer)
        case .deciding, .connecting, .released:
            preconditionFailure("bytes came while nothing was received")
        }
    }

    private func countBytes(_ slot: Int, from side: Side, _ byteCount: Int) {
        let listener = sessions[slot].record.listener
        if side == .downstream {
            sessions[slot].record.bytesFromClient += UInt64(byteCount)
            count(listener, ListenerCell.receivedBytes, UInt64(byteCount))
        } else {
            sessions[slot].record.bytesFromUpstream += UInt64(byteCount)
            count(listener, ListenerCell.sentBytes, UInt64(byteCount))
        }
        cells.add(WorkerCell.relayedBytes, UInt64(byteCount))
    }

    /// Queues what came in, in its own buffer or, where a backlog has room for it, behind what waits already: many
    /// small pieces must not hold a buffer each.
    private func queueReceived(_ slot: Int, to side: Side, _ buffer: UInt32, _ byteCount: Int) {
        let queue = side == .downstream ? sessions[slot].toDownstream : sessions[slot].toUpstream
        let tail = queue.tail
        // The head may be in flight; nothing is added to it.
        if tail != BufferPool.none && tail != queue.head
            && Int(pool.chunks[Int(tail)].end) + byteCount <= pool.capacity(of: tail)
        {
            pool.copy(0..<byteCount, of: buffer, to: tail)
            pool.release(buffer)
        } else {
            enqueue(slot, to: side, buffer)
        }
    }

    /// Puts a chunk at the end of a queue.
    func enqueue(_ slot: Int, to side: Side, _ buffer: UInt32) {
        if side == .downstream {
            append(buffer, to: &sessions[slot].toDownstream)
        } else {
            append(buffer, to: &sessions[slot].toUpstream)
        }
        sessions[slot].machine.queued(to: side)
    }

    func append(_ buffer: UInt32, to queue: inout SendQueue) {
        pool.chunks[Int(buffer)].next = BufferPool.none
        pool.chunks[Int(buffer)].first = pool.chunks[Int(buffer)].begin
        if queue.isEmpty {
            queue.head = buffer
        } else {
            pool.chunks[Int(queue.tail)].next = buffer
        }
        queue.tail = buffer
    }

    private func removeHead(of queue: inout SendQueue) { pool.release(takeHead(of: &queue)) }

    func takeHead(of queue: inout SendQueue) -> UInt32 {
        let head = queue.head
        queue.head = pool.chunks[Int(head)].next
        if queue.head == BufferPool.none { queue.tail = BufferPool.none }
        return head
    }

    private func ended(_ slot: Int, _ side: Side) {
        switch sessions[slot].machine.phase {
        case .preamble:
            let preamble = Int(sessions[slot].preamble)
            end(slot, .other(preambles[preamble].stage == .proxyHeader ? .proxyAborted : .clientAborted), reset: true)
        case .relaying:
            if sessions[slot].opening >= 0, upstreamIsGone(slot, side, 0) { return }
            sessions[slot].activeAt = now
            // The shorter timeout of a half-closed session holds from now on.
            schedule(slot)
        case .retrying, .refusing, .closing:
            break
        case .deciding, .connecting, .released:
            preconditionFailure("an end came while nothing was received")
        }
    }

    private func receiveFailed(_ slot: Int, _ side: Side, _ code: Int32, _ hasMore: Bool) {
        switch code {
        case ENOBUFS:
            sessions[slot].machine.starved(side, hasMore: hasMore)
            cells.add(WorkerCell.buffersStarved, 1)
            // Otherwise it was the ring that was empty for a moment, and the next turn fills it.
            if pool.freeLargeCount == 0 { note(.buffers) }
            if !hasMore {
                cells.add(WorkerCell.receivePauses, 1)
                if starved.isFull { dropStaleStarved() }
                starved.push(StarvedQueue.Entry(slot: Int32(slot), side: side, generation: generation(slot)))
            }
        case ECANCELED, EINTR, EAGAIN:
            sessions[slot].machine.receiveStopped(side, hasMore: hasMore)
        default:
            sessions[slot].machine.receiveStopped(side, hasMore: hasMore)
            sideFailed(slot, side, code)
        }
    }

    /// Lets starved sides receive again, the one that waited longest first, no more than there are buffers for: waking
    /// all of them for each buffer that comes back costs more than it moves (U-07). True where some must wait on.
    func resumeStarved() -> Bool {
        guard starved.count > 0 else { return false }
        // For some of those that came back a side has been resumed already.
        var budget = min(pool.freeLargeCount + offeredCount, Self.resumeCountMax) - handedOnCount
        while budget > 0, resumeFirstStarved() { budget -= 1 }
        return starved.count > 0
    }

    /// False where nobody waits.
    private func resumeFirstStarved() -> Bool {
        while let entry = starved.pop() {
            cells.add(WorkerCell.receiveResumes, 1)
            let slot = Int(entry.slot)
            guard isTenant(slot, entry.generation) else { continue }
            sessions[slot].machine.bufferReturned(entry.side)
            advance(slot)
            return true
        }
        return false
    }

    /// Forgets entries of sessions that have ended. Room is certain then: a side is in the queue once at most.
    private func dropStaleStarved() {
        for _ in 0..<starved.count {
            guard let entry = starved.pop() else { return }
            let slot = Int(entry.slot)
            guard isTenant(slot, entry.generation) else {
                cells.add(WorkerCell.receiveResumes, 1)
                continue
            }
            starved.push(entry)
        }
    }

    /// In a turn: as many as a driver's ring has buffers for.
    private static let resumeCountMax = 256

    func sendCompleted(_ slot: Int, _ side: Side, _ result: Int32) {
        var isChunkDone = false
        var isBufferBack = false
        if result > 0 {
            sessions[slot].activeAt = now
            let head = side == .downstream ? sessions[slot].toDownstream.head : sessions[slot].toUpstream.head
            pool.chunks[Int(head)].begin += UInt32(result)
            isChunkDone = pool.chunks[Int(head)].byteCount == 0
            if isChunkDone {
                if side == .upstream, sessions[slot].opening >= 0 {
                    keepSent(slot)
                } else {
                    isBufferBack = Int(head) < pool.largeCount
                    if side == .downstream {
                        removeHead(of: &sessions[slot].toDownstream)
                    } else {
                        removeHead(of: &sessions[slot].toUpstream)
                    }
                }
            }
        }
        sessions[slot].machine.sent(to: side, chunkDone: isChunkDone)
        // The receive that finds FIN was asked for before the send, so mostly it has.
        if sessions[slot].machine.isHeldInVain(towards: side) {
            let socket = side == .downstream ? sessions[slot].downstream : sessions[slot].upstream
            operations.append(Operation(.silent, .noDelay(socket)))
        }
        switch -result {
        case ..<0, ECANCELED, EINTR, EAGAIN: break
        case 0: sideFailed(slot, side, EPIPE)
        case let code: sideFailed(slot, side, code)
        }
        // Before this session asks for the buffer that it has just given back, and with data waiting would get it.
        if isBufferBack && starved.count > 0 && resumeFirstStarved() { handedOnCount += 1 }
        advance(slot)
    }

    /// What comes from `side` is moved without us: here is how far it has come.
    func pumpCompleted(_ slot: Int, _ side: Side, _ completion: Completion) {
        let result = completion.result
        if completion.hasMore {
            sessions[slot].activeAt = now
            countBytes(slot, from: side, Int(result))
            cells.add(WorkerCell.pumpedBytes, UInt64(result))
            sessions[slot].machine.pumped(from: side, byteCount: Int(result))
        } else {
            sessions[slot].machine.pumpFinished(from: side, hasEnded: result == 0)
            pumpCount -= 1
            switch -result {
            case 0: ended(slot, side)
            case ECANCELED: break
            case ENOBUFS: cells.add(WorkerCell.pumpsRefused, 1)
            case let code: sideFailed(slot, completion.isOfDestination ? side.other : side, code)
            }
        }
        advance(slot)
    }

    func watchCompleted(_ slot: Int, _ side: Side, _ result: Int32) {
        sessions[slot].machine.watchFinished(side)
        if result < 0 && result != -ECANCELED { sideFailed(slot, side, -result) }
        advance(slot)
    }

    /// An operation on `side` failed: the session ends, and the other side sees the reset as well (RS-06).
    private func sideFailed(_ slot: Int, _ side: Side, _ code: Int32) {
        let reason = relayFailure(code, side)
        if sessions[slot].reason == nil { sessions[slot].record.code = code }
        switch sessions[slot].machine.phase {
        case .preamble:
            let preamble = Int(sessions[slot].preamble)
            end(slot, .other(preambles[preamble].stage == .proxyHeader ? .proxyAborted : .clientAborted), reset: true)
        case .deciding, .connecting:
            end(slot, .other(.clientAbortedConnect), reset: true)
        case .relaying:
            if sessions[slot].opening >= 0, upstreamIsGone(slot, side, code) { return }
            // Where this side had ended and all it sent is out and followed by FIN, nothing of it was cut off: a reset
            // now is its answer to late bytes, and telling the other side "reset" would spoil a complete stream. It is
            // another matter where nobody reset it and we could not send: then what it should have got is cut off.
            let machine = sessions[slot].machine
            let isComplete = machine[side].hasEnded && machine[side.other].isShut && reason != .ioFailed
            end(slot, .other(reason), reset: !isComplete)
        case .retrying:
            // The upstream is gone already.
            if side == .downstream { end(slot, .other(reason), reset: true) }
        case .refusing:
            end(slot, .other(reason), reset: true)
        case .closing, .released:
            break
        }
    }
}
