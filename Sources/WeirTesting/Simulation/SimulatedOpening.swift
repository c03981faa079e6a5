import Glibc
import WeirIO
import WeirMemory
import WeirNet

// How sockets come to be: listening, accepting, connecting.

extension SimulatedDriver {
    // MARK: Accepting

    /// Makes a listening socket for the worker.
    package func listen(on address: SocketAddress) -> Socket {
        precondition(listeners[address] == nil, "\(address) is listened on")
        let listener = SimulatedListener(address: address)
        listeners[address] = listener
        return open(.listener(listener))
    }

    func arrive(_ connection: SimulatedConnection) {
        guard let listener = listeners[connection.nearAddress] else {
            connection.closedAt = now()
            sendReset(connection)
            return
        }
        if listener.waiting.isEmpty { listener.waitsSince = now() }
        listener.waiting.append(connection)
        if overlooksClients { return }
        acceptSoon(listener)
    }

    func acceptSoon(_ listener: SimulatedListener) {
        guard listener.accepting != nil, !listener.isDue, !listener.waiting.isEmpty else { return }
        listener.isDue = true
        schedule.add(.accept(listener), at: soon())
    }

    func accept(_ listener: SimulatedListener) {
        listener.isDue = false
        guard let operation = listener.accepting, !listener.waiting.isEmpty else { return }
        listener.waitsSince = now()
        guard hasDescriptor else {
            tally.add(.acceptWithoutDescriptor)
            post(operation, random.chance(500) ? -EMFILE : -ENFILE)
            return
        }
        if random.chance(faults.noMemory) {
            tally.add(.acceptWithoutMemory)
            post(operation, random.chance(500) ? -ENOMEM : -ENOBUFS)
            return
        }
        let connection = listener.waiting.removeFirst()
        if random.chance(faults.acceptAborted) {
            connection.closedAt = now()
            sendReset(connection)
            tally.add(.acceptAborted)
            post(operation, -ECONNABORTED)
            return
        }
        connection.socket = open(.connection(connection))
        connection.openedAt = now()
        connection.movedAt = now()
        acceptedCount += 1
        let hasMore = !random.chance(faults.silentEnd)
        if !hasMore { tally.add(.endedAccept) }
        post(operation, connection.socket.rawValue, hasMore: hasMore)
        acceptSoon(listener)
    }

    // MARK: Connecting

    func startConnect(
        _ token: Token, _ destination: SocketAddress, _ source: IPAddress?
    ) throws(BrokenRule) {
        if !hasDescriptor {
            refuse(token, -EMFILE, .connectWithoutDescriptor)
            return
        }
        if random.chance(faults.noMemory) {
            refuse(token, random.chance(500) ? -ENOMEM : -ENOBUFS, .connectWithoutMemory)
            return
        }
        if random.chance(faults.noSourcePort) {
            refuse(token, random.chance(500) ? -EADDRNOTAVAIL : -EADDRINUSE, .connectWithoutPort)
            return
        }
        nextLocalPort = nextLocalPort == .max ? 32_768 : nextLocalPort + 1
        let ip =
            source
            ?? (destination.ip.family == .v4 ? IPAddress(192, 0, 2, 1) : IPAddress(v6High: 0x2001_0db8 << 32, low: 1))
        let plan = world?.planForConnect(to: destination, from: source) ?? .fail(ECONNREFUSED, after: 0)
        // The descriptor comes first, so the entry is put in afterwards.
        let attempt = SimulatedConnect(
            socket: Socket(rawValue: nextDescriptor), near: SocketAddress(ip, port: nextLocalPort),
            destination: destination, plan: plan)
        let socket = open(.connecting(attempt))
        precondition(socket == attempt.socket)
        let operation = try start(token, .connect(attempt))
        // The two connects of a session differ in the lowest bit of their kind.
        if inFlight[token.rawValue ^ 1 << 56] != nil { tally.add(.connectsRaced) }
        switch plan {
        case .succeed(let delay), .fail(_, let delay): schedule.add(.connect(operation), at: clock + delay)
        case .silence: tally.add(.connectUnanswered)
        }
    }

    /// A connect that fails before there is a socket.
    private func refuse(_ token: Token, _ result: Int32, _ played: Played) {
        tally.add(played)
        ready.append(Completion(token: token, result: result, buffer: BufferPool.none, hasMore: false))
    }

    private var nextDescriptor: Int32 {
        if faults.reusesDescriptors, let free = freeDescriptors.min() { return Int32(free) }
        return Int32(sockets.count)
    }

    func connect(_ operation: SimulatedOperation) {
        guard operation.isInFlight, case .connect(let attempt) = operation.kind else { return }
        switch attempt.plan {
        case .silence: return
        case .fail(let code, _):
            free(attempt.socket)
            switch code {
            case ECONNREFUSED: tally.add(.connectRefused)
            case ECONNRESET: tally.add(.connectReset)
            case ENETUNREACH, EHOSTUNREACH: tally.add(.connectUnreachable)
            default: break
            }
            post(operation, -code)
        case .succeed:
            let connection = makeConnection(near: attempt.near, far: attempt.destination, isUpstream: true)
            connection.socket = attempt.socket
            connection.openedAt = now()
            connection.movedAt = now()
            sockets[Int(attempt.socket.rawValue)] = .connection(connection)
            post(operation, attempt.socket.rawValue)
            world?.upstreamAccepted(connection)
        }
    }

    func makeConnection(near: SocketAddress, far: SocketAddress, isUpstream: Bool) -> SimulatedConnection {
        let connection = SimulatedConnection(
            id: nextConnectionID, near: near, far: far, isUpstream: isUpstream,
            inboundWindow: Int(random.within(faults.windowByteCount)),
            outboundWindow: Int(random.within(faults.windowByteCount)))
        nextConnectionID += 1
        connections.append(connection)
        return connection
    }
}
