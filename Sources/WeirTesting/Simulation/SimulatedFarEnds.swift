import WeirIO
import WeirNet

// What the world sees and does: accounts of what the kernel holds, and the far ends of connections.

extension SimulatedDriver {
    // MARK: For whoever keeps accounts

    /// Buffers that stand in the ring.
    var offeredBuffers: ArraySlice<UInt32> { offered[offeredHead...] }

    /// The connection that `socket` is; nil where it is none, or closed.
    package func openConnection(_ socket: Socket) -> SimulatedConnection? {
        let index = Int(socket.rawValue)
        guard index >= 0, index < sockets.count, case .connection(let connection)? = sockets[index] else { return nil }
        return connection
    }

    /// Connections that are open.
    var connectionCount: Int {
        var count = openCount - listeners.count
        for (_, operation) in inFlight { if case .connect = operation.kind { count -= 1 } }
        return count
    }

    /// Since when somebody has waited to be accepted with no failed accept since; nil: nobody waits.
    var oldestWaiting: Instant? {
        var oldest: Instant?
        for (_, listener) in listeners where !listener.waiting.isEmpty {
            oldest = min(oldest ?? .distantFuture, listener.waitsSince)
        }
        return oldest
    }

    /// Somebody listens there.
    package func isListening(on address: SocketAddress) -> Bool { listeners[address] != nil }

    // MARK: Far ends

    /// A client opens a connection; what it writes may follow at once.
    package func openClient(from client: SocketAddress, to listener: SocketAddress) -> SimulatedConnection {
        let connection = makeConnection(near: listener, far: client, isUpstream: false)
        schedule.add(.client(connection), at: inboundArrival(connection))
        return connection
    }

    /// The far end writes; there must be room for it.
    package func write(_ bytes: some Collection<UInt8>, on connection: SimulatedConnection) {
        precondition(bytes.count <= connection.sendRoom, "the far end writes more than there is room for")
        guard !bytes.isEmpty else { return }
        connection.sent.append(contentsOf: bytes)
        schedule.add(.inbound(connection, bytes.count), at: inboundArrival(connection))
    }

    /// The far end sends FIN.
    package func shutDown(_ connection: SimulatedConnection) {
        guard !connection.hasFarEnded, !connection.hasFarReset, connection.sawResetAt == nil else { return }
        connection.hasFarEnded = true
        schedule.add(.inboundEnd(connection), at: inboundArrival(connection))
    }

    /// The far end sends RST.
    package func abort(_ connection: SimulatedConnection) {
        guard !connection.hasFarReset, connection.sawResetAt == nil else { return }
        connection.hasFarReset = true
        schedule.add(.inboundReset(connection), at: inboundArrival(connection))
    }

    /// The far end is gone without a word, and the kernel has given it up.
    package func vanish(_ connection: SimulatedConnection) {
        connection.hasVanished = true
        abort(connection)
    }

    /// The far end has looked at so many bytes more.
    package func consume(_ count: Int, on connection: SimulatedConnection) {
        precondition(count <= connection.unconsumedCount)
        connection.consumedCount += count
        sendSoon(connection)
    }
}
