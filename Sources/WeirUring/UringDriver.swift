import CWeir
import Glibc
import WeirIO
import WeirMemory
import WeirNet
import WeirSockets

/// The kernel through io_uring: one ring per worker thread.
///
/// Set up as measured best for short connections and messages: SINGLE_ISSUER, DEFER_TASKRUN and COOP_TASKRUN; plain
/// blocking descriptors; buffers from one ring that the pool refills. Needs Linux 6.1.
///
/// The ring is made disabled by whoever calls `init` and enabled by `start` or the first `turn`, because a ring with
/// SINGLE_ISSUER belongs to the thread that enables it. Make it on that thread where you can, and let the last
/// reference go there: elsewhere nothing can be cancelled.
@safe
package final class UringDriver: Driver {
    let ring: Ring
    private let pool: BufferPool
    private let buffers: BufferRing
    private let wakeEvent: WakeEvent
    /// One per submission entry, so that an address lives as long as the entry that points to it: the kernel copies
    /// it when it takes the entry, which is in a later turn when memory is short.
    private let addresses: UnsafeMutablePointer<sockaddr_storage>
    /// Connects, watches and sends in flight, two of each per slot of the engine.
    private let connects: FlatArray<Int32>
    let watches: WatchTable
    private let sends: SendTable
    let pumps: PumpTable
    let pumpOperations: FlatArray<PumpOperations>
    let carriers: CarrierPool
    let spliceMethod: SpliceMethod
    private let acceptsOneByOne: Bool
    /// Until the kernel, or a security module, refuses one.
    private var hasSocketCommands: Bool
    private let settings: ConnectionSettings
    /// The kind of the engine's accepts, once it has asked for one.
    private var acceptKind = UringDriver.closeKind
    /// The odd one of the engine's two kinds of pumps, likewise.
    private var pumpKind = UringDriver.closeKind
    /// The kernel holds the ring to `RingRules`. Where it cannot, the ring does as well without.
    package let isRestricted: Bool
    private var isEnabled = false
    private var owner = pthread_t()
    /// Operations of the engine that have not completed for good.
    private var inFlightCount = 0
    /// Watches whose poll the kernel has ended early; the next turn starts it again.
    private var endedWatches: [Token] = []
    /// Sends that wait for room, likewise.
    private var endedPolls: [Token] = []
    /// How long a send waits that finds no room where there seems to be some.
    let pauseTime: UnsafeMutablePointer<__kernel_timespec>
    /// Failures found while preparing an operation, delivered with the next completions.
    var immediate: [Completion] = []

    /// `completionCount`: room for completions; four times the operations in flight is safe (clamped to 65,536 above,
    /// four times `submissionCount` below).
    /// `slotCount`: the engine's tokens of connects, watches and sends have an index below it.
    /// `submissionCount`: submission entries. A batch that needs more is handed over in parts.
    /// `wake`: what others wake it by; nil makes one.
    /// `settings`: of the sockets that it accepts and connects.
    /// `carriers`: of pumps; the default has none, and every pump ends for want of one.
    package init(
        pool: BufferPool, slotCount: Int, completionCount: Int, bufferRingCount: Int = 256,
        submissionCount: UInt32 = 1024, kernel: KernelRelease = .current(), wake: WakeEvent? = nil,
        settings: ConnectionSettings = ConnectionSettings(), carriers: CarrierPool = CarrierPool(),
        spliceMethod: SpliceMethod = .direct
    ) throws(DriverSetupFailure) {
        precondition(pool.largeCount <= 1 << 16, "a completion names a buffer by 16 bits")
        precondition(bufferRingCount > 0 && bufferRingCount & (bufferRingCount - 1) == 0)
        let wakeEvent: WakeEvent
        if let wake { wakeEvent = wake } else { wakeEvent = try WakeEvent() }
        ring = try Ring(entryCount: submissionCount, completionCount: completionCount)
        buffers = try BufferRing(capacity: bufferRingCount, in: ring)
        // From here on nothing fails.
        self.pool = pool
        self.wakeEvent = wakeEvent
        unsafe addresses = UnsafeMutablePointer<sockaddr_storage>.allocate(capacity: ring.entryCount)
        unsafe pauseTime = UnsafeMutablePointer<__kernel_timespec>.allocate(capacity: 1)
        unsafe pauseTime.initialize(to: __kernel_timespec(tv_sec: 0, tv_nsec: 10_000_000))
        connects = FlatArray(repeating: -1, count: slotCount * 2)
        watches = WatchTable(count: slotCount * 2)
        sends = SendTable(count: slotCount * 2)
        pumps = PumpTable(placeCount: slotCount * 2, carriers: carriers)
        pumpOperations = FlatArray(repeating: PumpOperations(), count: carriers.countMax)
        self.carriers = carriers
        self.spliceMethod = spliceMethod
        acceptsOneByOne = kernel.losesAcceptedSockets
        hasSocketCommands = kernel.hasSocketCommands
        self.settings = settings
        immediate.reserveCapacity(64)
        let code = unsafe RingRules.apply(
            to: ring.pointer, splices: spliceMethod == .ring, setsOptions: kernel.hasSocketCommands)
        isRestricted = code == 0
    }

    /// The memory of a driver's rings that counts as locked where the kernel counts it (before Linux 5.12, and again from
    /// 6.14 on), in whole pages: heads, completions and the index of submissions; submissions; the buffer ring.
    package static func lockedByteCount(submissionCount: Int, completionCount: Int, bufferRingCount: Int) -> Int {
        let parts = [
            512 + completionCount * 16 + submissionCount * 4, submissionCount * 64,
            BufferRing.byteCount(capacity: bufferRingCount),
        ]
        return parts.reduce(0) { $0 + ($1 + 4095) / 4096 * 4096 }
    }

    deinit {
        if !bringHome() {
            // What the kernel may still write to, or take from, is never given to anybody else.
            unsafe _ = Unmanaged.passRetained(pool)
            unsafe _ = Unmanaged.passRetained(buffers)
        }
        unsafe addresses.deallocate()
        unsafe pauseTime.deallocate()
        for place in connects.indices where connects[place] >= 0 { Glibc.close(connects[place]) }
        connects.deallocate()
        watches.deallocate()
        sends.deallocate()
        pumpOperations.deallocate()
    }

    /// Ends what is in flight, so that the kernel writes to no buffer any more: closing the ring only asks for that.
    /// False where it cannot be known.
    private func bringHome() -> Bool {
        guard inFlightCount > 0 else { return true }
        // The ring takes cancels from its own thread only.
        guard pthread_equal(owner, pthread_self()) != 0 else { return false }
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_cancel64(entry, 0, Int32(IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL))
        unsafe entry.pointee.user_data = Token.silent.rawValue
        guard ring.submit() >= 0 else { return false }
        for _ in 0..<10 where inFlightCount > 0 {
            ring.submitAndWait(nanoseconds: 100_000_000)
            // Only counted. A socket that connected stays in `connects`; none is accepted after the cancel.
            for _ in 0..<ring.readyCount {
                let entry = ring.takeCompletion()
                let kind = Token(rawValue: entry.user_data).kind
                let isOver = entry.flags & UInt32(IORING_CQE_F_MORE) == 0
                let isOurs = kind == Token.silent.kind || kind == Self.wakeKind || kind == Self.commandKind
                if isOver && !isOurs { inFlightCount -= 1 }
            }
        }
        return inFlightCount == 0
    }

    package func now() -> Instant { Instant(nanoseconds: cweir_monotonic_ns()) }

    package func wallClockOffset() -> UInt64 { cweir_realtime_ns() &- cweir_monotonic_ns() }

    package func peerAddress(of socket: Socket) -> SocketAddress? { SocketNames.peer(of: socket.rawValue) }

    package func localAddress(of socket: Socket) -> SocketAddress? { SocketNames.local(of: socket.rawValue) }

    package func originalDestination(of socket: Socket) -> SocketAddress? {
        SocketNames.originalDestination(of: socket.rawValue)
    }

    package var figures: DriverFigures {
        var figures = DriverFigures()
        figures.overflowCount = ring.overflowCount
        figures.enterCount = ring.enterCount
        figures.offeredBufferCount = buffers.offeredCount
        return figures
    }

    package var wake: @Sendable () -> Void {
        let event = wakeEvent
        return { event.signal() }
    }

    package func acceptWaiting(on listener: Socket) -> Socket? {
        var peer = sockaddr_storage()
        let descriptor = unsafe cweir_accept_waiting(listener.rawValue, &peer, 0)
        guard descriptor >= 0 else { return nil }
        settings.apply(toAccepted: descriptor)
        return Socket(rawValue: descriptor)
    }

    // MARK: A turn

    package func turn(
        _ operations: inout [Operation], into completions: inout [Completion], until deadline: Instant
    ) -> Instant {
        if !isEnabled {
            do throws(DriverSetupFailure) { try start() } catch {
                preconditionFailure("\(error.step) failed with \(error.code)")
            }
        }
        offerBuffers()
        if !endedWatches.isEmpty || !endedPolls.isEmpty { pollAgain() }
        for operation in operations { prepare(operation) }
        operations.removeAll(keepingCapacity: true)
        // What failed while it was prepared is news already, and a pump that has something to do does not wait.
        let mustWait = immediate.isEmpty && !pumps.hasQueue
        ring.submitAndWait(nanoseconds: mustWait ? deadline.nanoseconds(since: now()) : 0)
        reap(into: &completions)
        if pumps.hasQueue { runPumps(into: &completions) }
        if !immediate.isEmpty {
            completions.append(contentsOf: immediate)
            immediate.removeAll(keepingCapacity: true)
        }
        return now()
    }

    /// Enables the ring on the calling thread, to which it belongs from now on, and enters it. The first turn does so
    /// where nobody has; who calls it before hears of a refusal while there is still a choice.
    package func start() throws(DriverSetupFailure) {
        precondition(!isEnabled, "a ring is started once")
        // Nothing needs a kernel thread but splices through the ring, of which each may wait for a slow reader.
        try ring.enable(threadCountMax: spliceMethod == .ring ? max(carriers.pipeCountMax, 4) : 4)
        isEnabled = true
        owner = pthread_self()
        armWakeUp()
        let submitted = ring.submit()
        guard submitted >= 0 else { throw DriverSetupFailure(step: "io_uring_enter", code: -submitted) }
    }

    private func armWakeUp() {
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_poll_multishot(entry, wakeEvent.descriptor, UInt32(POLLIN))
        unsafe entry.pointee.user_data = Token(kind: Self.wakeKind, index: 0, generation: 0).rawValue
    }

    /// Tops the buffer ring up from the pool, most recently used first.
    private func offerBuffers() {
        while !buffers.isFull, let buffer = pool.takeLarge() {
            unsafe buffers.offer(
                UInt16(buffer), at: pool.address(of: buffer), byteCount: BufferPool.largeByteCount)
        }
        buffers.publish()
    }

    private func reap(into completions: inout [Completion]) {
        repeat {
            for _ in 0..<ring.readyCount {
                let entry = ring.takeCompletion()
                complete(entry.user_data, entry.res, entry.flags, into: &completions)
            }
        } while ring.flushOverflow()
    }

    // The top two bits of a token's kind are the driver's: watches, connects and the polls of sends that wait for room
    // pass through it on their way. The engine's kinds stay below the driver's own three.
    static let watchMask: UInt64 = 1 << 63
    static let connectMask: UInt64 = 1 << 62
    static let roomMask: UInt64 = watchMask | connectMask
    private static let wakeKind: UInt8 = 0x3f
    private static let closeKind: UInt8 = 0x3e
    private static let commandKind: UInt8 = 0x3d
    private static let kindMask: UInt8 = 0x3f

    private func complete(_ userData: UInt64, _ result: Int32, _ flags: UInt32, into completions: inout [Completion]) {
        let token = Token(rawValue: userData)
        let hasMore = flags & UInt32(IORING_CQE_F_MORE) != 0
        // A cancel that came too late.
        if token == .silent { return }
        if token.kind == Self.wakeKind {
            wakeEvent.drain()
            if !hasMore { armWakeUp() }
            return
        }
        if token.kind == Self.commandKind {
            hasSocketCommands = false
            return
        }
        precondition(token.kind != Self.closeKind, "close of descriptor \(token.index) failed with \(-result)")
        if !hasMore { inFlightCount -= 1 }
        if token.kind & Self.kindMask | 1 == pumpKind {
            let token = Token(rawValue: userData & ~Self.roomMask)
            completePump(token, userData & Self.roomMask, result, hasMore: hasMore)
            return
        }
        if userData & Self.roomMask == Self.roomMask {
            let token = Token(rawValue: userData & ~Self.roomMask)
            take(sends.polled(place(token), result, hasMore: hasMore), token, into: &completions)
            return
        }
        if userData & Self.watchMask != 0 {
            completeWatch(Token(rawValue: userData & ~Self.watchMask), result, hasMore, into: &completions)
            return
        }
        if userData & Self.connectMask != 0 {
            completeConnect(Token(rawValue: userData & ~Self.connectMask), result, into: &completions)
            return
        }
        if sends.contains(place(token), token) {
            take(sends.sent(place(token), result), token, into: &completions)
            return
        }
        if token.kind == acceptKind, result >= 0 { settings.apply(toAccepted: result) }
        var buffer = BufferPool.none
        if flags & UInt32(IORING_CQE_F_BUFFER) != 0 {
            buffer = flags >> UInt32(IORING_CQE_BUFFER_SHIFT)
            buffers.taken()
            if result > 0 {
                pool.chunks[Int(buffer)].begin = 0
                pool.chunks[Int(buffer)].end = UInt32(result)
            } else {
                pool.release(buffer)
                buffer = BufferPool.none
            }
        }
        // RS-06: no end, but a reset.
        let failure = result == 0 ? takenError(place(token)) : nil
        // A receive that leaves room in its buffer has taken all bytes, so what is left to receive is most likely the end: it
        // may be an urgent byte.
        let isBeforeEnd =
            flags & UInt32(IORING_CQE_F_SOCK_NONEMPTY) != 0 && result > 0 && result < BufferPool.largeByteCount
        completions.append(
            Completion(
                token: token, result: failure ?? result, buffer: buffer, hasMore: hasMore, isBeforeEnd: isBeforeEnd))
    }

    // MARK: Operations into entries

    private func prepare(_ operation: Operation) {
        let token = operation.token.rawValue
        switch operation.action {
        case .accept(let socket):
            acceptKind = operation.token.kind
            let entry = unsafe ring.nextEntry()
            let flags = Int32(SOCK_CLOEXEC.rawValue)
            if acceptsOneByOne {
                unsafe io_uring_prep_accept(entry, socket.rawValue, nil, nil, flags)
            } else {
                unsafe io_uring_prep_multishot_accept(entry, socket.rawValue, nil, nil, flags)
            }
            unsafe start(entry, token)
        case .connect(let destination, let source, let outlet, let sendsFirst, let keepalive):
            connect(operation.token, destination, source, outlet, keepalive, sendsFirst: sendsFirst)
        case .receive(let socket, let isContinuing):
            let entry = unsafe ring.nextEntry()
            if isContinuing {
                unsafe io_uring_prep_recv_multishot(entry, socket.rawValue, nil, 0, 0)
            } else {
                unsafe io_uring_prep_recv(entry, socket.rawValue, nil, 0, 0)
            }
            unsafe entry.pointee.flags = CWEIR_SQE_BUFFER_SELECT.rawValue
            unsafe entry.pointee.buf_group = BufferRing.group
            unsafe start(entry, token)
        case .send(let socket, let payload):
            sends.start(place(operation.token), operation.token, socket, payload)
            send(operation.token)
        case .pump(let from, let to):
            pumpKind = operation.token.kind | 1
            startPump(operation.token, from.rawValue, to.rawValue)
        case .stopPump(let target):
            stopPump(target)
        case .watch(let socket):
            watches.start(place(operation.token), socket.rawValue)
            watch(operation.token, socket.rawValue)
        case .cancel(let target):
            if let index = pumps.index(of: target, at: place(target)) {
                cancelPump(index)
            } else if !sends.contains(place(target), target) {
                cancel(target.rawValue)
            } else if sends.cancel(place(target)) == .cancelWait {
                cancel(target.rawValue | Self.roomMask)
            }
        case .cancelConnect(let target):
            cancel(target.rawValue | Self.connectMask)
        case .cancelWatch(let target):
            if watches.cancel(place(target)) { cancel(target.rawValue | Self.watchMask) }
        case .noDelay(let socket):
            cweir_set_no_delay(socket.rawValue)
        case .shutdown(let socket):
            // Not through the ring: the kernel always hands IORING_OP_SHUTDOWN to a worker thread.
            // ENOTCONN: it has been reset meanwhile, which an operation on it reports.
            let code = Glibc.shutdown(socket.rawValue, Int32(SHUT_WR))
            precondition(code == 0 || errno != EBADF, "shutdown of descriptor \(socket.rawValue), which is not open")
        case .close(let socket):
            close(socket)
        case .reset(let socket):
            // Pushes what was held back.
            cweir_set_no_delay(socket.rawValue)
            _ = cweir_set_reset_on_close(socket.rawValue)
            close(socket)
        }
    }

    func start(_ entry: UnsafeMutablePointer<io_uring_sqe>, _ userData: UInt64) {
        unsafe entry.pointee.user_data = userData
        inFlightCount += 1
    }

    func cancel(_ userData: UInt64) {
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_cancel64(entry, userData, 0)
        unsafe entry.pointee.user_data = Token.silent.rawValue
        unsafe entry.pointee.flags = CWEIR_SQE_CQE_SKIP_SUCCESS.rawValue
    }

    private func close(_ socket: Socket) {
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_close(entry, socket.rawValue)
        let token = Token(kind: Self.closeKind, index: UInt32(bitPattern: socket.rawValue), generation: 0)
        unsafe entry.pointee.user_data = token.rawValue
        unsafe entry.pointee.flags = CWEIR_SQE_CQE_SKIP_SUCCESS.rawValue
    }

    /// Where `connects` or `watches` has it: a session has at most two of each in flight, and the lowest bit of the
    /// kind tells them apart.
    func place(_ token: Token) -> Int { Int(token.index) * 2 + Int(token.kind & 1) }

    // MARK: Connects

    private func connect(
        _ token: Token, _ destination: SocketAddress, _ source: IPAddress?, _ outlet: Outlet, _ keepalive: Keepalive,
        sendsFirst: Bool
    ) {
        precondition(connects[place(token)] < 0, "a second connect for the same token")
        let socket = cweir_connecting_socket(destination.ip.family == .v6 ? 1 : 0)
        var code = socket
        if socket >= 0 { settings.apply(toConnecting: socket, keepalive) }
        if socket >= 0, !outlet.isAny { code = cweir_restrict_outlet(socket, outlet.interface, outlet.mark) }
        if code >= 0, let source {
            var address = sockaddr_storage()
            let length = address.set(SocketAddress(source, port: 0))
            code = unsafe cweir_bind_source(socket, &address, length)
        }
        guard code >= 0 else {
            if socket >= 0 { Glibc.close(socket) }
            immediate.append(Completion(token: token, result: code, buffer: BufferPool.none, hasMore: false))
            return
        }
        if sendsFirst { delayAcknowledgements(of: socket) }
        let entry = unsafe ring.nextEntry()
        let address = unsafe addresses + ring.position(of: entry)
        let length = unsafe address.pointee.set(destination)
        unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            unsafe io_uring_prep_connect(entry, socket, $0, length)
        }
        unsafe start(entry, token.rawValue | Self.connectMask)
        connects[place(token)] = socket
    }

    /// TCP_QUICKACK 0, in the batch with the connect where the kernel can do so (Linux 6.7).
    private func delayAcknowledgements(of socket: Int32) {
        guard hasSocketCommands else {
            cweir_delay_acknowledgements(socket)
            return
        }
        let entry = unsafe ring.nextEntry()
        unsafe cweir_prep_delay_acknowledgements(entry, socket)
        unsafe entry.pointee.user_data = Token(kind: Self.commandKind, index: 0, generation: 0).rawValue
        unsafe entry.pointee.flags = CWEIR_SQE_CQE_SKIP_SUCCESS.rawValue
    }

    /// The socket goes to the engine once it is connected and is closed otherwise.
    private func completeConnect(_ token: Token, _ code: Int32, into completions: inout [Completion]) {
        let socket = connects[place(token)]
        connects[place(token)] = -1
        precondition(socket >= 0, "a connect completed that was not in flight")
        if code < 0 { Glibc.close(socket) }
        completions.append(
            Completion(token: token, result: code < 0 ? code : socket, buffer: BufferPool.none, hasMore: false))
    }

    // MARK: Sends

    private func send(_ token: Token) {
        let (socket, rest) = sends.send(place(token))
        let chunkStart = unsafe pool.address(of: rest.buffer) + Int(rest.offset)
        let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT) | (rest.more ? Int32(MSG_MORE) : 0)
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_send(entry, socket.rawValue, chunkStart, Int(rest.byteCount), flags)
        unsafe start(entry, token.rawValue)
    }

    private func waitForRoom(_ token: Token, goesOn: Bool) {
        let entry = unsafe ring.nextEntry()
        let socket = sends.send(place(token)).socket
        if goesOn {
            unsafe io_uring_prep_poll_multishot(entry, socket.rawValue, UInt32(POLLOUT))
        } else {
            unsafe io_uring_prep_poll_add(entry, socket.rawValue, UInt32(POLLOUT))
        }
        unsafe start(entry, token.rawValue | Self.roomMask)
    }

    private func pause(_ token: Token) {
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_timeout(entry, pauseTime, 0, 0)
        unsafe start(entry, token.rawValue | Self.roomMask)
    }

    private func take(_ step: SendTable.Step, _ token: Token, into completions: inout [Completion]) {
        switch step {
        case .wait: break
        case .send: send(token)
        case .poll: waitForRoom(token, goesOn: false)
        case .pollOn: endedPolls.append(token)
        case .pause: pause(token)
        case .cancelWait: cancel(token.rawValue | Self.roomMask)
        case .report(let result):
            completions.append(Completion(token: token, result: result, buffer: BufferPool.none, hasMore: false))
        }
    }

    // MARK: Watches

    private func watch(_ token: Token, _ socket: Int32) {
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_poll_multishot(entry, socket, 0)
        unsafe start(entry, token.rawValue | Self.watchMask)
    }

    /// Not before everything that overflowed has been reaped: until then the kernel would end each poll again at once,
    /// and reaping them would never come to an end.
    private func pollAgain() {
        for token in endedWatches { watch(token, watches.descriptor(place(token))) }
        endedWatches.removeAll(keepingCapacity: true)
        for token in endedPolls { waitForRoom(token, goesOn: true) }
        endedPolls.removeAll(keepingCapacity: true)
    }

    private func completeWatch(_ token: Token, _ result: Int32, _ hasMore: Bool, into completions: inout [Completion]) {
        switch watches.completed(place(token), result, hasMore: hasMore, pendingError: cweir_socket_error) {
        case .wait: break
        case .cancel: cancel(token.rawValue | Self.watchMask)
        case .pollAgain: endedWatches.append(token)
        case .report(let result):
            completions.append(Completion(token: token, result: result, buffer: BufferPool.none, hasMore: false))
        }
    }
}
