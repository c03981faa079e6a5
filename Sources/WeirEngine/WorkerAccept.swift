import Synchronization
import WeirIO
import WeirMemory
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirUpstream
import WeirWire

/// One listening socket of a worker.
struct ListenerState: BitwiseCopyable {
    var socket = Socket.none
    /// Of the listener that it belongs to, which may have several: an upgrade can bring more sockets than workers.
    var slot = -1
    /// Where it is bound, with the real port.
    var address = SocketAddress(.v4Any, port: 0)
    /// An accept is in flight.
    var isAccepting = false
    /// To be closed as soon as no accept is in flight.
    var isClosing = false
    /// It outlives this process: who waits there is accepted by the next one that is started.
    var isLeft = false
    /// Accepting pauses until then after a shortage; `distantFuture`: it does not pause.
    var resumeAt = Instant.distantFuture
    /// The pause ends as soon as a session has given its descriptors back.
    var needsDescriptors = false
    /// Nanoseconds of the next pause.
    var pause = ListenerState.pauseMin

    var isGone: Bool { socket.isNone }
    var isPausing: Bool { resumeAt != .distantFuture }

    static let pauseMin: UInt64 = 10_000_000
    /// P-11: descriptors that others have given back are noticed within half a second.
    static let pauseMax: UInt64 = 400_000_000
}

extension Worker {
    /// A queue's worth: clients that keep coming must not keep the socket open.
    private static let waitingCountMax = 4096
    /// Of a listener, per look. Where more wait the accept in flight is at work.
    private static let overlookedCountMax = 16

    func addListener(_ command: WorkerCommand) {
        let added = ListenerState(socket: command.socket, slot: Int(command.slot), address: command.address)
        let position: Int
        if let free = listeners.firstIndex(where: \.isGone) {
            position = free
            listeners[position] = added
        } else {
            position = listeners.count
            listeners.append(added)
        }
        status.listenerCount.add(1, ordering: .relaxed)
        armAccept(position)
    }

    /// Stops accepting for `slot`, and closes its sockets as soon as their accepts are home.
    func removeListener(_ slot: Int, isLeft: Bool = false) {
        for position in listeners.indices where listeners[position].slot == slot {
            guard !listeners[position].isGone, !listeners[position].isClosing else { continue }
            listeners[position].isClosing = true
            listeners[position].isLeft = isLeft
            if listeners[position].isAccepting { cancelAccept(position) } else { closeListener(position) }
        }
    }

    func removeListeners() {
        for position in listeners.indices where !listeners[position].isGone {
            removeListener(listeners[position].slot)
        }
    }

    private func cancelAccept(_ position: Int) {
        operations.append(Operation(.silent, .cancel(acceptToken(position))))
    }

    private func closeListener(_ position: Int) {
        let listener = listeners[position]
        if !listener.isLeft && !isEnding {
            // Their handshakes are done; closing the socket would reset them. And a process that accepts there, too, does
            // not hear of those for whom the kernel woke our accept: it wakes one of the two, once.
            for _ in 0..<Self.waitingCountMax {
                guard let waiting = driver.acceptWaiting(on: listener.socket) else { break }
                accepted(waiting, position)
            }
        }
        operations.append(Operation(.silent, .close(listener.socket)))
        listeners[position] = ListenerState()
        closingListenerCount += 1
    }

    /// Tells the control thread, which may promise that the port is free, once that is so.
    func reportClosedListeners() {
        status.listenerCount.subtract(closingListenerCount, ordering: .releasing)
        closingListenerCount = 0
    }

    /// Takes who waits although an accept is in flight. The kernel wakes one accept for a client; where that belonged to
    /// another process that has the socket, too, and has ended since or had no descriptor, nobody else is told of it.
    func acceptOverlooked() {
        for position in listeners.indices where listeners[position].isAccepting {
            guard !listeners[position].isClosing, !listeners[position].isPausing else { continue }
            for _ in 0..<Self.overlookedCountMax {
                guard let waiting = driver.acceptWaiting(on: listeners[position].socket) else { break }
                accepted(waiting, position)
            }
        }
    }

    private func acceptToken(_ position: Int) -> Token {
        Token(kind: OperationKind.accept.rawValue, index: UInt32(position), generation: 0)
    }

