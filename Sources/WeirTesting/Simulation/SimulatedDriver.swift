import Glibc
import Synchronization
import WeirIO
import WeirMemory
import WeirNet

/// Who lives at the far ends of a simulated kernel's connections. Called from within the worker's `turn`.
package protocol SimulatedWorld: AnyObject {
    /// A moment has come that the world asked for with `call(_:at:)`.
    func momentCame(_ number: Int)
    /// What becomes of a connect.
    func planForConnect(to destination: SocketAddress, from source: IPAddress?) -> SimulatedConnectPlan
    /// A connect of the worker's reached a far end.
    func upstreamAccepted(_ connection: SimulatedConnection)
    /// The far end of `connection` can see something new: bytes, room, an end.
    func changed(_ connection: SimulatedConnection)
}

/// The kernel and the network of one worker, played by a seed: sockets with bounded buffers, listeners, connects, a
/// clock of its own, and the faults of the day.
///
/// It does what `UringDriver` and Linux would: receives take buffers from a ring that the pool refills; completions of
/// different sockets come in any order, those of one direction of one socket in theirs; a cancellation may come too
/// late. Where the engine breaks a rule of the seam it traps, or tells `onBrokenRule` and leaves that operation undone.
package final class SimulatedDriver: Driver {
    package let seed: UInt64
    package var faults: SimulatedFaults
    package var random: SimulatedRandom
    /// Sockets at once; accepting and connecting fail with EMFILE above it.
    package var descriptorLimit = Int.max
    /// The accept in flight is not told of clients: somebody else who had the socket was.
    package var overlooksClients = false
    /// A wait ends here at the latest, as if somebody had called for nothing.
    package var horizon = Instant.distantFuture
    /// Hears of the rules that the engine breaks; none: they trap.
    package var onBrokenRule: ((String) -> Void)?
    package internal(set) var tally = SimulatedTally()
    package weak var world: (any SimulatedWorld)?

    let pool: BufferPool
    private let bufferRingCount: Int
    /// Buffers in the ring, in order; those before `offeredHead` were taken.
    var offered: [UInt32] = []
    var offeredHead = 0
    var isOffered: [Bool]

    var clock: UInt64 = 1_000_000_000
    var schedule = SimulatedSchedule()
    var ready: [Completion] = []
    var inFlight: [UInt64: SimulatedOperation] = [:]
    private let wakeFlag = WakeFlag()
    private(set) var counts = DriverFigures()
    var nextConnectionID: Int
    var nextLocalPort: UInt16 = 32_768

    enum Entry {
        case listener(SimulatedListener)
        case connection(SimulatedConnection)
        case connecting(SimulatedConnect)
    }
    /// By descriptor.
    var sockets: [Entry?] = []
    var freeDescriptors: [Int] = []
    var listeners: [SocketAddress: SimulatedListener] = [:]
    /// Sockets that exist.
    package internal(set) var openCount = 0
    /// All the connections there ever were, in the order in which they began.
    package internal(set) var connections: [SimulatedConnection] = []
    /// Connections that the worker was given.
    package internal(set) var acceptedCount = 0
    /// Set: every operation and completion is told.
    package var trace: ((String) -> Void)?

    private final class WakeFlag: Sendable {
        let isSet = Atomic<Bool>(false)
    }

    /// `bufferRingCount`: buffers of the pool that stand ready for receives at most. `index` is the worker's.
    package init(
        pool: BufferPool, bufferRingCount: Int, seed: UInt64, faults: SimulatedFaults = SimulatedFaults(),
        index: Int = 0
    ) {
        self.pool = pool
        self.bufferRingCount = bufferRingCount
        self.seed = seed &+ UInt64(index) << 48
        self.faults = faults
        nextConnectionID = index << 20
        random = SimulatedRandom(seed: self.seed ^ 0x6b65_726e_656c)
        isOffered = Array(repeating: false, count: pool.largeCount)
    }

    /// An operation that breaks a rule is left undone.
    struct BrokenRule: Error {}

    func broken(_ rule: String) -> BrokenRule {
        guard let onBrokenRule else { preconditionFailure("the engine broke a rule on seed \(seed): \(rule)") }
        onBrokenRule("a rule is broken: \(rule)")
        return BrokenRule()
    }

    // MARK: Driver

    package func now() -> Instant { Instant(nanoseconds: clock) }

    /// The simulated day is one in 2023.
    package func wallClockOffset() -> UInt64 { 1_700_000_000_000_000_000 }

    package var figures: DriverFigures {
        var figures = counts
        figures.offeredBufferCount = offered.count - offeredHead
        return figures
    }

    package var wake: @Sendable () -> Void {
        let flag = wakeFlag
        return { flag.isSet.store(true, ordering: .relaxed) }
    }

    package func peerAddress(of socket: Socket) -> SocketAddress? {
        guard let connection = try? connection(socket, "getpeername") else { return nil }
        return connection.resetArrivedAt == nil ? connection.farAddress : nil
    }

    package func localAddress(of socket: Socket) -> SocketAddress? {
        (try? connection(socket, "getsockname"))?.nearAddress
    }

    /// Nobody is redirected.
    package func originalDestination(of socket: Socket) -> SocketAddress? { localAddress(of: socket) }

    package func acceptWaiting(on listener: Socket) -> Socket? {
        guard case .listener(let listener) = try? entry(listener, "accept4") else {
            _ = broken("accept4 on no listener")
            return nil
        }
        guard hasDescriptor, !listener.waiting.isEmpty else { return nil }
        listener.waitsSince = now()
        let connection = listener.waiting.removeFirst()
        connection.socket = open(.connection(connection))
        connection.openedAt = now()
        connection.movedAt = now()
        acceptedCount += 1
        return connection.socket
    }

    /// The last turn whose operations have been taken.
    private var submittedTurn: UInt64 = 0
    private var jumpedAt: UInt64 = 0

    package func turn(
        _ operations: inout [Operation], into completions: inout [Completion], until deadline: Instant
    ) -> Instant {
        counts.enterCount += 1
        clock += random.within(faults.turnTime)
        if random.chance(faults.stall) {
            tally.add(.stall)
            clock += random.within(faults.stallTime)
        }
        runDueEvents()
        offerBuffers()
        for operation in operations { try? submit(operation) }
        submittedTurn = counts.enterCount
        operations.removeAll(keepingCapacity: true)
        runDueEvents()
        let end = min(deadline, horizon).nanoseconds
        while ready.isEmpty && !isWoken() && clock < end {
            clock = max(clock, min(schedule.nextTime ?? .max, end))
            runDueEvents()
        }
        if let trace { for completion in ready { trace("\(now().story)   done  \(completion.story)") } }
        completions.append(contentsOf: ready)
        ready.removeAll(keepingCapacity: true)
        return now()
    }

    private func isWoken() -> Bool {
        guard wakeFlag.isSet.exchange(false, ordering: .relaxed) else { return false }
        guard random.chance(faults.lostWake) else { return true }
        tally.add(.lostWake)
        return false
    }

    /// Tells of completions that did not fit their queue; the engine hears of it after its turn (U-04).
    package func overflow() { counts.overflowCount += 1 }

    /// Moves the clock on as if the machine had slept.
    package func jump(_ nanoseconds: UInt64) {
        jumpedAt = clock + nanoseconds
        tally.add(.clockJump)
        clock += nanoseconds
    }

    /// Has the world called at a moment; one that is over comes at once.
    package func call(_ number: Int, at moment: Instant) { schedule.add(.world(number), at: moment.nanoseconds) }

    private func runDueEvents() {
        while let (time, event) = schedule.pop(dueAt: clock) { run(event, time) }
    }

    private func run(_ event: SimulatedEvent, _ time: UInt64) {
        switch event {
        case .receive(let connection): receive(connection)
        case .send(let connection): send(connection)
        case .pump(let operation): pump(operation)
        case .accept(let listener): accept(listener)
        case .connect(let operation): connect(operation)
        case .cancel(let operation): cancel(operation)
        case .inbound(let connection, let count):
            connection.arrivedCount += count
            if connection.closedAt != nil {
                tally.add(.bytesAfterClose)
                answerWithReset(connection)
            }
            receiveSoon(connection)
        case .inboundEnd(let connection):
            connection.endArrived = true
            tally.add(connection.isUpstream ? .upstreamEnd : .clientEnd)
            receiveSoon(connection)
            look(connection)
        case .inboundReset(let connection):
            connection.resetArrivedAt = now()
            tally.add(connection.hasVanished ? .vanished : connection.isUpstream ? .upstreamReset : .clientReset)
            connection.pendingError = connection.hasVanished ? ETIMEDOUT : ECONNRESET
            receiveSoon(connection)
            sendSoon(connection)
            look(connection)
        case .outbound(let connection, let count):
            guard connection.resetArrivedAt == nil, !connection.hasFarReset else { return }
            connection.deliveredCount += count
            world?.changed(connection)
        case .outboundEnd(let connection):
            connection.sawEndAt = now()
            world?.changed(connection)
        case .outboundReset(let connection):
            if connection.sawResetAt == nil { connection.sawResetAt = now() }
            world?.changed(connection)
        case .push(let connection):
            guard connection.heldBackCount > 0, clock - connection.heldBackSince >= Self.holdBackTime else { return }
            // Where the clock has jumped meanwhile, or more is on its way, the worker has not had its say yet.
            if connection.heldBackSince >= jumpedAt, submittedTurn > connection.heldBackTurn,
                connection.sending == nil
            {
                _ = broken(
                    "\(connection.heldBackCount) bytes of connection \(connection.id) were held back for nothing")
            }
            push(connection)
        case .client(let connection): arrive(connection)
        case .world(let number): world?.momentCame(number)
        }
    }

    // MARK: Buffers

    private func offerBuffers() {
        if offeredHead > 0 {
            offered.removeFirst(offeredHead)
            offeredHead = 0
        }
        while offered.count < bufferRingCount, let buffer = pool.takeLarge() {
            offered.append(buffer)
            isOffered[Int(buffer)] = true
        }
    }

    func takeOffered() -> UInt32? {
        guard offeredHead < offered.count else { return nil }
        let buffer = offered[offeredHead]
        offeredHead += 1
        isOffered[Int(buffer)] = false
        return buffer
    }

    // MARK: Descriptors

    var hasDescriptor: Bool { openCount < descriptorLimit && !random.chance(faults.noDescriptor) }

    func open(_ entry: Entry) -> Socket {
        openCount += 1
        if faults.reusesDescriptors, let free = freeDescriptors.min(), let place = freeDescriptors.firstIndex(of: free)
        {
            tally.add(.reusedDescriptor)
            freeDescriptors.remove(at: place)
            sockets[free] = entry
            return Socket(rawValue: Int32(free))
        }
        sockets.append(entry)
        return Socket(rawValue: Int32(sockets.count - 1))
    }

    func free(_ socket: Socket) {
        sockets[Int(socket.rawValue)] = nil
        freeDescriptors.append(Int(socket.rawValue))
        openCount -= 1
    }

    func entry(_ socket: Socket, _ use: String) throws(BrokenRule) -> Entry {
        let index = Int(socket.rawValue)
        guard index >= 0, index < sockets.count else { throw broken("\(use) on \(socket), which never was") }
        guard let entry = sockets[index] else { throw broken("\(use) on \(socket), which is closed") }
        return entry
    }

    func connection(_ socket: Socket, _ use: String) throws(BrokenRule) -> SimulatedConnection {
        guard case .connection(let connection) = try entry(socket, use) else {
            throw broken("\(use) on \(socket), which is no connection")
        }
        return connection
    }

    // MARK: Operations

    private func submit(_ operation: Operation) throws(BrokenRule) {
        if let trace { trace("\(now().story) asked  \(operation.story)") }
        let token = operation.token
        switch operation.action {
        case .accept(let socket):
            guard case .listener(let listener) = try entry(socket, "accept") else {
                throw broken("accept on \(socket), which is no listener")
            }
            if listener.accepting != nil { throw broken("two accepts in flight on \(socket)") }
            listener.accepting = try start(token, .accept(listener))
            acceptSoon(listener)
        case .connect(let destination, let source, _, _, _):
            try startConnect(token, destination, source)
        case .receive(let socket, let isContinuing):
            let connection = try connection(socket, "receive")
            if connection.receiving != nil { throw broken("two receives in flight on \(socket)") }
            connection.receiving = try start(token, .receive(connection, isContinuing: isContinuing))
            // The kernel looks for a buffer before it looks for bytes.
            if offeredHead == offered.count { receive(connection) } else { receiveSoon(connection) }
        case .send(let socket, let payload):
            let connection = try connection(socket, "send")
            if connection.sending != nil { throw broken("two sends in flight on \(socket)") }
            if connection.hasNearEnded { throw broken("a send on \(socket), whose sending side was shut down") }
            try check(payload)
            if connection.mayDelaySends {
                if connection.hasSmallSend { throw broken("a send on \(socket) that may wait for an acknowledgement") }
                connection.hasSmallSend = !payload.more
            }
            connection.sending = try start(token, .send(connection, payload))
            sendSoon(connection)
        case .pump(let from, let to):
            try startPump(token, from, to)
        case .stopPump(let target):
            try stopPump(target)
        case .watch(let socket):
            let connection = try connection(socket, "watch")
            if connection.watching != nil { throw broken("two watches in flight on \(socket)") }
            connection.watching = try start(token, .watch(connection))
            look(connection)
        case .cancel(let target):
            guard let found = inFlightOperation(target) else { return }
            switch found.kind {
            case .connect, .watch: throw broken("a connect or watch was cancelled as something else")
            case .accept, .receive, .send, .pump: cancelSoon(found)
            }
        case .cancelConnect(let target):
            guard let found = inFlightOperation(target) else { return }
            guard case .connect = found.kind else { throw broken("cancelConnect of something else") }
            cancelSoon(found)
        case .cancelWatch(let target):
            guard let found = inFlightOperation(target) else { return }
            guard case .watch = found.kind else { throw broken("cancelWatch of something else") }
            cancelSoon(found)
        case .noDelay(let socket):
            let connection = try connection(socket, "noDelay")
            if !connection.mayDelaySends && !connection.mayHoldBack {
                throw broken("noDelay on \(socket), which delays nothing")
            }
            connection.mayDelaySends = false
            push(connection)
        case .shutdown(let socket):
            let connection = try connection(socket, "shutdown")
            if connection.sending != nil { throw broken("shutdown of \(socket) before its send was home") }
            if connection.hasNearEnded { throw broken("two shutdowns of \(socket)") }
            connection.hasNearEnded = true
            sendEnd(connection)
            look(connection)
        case .close(let socket): try close(socket, reset: false)
        case .reset(let socket):
            if case .connection(let connection) = try entry(socket, "reset") { push(connection) }
            try close(socket, reset: true)
        }
    }

    func start(_ token: Token, _ kind: SimulatedOperation.Kind) throws(BrokenRule) -> SimulatedOperation {
        if token == .silent { throw broken("an operation that completes has the silent token") }
        let operation = SimulatedOperation(token, kind)
        if inFlight.updateValue(operation, forKey: token.rawValue) != nil {
            throw broken("\(token) is in flight twice")
        }
        return operation
    }

    /// Takes the operation out of flight.
    func end(_ operation: SimulatedOperation) {
        precondition(operation.isInFlight)
        operation.isInFlight = false
        inFlight[operation.token.rawValue] = nil
        switch operation.kind {
        case .accept(let listener): listener.accepting = nil
        case .receive(let connection, _): connection.receiving = nil
        case .send(let connection, _): connection.sending = nil
        case .watch(let connection): connection.watching = nil
        case .pump(let source, let destination):
            source.receiving = nil
            destination.sending = nil
        case .connect: break
        }
    }

    func post(
        _ operation: SimulatedOperation, _ result: Int32, buffer: UInt32 = BufferPool.none, hasMore: Bool = false,
        isOfDestination: Bool = false, isBeforeEnd: Bool = false
    ) {
        if !hasMore { end(operation) }
        if operation.isCancelled && result >= 0 { tally.add(operation.despiteCancel) }
        ready.append(
            Completion(
                token: operation.token, result: result, buffer: buffer, hasMore: hasMore,
                isOfDestination: isOfDestination, isBeforeEnd: isBeforeEnd))
    }

    func soon() -> UInt64 { clock + random.within(faults.delay) }

    // MARK: Cancelling

    private func inFlightOperation(_ target: Token) -> SimulatedOperation? {
        let found = inFlight[target.rawValue]
        if found == nil { tally.add(.cancelTooLate) }
        return found
    }

    private func cancelSoon(_ operation: SimulatedOperation) {
        guard !operation.isCancelled else { return }
        operation.isCancelled = true
        schedule.add(.cancel(operation), at: soon())
    }

    private func cancel(_ operation: SimulatedOperation) {
        guard operation.isInFlight else { return }
        if random.chance(faults.lostCancel) {
            switch operation.kind {
            case .accept(let listener): accept(listener)
            case .receive(let connection, _): receive(connection)
            case .send(let connection, _): send(connection)
            case .connect: connect(operation)
            case .pump: pump(operation)
            case .watch: break
            }
            guard operation.isInFlight else { return }
        }
        switch operation.kind {
        case .connect(let attempt): free(attempt.socket)
        case .send where operation.sentCount > 0:
            post(operation, Int32(operation.sentCount))
            return
        case .accept, .receive, .send, .watch, .pump: break
        }
        tally.add(.cancelWon)
        post(operation, -ECANCELED)
    }
}
