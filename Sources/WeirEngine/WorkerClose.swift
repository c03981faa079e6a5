import Synchronization
import WeirIO
import WeirMemory
import WeirNet
import WeirSession
import WeirTelemetry
import WeirUpstream
import WeirWire

// Refusing, ending, releasing; and the deadlines that lead there.

extension Worker {
    /// How long a refused client is listened to after its answer, so that the answer is not lost to a reset.
    private static let lingerTime: UInt64 = 1_000_000_000

    /// Ends the session. The first reason stands.
    func end(_ slot: Int, _ reason: CloseReason, reset: Bool) {
        if sessions[slot].reason == nil { sessions[slot].reason = reason }
        sessions[slot].machine.end(reset: reset)
    }

    /// Answers a client whose session is not open yet, in its own protocol where there is an answer, then closes.
    func refuse(_ slot: Int, _ reason: CloseReason, alert: TLSAlert? = nil, httpStatus: Int? = nil) {
        if sessions[slot].reason == nil { sessions[slot].reason = reason }
        // What lingers is no endpoint's session, nor a route's.
        leaveEndpoint(slot)
        leaveCluster(slot)
        leaveRoute(slot)
        releaseQueue(&sessions[slot].toUpstream)
        sessions[slot].machine.refuse()
        sessions[slot].refuseDeadline = now.advanced(byNanoseconds: Self.lingerTime)
        switch sessions[slot].record.detected {
        case .tls:
            if let alert { answer(slot) { Self.write(alert, into: &$0) } }
        case .http:
            if let httpStatus { answer(slot) { Self.write(httpStatus: httpStatus, into: &$0) } }
        case .none:
            break
        }
    }

    private func answer(_ slot: Int, _ write: (inout MutableSpan<UInt8>) -> Int) {
        // Without a block the client gets only FIN.
        guard let block = pool.takeBlock() else { return }
        pool.append(to: block, write)
        enqueue(slot, to: .downstream, block)
    }

    private static func write(_ alert: TLSAlert, into output: inout MutableSpan<UInt8>) -> Int {
        let record = alert.record
        for index in record.indices { output[index] = record[index] }
        return record.count
    }

    private static func write(httpStatus: Int, into output: inout MutableSpan<UInt8>) -> Int {
        let line: StaticString =
            switch httpStatus {
            case 400: "HTTP/1.1 400 Bad Request\r\n"
            case 403: "HTTP/1.1 403 Forbidden\r\n"
            case 405: "HTTP/1.1 405 Method Not Allowed\r\n"
            case 421: "HTTP/1.1 421 Misdirected Request\r\n"
            case 431: "HTTP/1.1 431 Request Header Fields Too Large\r\n"
            case 502: "HTTP/1.1 502 Bad Gateway\r\n"
            case 505: "HTTP/1.1 505 HTTP Version Not Supported\r\n"
            default: "HTTP/1.1 503 Service Unavailable\r\n"
            }
        let first = write(line, at: 0, into: &output)
        return write("Content-Length: 0\r\nConnection: close\r\n\r\n", at: first, into: &output)
    }

    private static func write(_ text: StaticString, at start: Int, into output: inout MutableSpan<UInt8>) -> Int {
        var position = start
        text.withUTF8Buffer { bytes in
            for index in 0..<bytes.count {
                output[position] = unsafe bytes[index]
                position += 1
            }
        }
        return position
    }

    // MARK: Deadlines

    func nextDeadline(_ slot: Int) -> Instant {
        switch sessions[slot].machine.phase {
        case .preamble:
            return preambleDeadline(Int(sessions[slot].preamble))
        case .deciding, .connecting:
            let opening = Int(sessions[slot].opening)
            var next = min(openings[opening].preambleDeadline, openings[opening].connectDeadline)
            next = min(next, sessions[slot].drainDeadline)
            next = min(next, sessions[slot].watchAt, openings[opening].staggerAt)
            if sessions[slot].machine.isConnecting(.first) { next = min(next, openings[opening].firstAttempt.deadline) }
            if sessions[slot].machine.isConnecting(.second) {
                next = min(next, openings[opening].secondAttempt.deadline)
            }
            return next
        case .relaying:
            let opening = Int(sessions[slot].opening)
            var next = min(quietDeadline(slot), sessions[slot].deadline, sessions[slot].watchAt)
            next = min(next, sessions[slot].drainDeadline)
            return opening < 0 ? next : min(next, retryDeadline(opening))
        case .refusing:
            return sessions[slot].refuseDeadline
        case .retrying, .closing, .released:
            return .distantFuture
        }
    }

    private func preambleDeadline(_ preamble: Int) -> Instant {
        preambles[preamble].stage == .done
            ? preambles[preamble].preambleDeadline
            : min(preambles[preamble].helloDeadline, preambles[preamble].preambleDeadline)
    }

    /// When a session that relays has been quiet for too long.
    private func quietDeadline(_ slot: Int) -> Instant {
        let idleTimeout = sessions[slot].idleTimeout
        let isHalfEnded = sessions[slot].machine.isHalfEnded
        let timeout = isHalfEnded ? min(sessions[slot].halfCloseTimeout, idleTimeout) : idleTimeout
        return sessions[slot].activeAt.advanced(byNanoseconds: timeout)
    }