    private func armAccept(_ position: Int) {
        listeners[position].isAccepting = true
        listeners[position].resumeAt = .distantFuture
        operations.append(Operation(acceptToken(position), .accept(listeners[position].socket)))
    }

    // MARK: Pauses

    /// Arms the listeners whose pause is over. Looks at them only when one may be.
    func resumeListeners() {
        if limits.isMemoryShort.load(ordering: .relaxed) {
            if pauseAccepting(.memory) { note(.memory) }
            return
        }
        let hasDescriptors = hasReturnedDescriptors
        hasReturnedDescriptors = false
        guard nextResume <= now || hasDescriptors && nextResume != .distantFuture else { return }
        nextResume = .distantFuture
        for position in listeners.indices where listeners[position].isPausing {
            if listeners[position].resumeAt <= now || hasDescriptors && listeners[position].needsDescriptors {
                resume(position)
            } else {
                nextResume = min(nextResume, listeners[position].resumeAt)
            }
        }
    }

    private func resume(_ position: Int) {
        listeners[position].resumeAt = .distantFuture
        listeners[position].needsDescriptors = false
        count(listenerMetrics[listeners[position].slot], ListenerCell.acceptResumes)
        // Where the accept that was cancelled is still on its way home, its completion arms the next; where it could
        // not be cancelled any more, it goes on.
        if !listeners[position].isAccepting { armAccept(position) }
    }

    /// Accepts nothing for a while, longer from time to time: more connections would make the shortage worse. Whoever
    /// waits stays in the kernel's queue. Those that pause already go on pausing. True where one did not.
    @discardableResult
    func pauseAccepting(_ shortage: Shortage) -> Bool {
        var hasPaused = false
        nextResume = .distantFuture
        for position in listeners.indices where !listeners[position].isGone && !listeners[position].isClosing {
            if !listeners[position].isPausing {
                hasPaused = true
                if listeners[position].isAccepting { cancelAccept(position) }
                pause(position, shortage)
            } else if shortage == .memory && listeners[position].resumeAt <= now {
                // That is over when the memory is back, not before.
                pause(position, shortage)
            }
            nextResume = min(nextResume, listeners[position].resumeAt)
        }
        return hasPaused
    }

    private func pause(_ position: Int, _ shortage: Shortage?) {
        if !listeners[position].isPausing {
            count(listenerMetrics[listeners[position].slot], ListenerCell.acceptPauses)
        }
        listeners[position].needsDescriptors = shortage == .descriptors
        listeners[position].resumeAt = now.advanced(byNanoseconds: listeners[position].pause)
        nextResume = min(nextResume, listeners[position].resumeAt)
        listeners[position].pause = min(listeners[position].pause * 2, ListenerState.pauseMax)
    }

    /// Counts that something was refused, paused or lost for want of this. The control thread tells of it.
    func note(_ shortage: Shortage) { cells.add(WorkerCell.shortages + Int32(shortage.rawValue), 1) }

    // MARK: Accepting

    func acceptCompleted(_ position: Int, _ completion: Completion) {
        if !completion.hasMore { listeners[position].isAccepting = false }
        if completion.result >= 0 {
            listeners[position].pause = ListenerState.pauseMin
            accepted(Socket(rawValue: completion.result), position)
        } else {
            acceptFailed(position, -completion.result)
        }
        guard !listeners[position].isAccepting, !listeners[position].isGone else { return }
        if listeners[position].isClosing {
            closeListener(position)
        } else if !listeners[position].isPausing {
            armAccept(position)
        }
    }

    private func acceptFailed(_ position: Int, _ code: Int32) {
        let metric = listenerMetrics[listeners[position].slot]
        switch AcceptFailure(code) {
        case .cancelled:
            // Cancelled by a removal, or ended by the kernel without a reason; the caller arms again.
            break
        case .transient:
            count(metric, ListenerCell.acceptError(code))
        case .shortage(let shortage):
            count(metric, ListenerCell.acceptError(code))
            if let shortage { note(shortage) }
            pause(position, shortage)
        }
    }

    /// Adds one to a cell of a subject that has one.
    func count(_ base: Int32, _ offset: Int32, _ amount: UInt64 = 1) {
        if base >= 0 { cells.add(base &+ offset, amount) }
    }

