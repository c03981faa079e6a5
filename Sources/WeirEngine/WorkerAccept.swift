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
    /// Another process has it, too, and accepts whoever waits there.
    var isHandedOver = false
    /// Accepting pauses until then after a shortage; `distantFuture`: it does not pause.
    var resumeAt = Instant.distantFuture
    /// Nanoseconds of the next pause.
    var pause = ListenerState.pauseMin

    var isGone: Bool { socket.isNone }

    static let pauseMin: UInt64 = 10_000_000
    static let pauseMax: UInt64 = 500_000_000
}

extension Worker {
    /// A queue's worth: clients that keep coming must not keep the socket open.
    private static let waitingCountMax = 4096

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
    func removeListener(_ slot: Int, isHandedOver: Bool = false) {
        for position in listeners.indices where listeners[position].slot == slot {
            guard !listeners[position].isGone, !listeners[position].isClosing else { continue }
            listeners[position].isClosing = true
            listeners[position].isHandedOver = isHandedOver
            if listeners[position].isAccepting {
                operations.append(Operation(.silent, .cancel(acceptToken(position))))
            } else {
                closeListener(position)
            }
        }
    }

    func removeListeners() {
        for position in listeners.indices where !listeners[position].isGone {
            removeListener(listeners[position].slot)
        }
    }

    private func closeListener(_ position: Int) {
        let listener = listeners[position]
        if !listener.isHandedOver && !isEnding {
            // Their handshakes are done; closing the socket would reset them.
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

    private func acceptToken(_ position: Int) -> Token {
        Token(kind: OperationKind.accept.rawValue, index: UInt32(position), generation: 0)
    }

    private func armAccept(_ position: Int) {
        listeners[position].isAccepting = true
        listeners[position].resumeAt = .distantFuture
        operations.append(Operation(acceptToken(position), .accept(listeners[position].socket)))
    }

    /// Arms the listeners whose pause is over. Looks at them only when one may be.
    func resumeListeners() {
        guard nextResume <= now else { return }
        nextResume = .distantFuture
        for position in listeners.indices where listeners[position].resumeAt != .distantFuture {
            if listeners[position].resumeAt <= now {
                armAccept(position)
            } else {
                nextResume = min(nextResume, listeners[position].resumeAt)
            }
        }
    }

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
        } else if listeners[position].resumeAt == .distantFuture {
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
        case .shortage:
            count(metric, ListenerCell.acceptError(code))
            count(metric, ListenerCell.acceptPauses)
            listeners[position].resumeAt = now.advanced(byNanoseconds: listeners[position].pause)
            nextResume = min(nextResume, listeners[position].resumeAt)
            listeners[position].pause = min(listeners[position].pause * 2, ListenerState.pauseMax)
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
            turnAway(socket, listener, .connectionLimit)
            return
        }
        guard limits.listeners[slot].tryIncrement(limit: listener.connectionsMax) else {
            limits.sessions.decrement()
            turnAway(socket, listener, .listenerLimit)
            return
        }
        guard let session = sessions.allocate() else {
            limits.listeners[slot].decrement()
            limits.sessions.decrement()
            turnAway(socket, listener, .connectionLimit)
            return
        }
        begin(session, socket, position, listener, peer)
    }

    private func turnAway(_ socket: Socket, _ listener: CompiledListener, _ reason: CloseReason.Other) {
        count(listener.metric, ListenerCell.closedByReason + Int32(CloseReason.other(reason).code))
        operations.append(Operation(.silent, .reset(socket)))
    }

    private func begin(
        _ session: Int, _ socket: Socket, _ position: Int, _ listener: CompiledListener, _ peer: SocketAddress
    ) {
        let slot = listeners[position].slot
        // The address that the client reached: the listener's, but for one on a wildcard.
        var local = listeners[position].address
        if local.ip.isUnspecified { local = driver.localAddress(of: socket) ?? local }
        var client = peer
        client.ip = peer.ip.unmapped
        var record = SessionRecord(id: nextSessionID, client: client, peer: client, local: local)
        nextSessionID += 1
        record.worker = UInt16(truncatingIfNeeded: index)
        record.listener = listener.metric
        record.acceptedAt = now.nanoseconds &+ wallClockOffset
        sessions[session] = Session(
            machine: SessionMachine(allowsHalfClose: listener.passesHalfClose),
            downstream: socket, listenerSlot: Int32(slot),
            generation: sessions.generation(of: session) & 0xff_ffff,
            acceptedAt: now, activeAt: now,
            idleTimeout: listener.idleTimeout, halfCloseTimeout: listener.halfCloseTimeout,
            deadline: now.advanced(byNanoseconds: listener.sessionTimeout),
            record: record)
        status.sessionCount.add(1, ordering: .relaxed)
        count(listener.metric, ListenerCell.opened)

        guard let opening = openings.allocate() else {
            preconditionFailure("there are as many openings as sessions")
        }
        let isDetecting = listener.detectsTLS || listener.detectsHTTP
        openings[opening] = Opening(
            stage: listener.acceptsProxy ? .proxyHeader : isDetecting ? .detect : .done,
            proxyParser: .init(
                byteCountMax: Int(listener.proxyHeaderByteCountMax), acceptIPv4InTCP6: listener.acceptsIPv4InTCP6),
            helloParser: .init(byteCountMax: Int(listener.helloByteCountMax)),
            headParser: .init(),
            helloDeadline: now.advanced(byNanoseconds: listener.helloTimeout),
            preambleDeadline: now.advanced(byNanoseconds: listener.preambleTimeout))
        sessions[session].opening = Int32(opening)

        if listener.acceptsProxy {
            // The socket's peer is trusted with a header or not served at all; whom it speaks for is checked later.
            if !view.trustsProxyPeer(listener: slot, client.ip) { end(session, .other(.proxyUntrusted), reset: true) }
        } else if admitClient(session), !isDetecting {
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
        let limit = view.listeners[slot].connectionsPerClientMax
        guard limit < Int.max else { return true }
        switch limits.clients.enter(worker: index, listener: slot, client: client.limitKey, limit: limit) {
        case .counted(let ticket):
            sessions[session].clientTicket = ticket
            return true
        case .untracked:
            return true
        case .overLimit:
            end(session, .other(.clientLimit), reset: true)
            return false
        }
    }
}
