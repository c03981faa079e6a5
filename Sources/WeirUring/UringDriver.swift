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
    private static let bufferGroup: UInt16 = 0

    private let ring: UnsafeMutablePointer<io_uring>
    private let pool: BufferPool
    private let bufferRing: UnsafeMutablePointer<io_uring_buf_ring>
    /// Entries of the buffer ring: a power of two.
    private let bufferRingCount: Int
    /// Buffers that stand in the ring, owned by the kernel until a completion names them.
    private var offeredCount = 0
    private let wakeEvent: WakeEvent
    /// One per submission entry, so that an address lives as long as the entry that points to it: the kernel copies
    /// it when it takes the entry, which is in a later turn when memory is short.
    private let addresses: UnsafeMutablePointer<sockaddr_storage>
    /// Connects, watches and sends in flight, two of each per slot of the engine.
    private let connects: FlatArray<Int32>
    private let watches: WatchTable
    private let sends: SendTable
    private let acceptsOneByOne: Bool
    private let socketBudget: SocketBudget?
    /// The kind of the engine's accepts, once it has asked for one.
    private var acceptKind = UringDriver.closeKind
    private var isEnabled = false
    private var owner = pthread_t()
    private var counts = DriverFigures()
    /// Operations of the engine that have not completed for good.
    private var inFlightCount = 0
    /// Watches whose poll the kernel has ended early; the next turn starts it again.
    private var endedWatches: [Token] = []
    /// Sends that wait for room, likewise.
    private var endedPolls: [Token] = []
    /// How long a send waits that finds no room where there seems to be some.
    private let pauseTime: UnsafeMutablePointer<__kernel_timespec>
    /// Failures found while preparing an operation, delivered with the next completions.
    private var immediate: [Completion] = []

    /// `completionCount`: room for completions; four times the operations in flight is safe (clamped to 65,536 above,
    /// four times `submissionCount` below).
    /// `slotCount`: the engine's tokens of connects, watches and sends have an index below it.
    /// `submissionCount`: submission entries. A batch that needs more is handed over in parts.
    /// `wake`: what others wake it by; nil makes one.
    /// `socketBudget`: bounds the kernel's buffers of new sockets; nil: nothing does.
    package init(
        pool: BufferPool, slotCount: Int, completionCount: Int, bufferRingCount: Int = 256,
        submissionCount: UInt32 = 1024, kernel: KernelRelease = .current(), wake: WakeEvent? = nil,
        socketBudget: SocketBudget? = nil
    ) throws(DriverSetupFailure) {
        precondition(pool.largeCount <= 1 << 16, "a completion names a buffer by 16 bits")
        precondition(bufferRingCount > 0 && bufferRingCount & (bufferRingCount - 1) == 0)
        let wakeEvent: WakeEvent
        if let wake { wakeEvent = wake } else { wakeEvent = try WakeEvent() }
        let ring = unsafe try Self.makeRing(submissionCount, completionCount)
        let byteCount = bufferRingCount * MemoryLayout<io_uring_buf>.stride
        let memory = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 4096)
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        var registration = io_uring_buf_reg()
        registration.ring_addr = UInt64(UInt(bitPattern: memory))
        registration.ring_entries = UInt32(bufferRingCount)
        registration.bgid = Self.bufferGroup
        let code = unsafe io_uring_register_buf_ring(ring, &registration, 0)
        guard code == 0 else {
            unsafe io_uring_queue_exit(ring)
            unsafe ring.deallocate()
            unsafe memory.deallocate()
            throw DriverSetupFailure(step: "io_uring_register_buf_ring", code: -code)
        }
        // From here on nothing fails.
        self.pool = pool
        self.bufferRingCount = bufferRingCount
        self.wakeEvent = wakeEvent
        unsafe self.ring = ring
        unsafe bufferRing = memory.assumingMemoryBound(to: io_uring_buf_ring.self)
        unsafe io_uring_buf_ring_init(bufferRing)
        unsafe addresses = UnsafeMutablePointer<sockaddr_storage>.allocate(
            capacity: Int(ring.pointee.sq.ring_entries))
        unsafe pauseTime = UnsafeMutablePointer<__kernel_timespec>.allocate(capacity: 1)
        unsafe pauseTime.initialize(to: __kernel_timespec(tv_sec: 0, tv_nsec: 10_000_000))
        connects = FlatArray(repeating: -1, count: slotCount * 2)
        watches = WatchTable(count: slotCount * 2)
        sends = SendTable(count: slotCount * 2)
        acceptsOneByOne = kernel.losesAcceptedSockets
        self.socketBudget = socketBudget
        immediate.reserveCapacity(64)
    }

    /// The memory of a driver's rings that counts as locked where the kernel counts it (before Linux 5.12, and again from
    /// 6.14 on), in whole pages: heads, completions and the index of submissions; submissions; the buffer ring.
    package static func lockedByteCount(submissionCount: Int, completionCount: Int, bufferRingCount: Int) -> Int {
        let parts = [512 + completionCount * 16 + submissionCount * 4, submissionCount * 64, bufferRingCount * 16]
        return parts.reduce(0) { $0 + ($1 + 4095) / 4096 * 4096 }
    }

    private static func makeRing(
        _ submissionCount: UInt32, _ completionCount: Int
    ) throws(DriverSetupFailure) -> UnsafeMutablePointer<io_uring> {
        let ring = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
        unsafe ring.initialize(to: io_uring())
        var parameters = io_uring_params()
        parameters.flags = UringProbe.setupFlags | UInt32(IORING_SETUP_R_DISABLED) | UInt32(IORING_SETUP_CLAMP)
        parameters.cq_entries = UInt32(min(max(completionCount, Int(submissionCount) * 4), 65536))
        let code = unsafe io_uring_queue_init_params(submissionCount, ring, &parameters)
        guard code == 0 else {
            unsafe ring.deallocate()
            throw DriverSetupFailure(step: "io_uring_setup", code: -code)
        }
        return unsafe ring
    }

    deinit {
        let isHome = bringHome()
        unsafe io_uring_queue_exit(ring)
        unsafe ring.deallocate()
        unsafe addresses.deallocate()
        unsafe pauseTime.deallocate()
        for place in connects.indices where connects[place] >= 0 { Glibc.close(connects[place]) }
        connects.deallocate()
        watches.deallocate()
        sends.deallocate()
        if isHome {
            unsafe UnsafeMutableRawPointer(bufferRing).deallocate()
        } else {
            // What the kernel may still write to is never given to anybody else.
            unsafe _ = Unmanaged.passRetained(pool)
        }
    }

    /// Ends what is in flight, so that the kernel writes to no buffer any more: closing the ring only asks for that.
    /// False where it cannot be known.
    private func bringHome() -> Bool {
        guard inFlightCount > 0 else { return true }
        // The ring takes cancels from its own thread only.
        guard pthread_equal(owner, pthread_self()) != 0 else { return false }
        let entry = unsafe nextEntry()
        unsafe io_uring_prep_cancel64(entry, 0, Int32(IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL))
        unsafe entry.pointee.user_data = Token.silent.rawValue
        guard unsafe io_uring_submit(ring) >= 0 else { return false }
        for _ in 0..<10 where inFlightCount > 0 {
            submitAndWait(now().advanced(byNanoseconds: 100_000_000))
            // Only counted. A socket that connected stays in `connects`; none is accepted after the cancel.
            for _ in 0..<(unsafe io_uring_cq_ready(ring)) {
                let entry = takeCompletion()
                let kind = Token(rawValue: entry.user_data).kind
                let isOver = entry.flags & UInt32(IORING_CQE_F_MORE) == 0
                if isOver && kind != Token.silent.kind && kind != Self.wakeKind { inFlightCount -= 1 }
            }
        }
        return inFlightCount == 0
    }

    package func now() -> Instant { Instant(nanoseconds: cweir_monotonic_ns()) }

    package func wallClockOffset() -> UInt64 { cweir_realtime_ns() &- cweir_monotonic_ns() }

    package func peerAddress(of socket: Socket) -> SocketAddress? { SocketNames.peer(of: socket.rawValue) }

    package func localAddress(of socket: Socket) -> SocketAddress? { SocketNames.local(of: socket.rawValue) }

    package var figures: DriverFigures {
        var figures = counts
        figures.offeredBufferCount = offeredCount
        return figures
    }

    package var wake: @Sendable () -> Void {
        let event = wakeEvent
        return { event.signal() }
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
        submitAndWait(deadline)
        reap(into: &completions)
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
        let code = unsafe io_uring_enable_rings(ring)
        guard code == 0 else { throw DriverSetupFailure(step: "io_uring_enable_rings", code: -code) }
        isEnabled = true
        owner = pthread_self()
        // Where it fails there is no slot left (there are 16 per thread): calls cost a little more then.
        _ = unsafe io_uring_register_ring_fd(ring)
        // Nothing here needs a kernel thread; what still ends on one is served by a few. Bounded, unbounded.
        var threadCountMax: [UInt32] = [1, 4]
        _ = unsafe io_uring_register_iowq_max_workers(ring, &threadCountMax)
        armWakeUp()
        let submitted = unsafe io_uring_submit(ring)
        guard submitted >= 0 else { throw DriverSetupFailure(step: "io_uring_enter", code: -submitted) }
    }

    private func armWakeUp() {
        let entry = unsafe nextEntry()
        unsafe io_uring_prep_poll_multishot(entry, wakeEvent.descriptor, UInt32(POLLIN))
        unsafe entry.pointee.user_data = Token(kind: Self.wakeKind, index: 0, generation: 0).rawValue
    }

    /// Tops the buffer ring up from the pool, most recently used first.
    private func offerBuffers() {
        let mask = io_uring_buf_ring_mask(UInt32(bufferRingCount))
        var added: Int32 = 0
        while offeredCount < bufferRingCount, let buffer = pool.takeLarge() {
            unsafe io_uring_buf_ring_add(
                bufferRing, pool.address(of: buffer), UInt32(BufferPool.largeByteCount), UInt16(buffer), mask, added)
            added += 1
            offeredCount += 1
        }
        if added > 0 { unsafe io_uring_buf_ring_advance(bufferRing, added) }
    }

    private func submitAndWait(_ deadline: Instant) {
        counts.enterCount += 1
        // What failed while it was prepared is news already.
        let remaining = immediate.isEmpty ? deadline.nanoseconds(since: now()) : 0
        guard remaining > 0 else {
            check(unsafe io_uring_submit_and_get_events(ring))
            return
        }
        var timeout = __kernel_timespec()
        timeout.tv_sec = Int64(remaining / 1_000_000_000)
        timeout.tv_nsec = Int64(remaining % 1_000_000_000)
        var first: UnsafeMutablePointer<io_uring_cqe>?
        check(unsafe io_uring_submit_and_wait_timeout(ring, &first, 1, &timeout, nil))
    }

    /// What io_uring_enter(2) may answer. Entries that it did not take stay in the queue, in order.
    private func check(_ code: Int32) {
        switch code {
        case 0..., -ETIME, -EINTR:
            break
        case -EAGAIN:
            // No memory for a request just now: the next turn tries again.
            break
        case -EBUSY:
            // The completion queue has overflowed: what it holds is reaped next, then the rest is flushed.
            break
        case -EBADR:
            preconditionFailure("the kernel had no memory to keep completions and lost some")
        default:
            preconditionFailure("io_uring_enter failed with \(-code)")
        }
    }

    private func reap(into completions: inout [Completion]) {
        while true {
            for _ in 0..<(unsafe io_uring_cq_ready(ring)) {
                let entry = takeCompletion()
                complete(entry.user_data, entry.res, entry.flags, into: &completions)
            }
            // U-04: the kernel keeps what did not fit until it is asked.
            guard unsafe cweir_cq_has_overflow(ring) != 0 else { return }
            counts.overflowCount += 1
            check(unsafe io_uring_get_events(ring))
        }
    }

    /// The oldest completion; there is one. Its place is free before it is looked at, because what follows from it may
    /// fill the queue again.
    private func takeCompletion() -> io_uring_cqe {
        let queue = unsafe ring.pointee.cq
        let entry = unsafe queue.cqes[Int(queue.khead.pointee & queue.ring_mask)]
        unsafe io_uring_cq_advance(ring, 1)
        return entry
    }

    // The top two bits of a token's kind are the driver's: watches, connects and the polls of sends that wait for room
    // pass through it on their way. The engine's kinds stay below the driver's own two.
    private static let watchMask: UInt64 = 1 << 63
    private static let connectMask: UInt64 = 1 << 62
    private static let roomMask: UInt64 = watchMask | connectMask
    private static let wakeKind: UInt8 = 0x3f
    private static let closeKind: UInt8 = 0x3e

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
        precondition(token.kind != Self.closeKind, "close of descriptor \(token.index) failed with \(-result)")
        if !hasMore { inFlightCount -= 1 }
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
        if token.kind == acceptKind, result >= 0 { socketBudget?.bound(accepted: result) }
        var buffer = BufferPool.none
        if flags & UInt32(IORING_CQE_F_BUFFER) != 0 {
            buffer = flags >> UInt32(IORING_CQE_BUFFER_SHIFT)
            offeredCount -= 1
            if result > 0 {
                pool.chunks[Int(buffer)].begin = 0
                pool.chunks[Int(buffer)].end = UInt32(result)
            } else {
                pool.release(buffer)
                buffer = BufferPool.none
            }
        }
        completions.append(Completion(token: token, result: result, buffer: buffer, hasMore: hasMore))
    }

    // MARK: Operations into entries

    private func nextEntry() -> UnsafeMutablePointer<io_uring_sqe> {
        if let entry = unsafe io_uring_get_sqe(ring) { return unsafe entry }
        for attempt in 0..<1000 {
            if attempt > 0 { usleep(1000) }
            counts.enterCount += 1
            check(unsafe io_uring_submit(ring))
            if let entry = unsafe io_uring_get_sqe(ring) { return unsafe entry }
        }
        preconditionFailure("the kernel took no operation for a second")
    }

    private func prepare(_ operation: Operation) {
        let token = operation.token.rawValue
        switch operation.action {
        case .accept(let socket):
            acceptKind = operation.token.kind
            let entry = unsafe nextEntry()
            let flags = Int32(SOCK_CLOEXEC.rawValue)
            if acceptsOneByOne {
                unsafe io_uring_prep_accept(entry, socket.rawValue, nil, nil, flags)
            } else {
                unsafe io_uring_prep_multishot_accept(entry, socket.rawValue, nil, nil, flags)
            }
            unsafe start(entry, token)
        case .connect(let destination, let source):
            connect(operation.token, destination, source)
        case .receive(let socket, let isContinuing):
            let entry = unsafe nextEntry()
            if isContinuing {
                unsafe io_uring_prep_recv_multishot(entry, socket.rawValue, nil, 0, 0)
            } else {
                unsafe io_uring_prep_recv(entry, socket.rawValue, nil, 0, 0)
            }
            unsafe entry.pointee.flags = CWEIR_SQE_BUFFER_SELECT.rawValue
            unsafe entry.pointee.buf_group = Self.bufferGroup
            unsafe start(entry, token)
        case .send(let socket, let payload):
            sends.start(place(operation.token), operation.token, socket, payload)
            send(operation.token)
        case .watch(let socket):
            watches.start(place(operation.token), socket.rawValue)
            watch(operation.token, socket.rawValue)
        case .cancel(let target):
            if !sends.contains(place(target), target) {
                cancel(target.rawValue)
            } else if sends.cancel(place(target)) == .cancelWait {
                cancel(target.rawValue | Self.roomMask)
            }
        case .cancelConnect(let target):
            cancel(target.rawValue | Self.connectMask)
        case .cancelWatch(let target):
            if watches.cancel(place(target)) { cancel(target.rawValue | Self.watchMask) }
        case .shutdown(let socket):
            // Not through the ring: the kernel always hands IORING_OP_SHUTDOWN to a worker thread.
            // ENOTCONN: it has been reset meanwhile, which an operation on it reports.
            let code = Glibc.shutdown(socket.rawValue, Int32(SHUT_WR))
            precondition(code == 0 || errno != EBADF, "shutdown of descriptor \(socket.rawValue), which is not open")
        case .close(let socket):
            close(socket)
        case .reset(let socket):
            _ = cweir_set_reset_on_close(socket.rawValue)
            close(socket)
        }
    }

    private func start(_ entry: UnsafeMutablePointer<io_uring_sqe>, _ userData: UInt64) {
        unsafe entry.pointee.user_data = userData
        inFlightCount += 1
    }

    private func cancel(_ userData: UInt64) {
        let entry = unsafe nextEntry()
        unsafe io_uring_prep_cancel64(entry, userData, 0)
        unsafe entry.pointee.user_data = Token.silent.rawValue
        unsafe entry.pointee.flags = CWEIR_SQE_CQE_SKIP_SUCCESS.rawValue
    }

    private func close(_ socket: Socket) {
        let entry = unsafe nextEntry()
        unsafe io_uring_prep_close(entry, socket.rawValue)
        let token = Token(kind: Self.closeKind, index: UInt32(bitPattern: socket.rawValue), generation: 0)
        unsafe entry.pointee.user_data = token.rawValue
        unsafe entry.pointee.flags = CWEIR_SQE_CQE_SKIP_SUCCESS.rawValue
    }

    /// Where `connects` or `watches` has it: a session has at most two of each in flight, and the lowest bit of the
    /// kind tells them apart.
    private func place(_ token: Token) -> Int { Int(token.index) * 2 + Int(token.kind & 1) }

    // MARK: Connects

    private func connect(_ token: Token, _ destination: SocketAddress, _ source: IPAddress?) {
        precondition(connects[place(token)] < 0, "a second connect for the same token")
        let socket = cweir_connecting_socket(destination.ip.family == .v6 ? 1 : 0)
        var code = socket
        if socket >= 0 { socketBudget?.bound(connecting: socket) }
        if socket >= 0, let source {
            var address = sockaddr_storage()
            let length = address.set(SocketAddress(source, port: 0))
            code = unsafe cweir_bind_source(socket, &address, length)
        }
        guard code >= 0 else {
            if socket >= 0 { Glibc.close(socket) }
            immediate.append(Completion(token: token, result: code, buffer: BufferPool.none, hasMore: false))
            return
        }
        let entry = unsafe nextEntry()
        let address = unsafe addresses + (entry - ring.pointee.sq.sqes)
        let length = unsafe address.pointee.set(destination)
        unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            unsafe io_uring_prep_connect(entry, socket, $0, length)
        }
        unsafe start(entry, token.rawValue | Self.connectMask)
        connects[place(token)] = socket
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
        let entry = unsafe nextEntry()
        unsafe io_uring_prep_send(entry, socket.rawValue, chunkStart, Int(rest.byteCount), flags)
        unsafe start(entry, token.rawValue)
    }

    private func waitForRoom(_ token: Token, goesOn: Bool) {
        let entry = unsafe nextEntry()
        let socket = sends.send(place(token)).socket
        if goesOn {
            unsafe io_uring_prep_poll_multishot(entry, socket.rawValue, UInt32(POLLOUT))
        } else {
            unsafe io_uring_prep_poll_add(entry, socket.rawValue, UInt32(POLLOUT))
        }
        unsafe start(entry, token.rawValue | Self.roomMask)
    }

    private func pause(_ token: Token) {
        let entry = unsafe nextEntry()
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
        let entry = unsafe nextEntry()
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