    private func accepted(_ socket: Socket, _ position: Int) {
        let slot = listeners[position].slot
        var listener = view.listeners[slot]
        listener.metric = listenerMetrics[slot]
        count(listener.metric, ListenerCell.accepted)
        guard listener.exists else {
            turnAway(socket, listener, .listenerRemoved)
            return
        }
        guard let peer = driver.peerAddress(of: socket) else {
            // Reset before we came to it.
            turnAway(socket, listener, .clientAborted)
            return
        }
        guard !isEnding else {
            // Its accept had completed when the order came.
            turnAway(socket, listener, .stopped)
            return
        }
        guard limits.sessions.tryIncrement(limit: limits.sessionCountMax) else {
            note(.sessions)
            turnAway(socket, listener, .connectionLimit)
            return
        }
        guard limits.listeners[slot].tryIncrement(limit: listener.connectionsMax) else {
            limits.sessions.decrement()
            turnAway(socket, listener, .listenerLimit)
            return
        }
        guard let session = sessions.allocate(newSession(socket, position, listener, peer)) else {
            limits.listeners[slot].decrement()
            limits.sessions.decrement()
            note(.sessions)
            turnAway(socket, listener, .connectionLimit)
            return
        }
        begin(session, listener)
    }

    private func turnAway(_ socket: Socket, _ listener: CompiledListener, _ reason: CloseReason.Other) {
        count(listener.metric, ListenerCell.closedByReason + Int32(CloseReason.other(reason).code))
        operations.append(Operation(.silent, .reset(socket)))
    }

    private func newSession(
        _ socket: Socket, _ position: Int, _ listener: CompiledListener, _ peer: SocketAddress
    ) -> Session {
        // The address that the client reached: the listener's, unless it is on a wildcard or clients are led to it.
        var local = listeners[position].address
        if listener.followsRedirections {
            local = driver.originalDestination(of: socket) ?? local
        } else if listener.matchesDestinations || local.ip.isUnspecified {
            local = driver.localAddress(of: socket) ?? local
        }
        // A socket on [::] that takes IPv4 says both in IPv6.
        local.ip = local.ip.unmapped
        var client = peer
        client.ip = peer.ip.unmapped
        var record = SessionRecord(id: nextSessionID, client: client, peer: client, local: local)
        nextSessionID += 1
        record.worker = UInt16(truncatingIfNeeded: index)
        record.listener = listener.metric
        record.acceptedAt = now.nanoseconds &+ wallClockOffset
        return Session(
            machine: SessionMachine(
                allowsHalfClose: listener.passesHalfClose, bulkByteCount: bulkByteCount,
                bulkReceiveCount: bulkReceiveCount),
            downstream: socket, listenerSlot: Int32(listeners[position].slot), acceptedAt: now, activeAt: now,
            idleTimeout: listener.idleTimeout, halfCloseTimeout: listener.halfCloseTimeout,
            deadline: now.advanced(byNanoseconds: listener.sessionTimeout),
            record: record)
    }

    private func begin(_ session: Int, _ listener: CompiledListener) {
        status.sessionCount.add(1, ordering: .relaxed)
        count(listener.metric, ListenerCell.opened)

        let isDetecting = listener.detectsTLS || listener.detectsHTTP
        let first = Preamble(
            stage: listener.acceptsProxy ? .proxyHeader : isDetecting ? .detect : .done,
            helloByteCountMax: listener.helloByteCountMax,
            helloDeadline: now.advanced(byNanoseconds: listener.helloTimeout),
            preambleDeadline: now.advanced(byNanoseconds: listener.preambleTimeout))
        guard let preamble = preambles.allocate(first) else {
            preconditionFailure("there are as many preambles as sessions")
        }
        sessions[session].preamble = Int32(preamble)

        if listener.acceptsProxy {
            keepReader(
                preamble,
                .proxyHeader(
                    ProxyHeaderParser(
                        byteCountMax: Int(listener.proxyHeaderByteCountMax),
                        acceptIPv4InTCP6: listener.acceptsIPv4InTCP6)))
            // The socket's peer is trusted with a header or not served at all; whom it speaks for is checked later.
            let (slot, peer) = (Int(sessions[session].listenerSlot), sessions[session].record.peer.ip)
            if !view.trustsProxyPeer(listener: slot, peer) { end(session, .other(.proxyUntrusted), reset: true) }
        } else if admitClient(session), !isDetecting {
            beginOpening(session)
            releasePreamble(session)
            sessions[session].machine.preambleRead()
            decide(session)
        }
        advance(session)
        if sessions.isLive(session) { schedule(session) }
    }

