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
    /// A wait ends here at the latest, as if somebody had called for nothing.
    package var horizon = Instant.distantFuture
    /// Hears of the rules that the engine breaks; none: they trap.
    package var onBrokenRule: ((String) -> Void)?
    package private(set) var tally = SimulatedTally()
    package weak var world: (any SimulatedWorld)?

    let pool: BufferPool
    private let bufferRingCount: Int
    /// Buffers in the ring, in order; those before `offeredHead` were taken.
    private var offered: [UInt32] = []
    private var offeredHead = 0
    private var isOffered: [Bool]

    private var clock: UInt64 = 1_000_000_000
    private var schedule = SimulatedSchedule()
    private var ready: [Completion] = []
    private(set) var inFlight: [UInt64: SimulatedOperation] = [:]
    private let wakeFlag = WakeFlag()
    private var counts = DriverFigures()
    private var nextConnectionID: Int
    private var nextLocalPort: UInt16 = 32_768

    enum Entry {
        case listener(SimulatedListener)
        case connection(SimulatedConnection)
        case connecting(SimulatedConnect)
    }
    /// By descriptor.
    private(set) var sockets: [Entry?] = []
    private var freeDescriptors: [Int] = []
    private var listeners: [SocketAddress: SimulatedListener] = [:]
    /// Sockets that exist.
    package private(set) var openCount = 0
    /// All the connections there ever were, in the order in which they began.
    package private(set) var connections: [SimulatedConnection] = []
    /// Connections that the worker was given.
    package private(set) var acceptedCount = 0
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
    private struct BrokenRule: Error {}

    private func broken(_ rule: String) -> BrokenRule {
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

    private func takeOffered() -> UInt32? {
        guard offeredHead < offered.count else { return nil }
        let buffer = offered[offeredHead]
        offeredHead += 1
        isOffered[Int(buffer)] = false
        return buffer
    }

    // MARK: Descriptors

    private var hasDescriptor: Bool { openCount < descriptorLimit && !random.chance(faults.noDescriptor) }

    private func open(_ entry: Entry) -> Socket {
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

    private func free(_ socket: Socket) {
        sockets[Int(socket.rawValue)] = nil
        freeDescriptors.append(Int(socket.rawValue))
        openCount -= 1
    }

    private func entry(_ socket: Socket, _ use: String) throws(BrokenRule) -> Entry {
        let index = Int(socket.rawValue)
        guard index >= 0, index < sockets.count else { throw broken("\(use) on \(socket), which never was") }
        guard let entry = sockets[index] else { throw broken("\(use) on \(socket), which is closed") }
        return entry
    }

    private func connection(_ socket: Socket, _ use: String) throws(BrokenRule) -> SimulatedConnection {
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
        case .connect(let destination, let source):
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
            connection.sending = try start(token, .send(connection, payload))
            sendSoon(connection)
        case .watch(let socket):
            let connection = try connection(socket, "watch")
            if connection.watching != nil { throw broken("two watches in flight on \(socket)") }
            connection.watching = try start(token, .watch(connection))
            look(connection)
        case .cancel(let target):
            guard let found = inFlightOperation(target) else { return }
            switch found.kind {
            case .connect, .watch: throw broken("a connect or watch was cancelled as something else")
            case .accept, .receive, .send: cancelSoon(found)
            }
        case .cancelConnect(let target):
            guard let found = inFlightOperation(target) else { return }
            guard case .connect = found.kind else { throw broken("cancelConnect of something else") }
            cancelSoon(found)
        case .cancelWatch(let target):
            guard let found = inFlightOperation(target) else { return }
            guard case .watch = found.kind else { throw broken("cancelWatch of something else") }
            cancelSoon(found)
        case .shutdown(let socket):
            let connection = try connection(socket, "shutdown")
            if connection.sending != nil { throw broken("shutdown of \(socket) before its send was home") }
            if connection.hasNearEnded { throw broken("two shutdowns of \(socket)") }
            connection.hasNearEnded = true
            sendEnd(connection)
            look(connection)
        case .close(let socket): try close(socket, reset: false)
        case .reset(let socket): try close(socket, reset: true)
        }
    }

    private func start(_ token: Token, _ kind: SimulatedOperation.Kind) throws(BrokenRule) -> SimulatedOperation {
        if token == .silent { throw broken("an operation that completes has the silent token") }
        let operation = SimulatedOperation(token, kind)
        if inFlight.updateValue(operation, forKey: token.rawValue) != nil {
            throw broken("\(token) is in flight twice")
        }
        return operation
    }

    /// Takes the operation out of flight.
    private func end(_ operation: SimulatedOperation) {
        precondition(operation.isInFlight)
        operation.isInFlight = false
        inFlight[operation.token.rawValue] = nil
        switch operation.kind {
        case .accept(let listener): listener.accepting = nil
        case .receive(let connection, _): connection.receiving = nil
        case .send(let connection, _): connection.sending = nil
        case .watch(let connection): connection.watching = nil
        case .connect: break
        }
    }

    private func post(
        _ operation: SimulatedOperation, _ result: Int32, buffer: UInt32 = BufferPool.none, hasMore: Bool = false
    ) {
        if !hasMore { end(operation) }
        if operation.isCancelled && result >= 0 { tally.add(operation.despiteCancel) }
        ready.append(Completion(token: operation.token, result: result, buffer: buffer, hasMore: hasMore))
    }

    private func soon() -> UInt64 { clock + random.within(faults.delay) }

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
            case .watch: break
            }
            guard operation.isInFlight else { return }
        }
        switch operation.kind {
        case .connect(let attempt): free(attempt.socket)
        case .send where operation.sentCount > 0:
            post(operation, Int32(operation.sentCount))
            return
        case .accept, .receive, .send, .watch: break
        }
        tally.add(.cancelWon)
        post(operation, -ECANCELED)
    }

    // MARK: Receiving

    private func receiveSoon(_ connection: SimulatedConnection) {
        guard connection.receiving != nil, !connection.isReceiveDue else { return }
        connection.isReceiveDue = true
        schedule.add(.receive(connection), at: soon())
    }

    /// Goes as far as a receive can: one chunk, or an end, or nothing.
    private func receive(_ connection: SimulatedConnection) {
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
        post(operation, Int32(count), buffer: buffer, hasMore: hasMore)
        world?.changed(connection)
        if hasMore { receiveSoon(connection) }
    }

    // MARK: Sending

    private func check(_ payload: Payload) throws(BrokenRule) {
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

    private func sendSoon(_ connection: SimulatedConnection) {
        guard connection.sending != nil, !connection.isSendDue else { return }
        connection.isSendDue = true
        schedule.add(.send(connection), at: soon())
    }

    /// Goes as far as a send can. As with MSG_WAITALL it waits until all is taken, unless something comes between.
    private func send(_ connection: SimulatedConnection) {
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

    private func take(_ connection: SimulatedConnection, _ payload: Payload, from start: Int, _ count: Int) {
        // Until it is home the payload belongs to the kernel, which reads it again and again.
        do { try check(payload) } catch { return }
        let first = Int(payload.offset) + start
        let taken = first..<first + count
        pool.withBytes(of: payload.buffer, taken) { connection.received.append(copying: $0) }
        schedule.add(.outbound(connection, taken.count), at: outboundArrival(connection))
    }

    private func outboundArrival(_ connection: SimulatedConnection) -> UInt64 {
        connection.lastOutboundArrival = max(connection.lastOutboundArrival, clock + random.within(faults.latency))
        return connection.lastOutboundArrival
    }

    private func inboundArrival(_ connection: SimulatedConnection) -> UInt64 {
        connection.lastInboundArrival = max(connection.lastInboundArrival, clock + random.within(faults.latency))
        return connection.lastInboundArrival
    }

    private func sendEnd(_ connection: SimulatedConnection) {
        schedule.add(.outboundEnd(connection), at: outboundArrival(connection))
    }

    private func sendReset(_ connection: SimulatedConnection) {
        if connection.nearResetAt == nil { connection.nearResetAt = now() }
        schedule.add(.outboundReset(connection), at: outboundArrival(connection))
    }

    // MARK: Watching

    /// A watch is over when the connection was reset or has ended in both directions.
    private func look(_ connection: SimulatedConnection) {
        guard let operation = connection.watching else { return }
        if connection.pendingError != 0 {
            // Linux leaves the error for the next call that asks for it.
            post(operation, -connection.pendingError)
        } else if connection.resetArrivedAt != nil || (connection.endArrived && connection.hasNearEnded) {
            post(operation, 0)
        }
    }

    // MARK: Closing

    private func close(_ socket: Socket, reset: Bool) throws(BrokenRule) {
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

    private func answerWithReset(_ connection: SimulatedConnection) {
        if connection.nearResetAt == nil { sendReset(connection) }
    }

    // MARK: Accepting

    /// Makes a listening socket for the worker.
    package func listen(on address: SocketAddress) -> Socket {
        precondition(listeners[address] == nil, "\(address) is listened on")
        let listener = SimulatedListener(address: address)
        listeners[address] = listener
        return open(.listener(listener))
    }

    private func arrive(_ connection: SimulatedConnection) {
        guard let listener = listeners[connection.nearAddress] else {
            connection.closedAt = now()
            sendReset(connection)
            return
        }
        if listener.waiting.isEmpty { listener.waitsSince = now() }
        listener.waiting.append(connection)
        acceptSoon(listener)
    }

    private func acceptSoon(_ listener: SimulatedListener) {
        guard listener.accepting != nil, !listener.isDue, !listener.waiting.isEmpty else { return }
        listener.isDue = true
        schedule.add(.accept(listener), at: soon())
    }

    private func accept(_ listener: SimulatedListener) {
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

    private func startConnect(
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

    private func connect(_ operation: SimulatedOperation) {
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

    private func makeConnection(near: SocketAddress, far: SocketAddress, isUpstream: Bool) -> SimulatedConnection {
        let connection = SimulatedConnection(
            id: nextConnectionID, near: near, far: far, isUpstream: isUpstream,
            inboundWindow: Int(random.within(faults.windowByteCount)),
            outboundWindow: Int(random.within(faults.windowByteCount)))
        nextConnectionID += 1
        connections.append(connection)
        return connection
    }

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