    /// A timer fired: something is due, or the deadline has moved on since it was set.
    func deadlinePassed(_ slot: Int) {
        if sessions[slot].watchAt <= now {
            sessions[slot].watchAt = .distantFuture
            sessions[slot].machine.watchDue()
        }
        switch sessions[slot].machine.phase {
        case .preamble:
            let preamble = Int(sessions[slot].preamble)
            if preambleDeadline(preamble) <= now {
                end(
                    slot, .other(preambles[preamble].stage == .proxyHeader ? .proxyTimedOut : .helloTimedOut),
                    reset: true
                )
            }
        case .deciding, .connecting:
            if sessions[slot].drainDeadline <= now {
                end(slot, .other(sessions[slot].drainReason), reset: true)
            } else {
                openingDeadlinePassed(slot)
            }
        case .relaying:
            let opening = Int(sessions[slot].opening)
            // Too late for another one: what was kept for it is not held any longer.
            if opening >= 0, retryDeadline(opening) <= now { releaseOpening(slot) }
            if sessions[slot].deadline <= now {
                end(slot, .other(sessions[slot].endsByAge ? .connectionAge : .sessionTimedOut), reset: true)
            } else if sessions[slot].drainDeadline <= now {
                end(slot, .other(sessions[slot].drainReason), reset: true)
            } else if quietDeadline(slot) <= now {
                let isHalfEnded = sessions[slot].machine.isHalfEnded
                end(slot, .other(isHalfEnded ? .halfCloseTimedOut : .idleTimedOut), reset: true)
            }
        case .refusing:
            if sessions[slot].refuseDeadline <= now { end(slot, .other(.clientAborted), reset: true) }
        case .retrying, .closing, .released:
            break
        }
        advance(slot)
    }

    private func openingDeadlinePassed(_ slot: Int) {
        let opening = Int(sessions[slot].opening)
        if min(openings[opening].preambleDeadline, openings[opening].connectDeadline) <= now {
            let isResolving = openings[opening].isResolving
            refuse(
                slot, .other(isResolving ? .resolverTimedOut : .connectTimedOut), alert: .internalError, httpStatus: 502
            )
        } else if sessions[slot].machine.phase == .connecting {
            connectDeadlinesPassed(slot)
        }
    }

    // MARK: Release

    /// Every operation is home: gives back all the session holds and writes its record.
    func release(_ slot: Int) {
        let isReset = sessions[slot].machine.endsWithReset
        close(sessions[slot].downstream, isReset)
        if !sessions[slot].upstream.isNone { close(sessions[slot].upstream, isReset) }
        releaseSourcePorts(slot, isReset: isReset)
        releaseQueue(&sessions[slot].toDownstream)
        releaseQueue(&sessions[slot].toUpstream)
        releasePreamble(slot)
        releaseOpening(slot)
        timers.remove(slot)
        leaveEndpoint(slot)
        leaveCluster(slot)
        leaveRoute(slot)
        limits.clients.leave(sessions[slot].clientTicket)
        limits.listeners[Int(sessions[slot].listenerSlot)].decrement()
        limits.sessions.decrement()
        // One that found none itself gives back too few for the next.
        if sessions[slot].reason != .other(.outOfDescriptors) { hasReturnedDescriptors = true }
        status.sessionCount.subtract(1, ordering: .relaxed)
        writeRecord(slot)
        sessions.free(slot)
    }

    private func close(_ socket: Socket, _ isReset: Bool) {
        operations.append(Operation(.silent, isReset ? .reset(socket) : .close(socket)))
    }

    func releasePreamble(_ slot: Int) {
        let preamble = Int(sessions[slot].preamble)
        guard preamble >= 0 else { return }
        dropReader(preamble)
        preambles.free(preamble)
        if sessions[slot].opening >= 0 { overlapCount -= 1 }
        sessions[slot].preamble = -1
    }

    func releaseOpening(_ slot: Int) {
        let opening = Int(sessions[slot].opening)
        guard opening >= 0 else { return }
        if openings[opening].proxyHeader >= 0 { proxyHeaders.free(Int(openings[opening].proxyHeader)) }
        releaseQueue(&openings[opening].sent)
        openings.free(opening)
        sessions[slot].opening = -1
    }

    private func releaseQueue(_ queue: inout SendQueue) {
        var buffer = queue.head
        while buffer != BufferPool.none {
            let next = pool.chunks[Int(buffer)].next
            pool.release(buffer)
            buffer = next
        }
        queue = SendQueue()
    }

    private func writeRecord(_ slot: Int) {
        let reason = sessions[slot].reason ?? .other(.finished)
        sessions[slot].record.reason = UInt16(reason.code)
        sessions[slot].record.status = reason.status
        let total = now.nanoseconds(since: sessions[slot].acceptedAt)
        sessions[slot].record.totalTime = total
        let listener = sessions[slot].record.listener
        if listener >= 0 {
            count(listener, ListenerCell.closed)
            count(listener, ListenerCell.closedByReason + Int32(reason.code))
            cells.observe(.session, at: listener &+ ListenerCell.sessionSeconds, total)
        }
        count(sessions[slot].record.route, RouteCell.left)
        let cluster = sessions[slot].record.cluster
        if cluster >= 0 && sessions[slot].record.connectTime != nil {
            count(cluster, ClusterCell.closed)
            count(sessions[slot].record.endpoint, EndpointCell.closed)
        }
        var entry = LogEntry(sessions[slot].record)
        let uniqueID = Int(sessions[slot].proxyUniqueID)
        if uniqueID >= 0 {
            entry.proxyUniqueID = proxyUniqueIDs[uniqueID]
            proxyUniqueIDs.free(uniqueID)
        }
        if !records.push(entry) {
            cells.add(WorkerCell.logDropped, 1)
            note(.logRecords)
        }
    }
}