    /// Applies the listener's rules and limits to the client's address, once it is known. False: the session has ended.
    func admitClient(_ session: Int) -> Bool {
        let slot = Int(sessions[session].listenerSlot)
        let client = sessions[session].record.client.ip
        guard view.listeners[slot].exists else {
            end(session, .other(.listenerRemoved), reset: true)
            return false
        }
        guard view.allowsClient(listener: slot, client) else {
            end(session, .other(.clientDenied), reset: true)
            return false
        }
        if let reason = limitMet(session, slot, client) {
            end(session, .other(reason), reset: true)
            return false
        }
        return true
    }

    /// Counts a client's session against the limits per client, then against the rates, the narrowest first: what one
    /// client or one listener is refused must not use up what others have. nil: all admit it.
    private func limitMet(_ session: Int, _ slot: Int, _ client: IPAddress) -> CloseReason.Other? {
        let listener = view.listeners[slot]
        if listener.connectionsPerClientMax < Int.max {
            switch limits.clients.enter(
                worker: index, listener: slot, client: client.limitKey, limit: listener.connectionsPerClientMax)
            {
            case .counted(let ticket): sessions[session].clientTicket = ticket
            case .untracked: note(.clientTable)
            case .overLimit: return .clientLimit
            }
        }
        if !listener.ratePerClient.isNone {
            switch limits.clientRates.take(
                worker: index, listener: slot, client: client.limitKey, listener.ratePerClient, now: now.nanoseconds)
            {
            case .admitted: break
            case .admittedOverAnother: note(.clientTable)
            case .refused: return .clientRate
            }
        }
        guard limits.listenerRates[slot].take(listener.rate, now: now.nanoseconds) else { return .listenerRate }
        guard limits.rate.take(limits.rateMax, now: now.nanoseconds) else { return .connectionRate }
        return nil
    }

    // MARK: Routes

    /// Counts the session against the limits of its route, as `limitMet` does for a listener's. nil: all admit it.
    func enterRoute(_ session: Int, _ route: CompiledRoute) -> CloseReason.Other? {
        if route.limits < 0 {
            leaveRoute(session)
            return nil
        }
        let bounds = view.routeLimits[Int(route.limits)]
        // Decided once more after a reload, it is in already.
        if bounds.place >= 0, bounds.place == sessions[session].routePlace { return nil }
        leaveRoute(session)
        if bounds.place < 0 { return nil }
        guard board.enter(route: bounds) else { return .routeLimit }
        sessions[session].routePlace = bounds.place
        let reason = clientLimitMet(session, bounds)
        guard reason == nil, board.takeRate(route: bounds, now: now) else {
            leaveRoute(session)
            return reason ?? .routeRate
        }
        return nil
    }

    private func clientLimitMet(_ session: Int, _ bounds: CompiledRouteLimits) -> CloseReason.Other? {
        let client = sessions[session].record.client.ip.limitKey
        // Routes are counted in the listeners' tables, under numbers that no listener has.
        let number = SharedLimits.listenerCountMax + Int(bounds.place)
        if bounds.connectionsPerClientMax < Int.max {
            switch limits.clients.enter(
                worker: index, listener: number, client: client, limit: bounds.connectionsPerClientMax)
            {
            case .counted(let ticket): sessions[session].routeTicket = ticket
            case .untracked: note(.clientTable)
            case .overLimit: return .clientLimit
            }
        }
        switch limits.clientRates.take(
            worker: index, listener: number, client: client, bounds.ratePerClient, now: now.nanoseconds)
        {
        case .admitted: return nil
        case .admittedOverAnother:
            note(.clientTable)
            return nil
        case .refused: return .clientRate
        }
    }

    func leaveRoute(_ session: Int) {
        guard sessions[session].routePlace >= 0 else { return }
        board.leave(route: sessions[session].routePlace)
        limits.clients.leave(sessions[session].routeTicket)
        sessions[session].routePlace = -1
        sessions[session].routeTicket = .none
    }
}
