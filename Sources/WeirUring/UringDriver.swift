import CWeir
import Glibc
import WeirIO
import WeirMemory
import WeirNet

/// The kernel through io_uring: one ring per worker thread.
///
/// Set up as measured best for short connections and messages: SINGLE_ISSUER, DEFER_TASKRUN and COOP_TASKRUN; plain
/// blocking descriptors; buffers from one ring that the pool refills. Needs Linux 6.1.
///
/// The ring is made disabled by whoever calls `init` and enabled by the first `turn`, because a ring with
/// SINGLE_ISSUER belongs to the thread that enables it. Make it on that thread where you can: see WorkerThread.
@safe
package final class UringDriver: Driver {
    /// A set-up step that the kernel refused; `code` is an errno.
    package struct SetupFailure: Error, Sendable {
        package let step: String
        package let code: Int32
    }

    /// Submission entries. A batch that needs more is handed over in parts.
    private static let submissionCount: UInt32 = 1024
    private static let bufferGroup: UInt16 = 0
    /// Kind of the token on the wake descriptor; the engine's kinds stay below 0x3f.
    private static let wakeKind: UInt8 = 0x3f

    private let ring: UnsafeMutablePointer<io_uring>
    private let pool: BufferPool
    private let bufferRing: UnsafeMutablePointer<io_uring_buf_ring>
    private let bufferRingByteCount: Int
    /// Entries of the buffer ring: a power of two.
    private let bufferRingCount: Int
    /// Buffers that stand in the ring, owned by the kernel until a completion names them.
    private var offeredCount = 0
    private let wakeEvent: WakeEvent
    /// One address per submission entry: the kernel copies it at submission.
    private let addresses: UnsafeMutablePointer<sockaddr_storage>
    private var addressCount = 0
    /// The sockets of connects in flight, two per slot of the engine.
    private let connecting: FlatArray<Int32>
    private let reaped: UnsafeMutablePointer<UnsafeMutablePointer<io_uring_cqe>?>
    private static let reapCount = 512
    private var isEnabled = false
    private var counts = DriverFigures()
    /// Failures found while preparing an operation, delivered with the next completions.
    private var immediate: [Completion] = []

    /// `completionCount`: room for completions; four times the operations in flight is safe (clamped to 65,536).
    /// `slotCount`: the engine's connect tokens have an index below it. `wake`: what others wake it by; nil makes one.
    package init(
        pool: BufferPool, slotCount: Int, completionCount: Int, bufferRingCount: Int = 256, wake: WakeEvent? = nil
    ) throws(SetupFailure) {
        precondition(bufferRingCount > 0 && bufferRingCount & (bufferRingCount - 1) == 0)
        if let wake { wakeEvent = wake } else { wakeEvent = try WakeEvent() }
        self.pool = pool
        self.bufferRingCount = bufferRingCount
        let ring = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
        unsafe ring.initialize(to: io_uring())
        var code: Int32 = 0
        // ENOMEM: the queue's memory is contiguous or limited; a smaller one does as well until it overflows.
        var entries = UInt32(min(max(completionCount, 4096), 65536))
        while true {
            var parameters = io_uring_params()
            parameters.flags =
                UInt32(IORING_SETUP_SINGLE_ISSUER) | UInt32(IORING_SETUP_DEFER_TASKRUN)
                | UInt32(IORING_SETUP_COOP_TASKRUN) | UInt32(IORING_SETUP_SUBMIT_ALL)
                | UInt32(IORING_SETUP_R_DISABLED) | UInt32(IORING_SETUP_CQSIZE) | UInt32(IORING_SETUP_CLAMP)
            parameters.cq_entries = entries
            code = unsafe io_uring_queue_init_params(Self.submissionCount, ring, &parameters)
            if code == -ENOMEM && entries > 4096 {
                entries /= 2
                continue
            }
            break
        }
        guard code == 0 else {
            unsafe ring.deallocate()
            throw SetupFailure(step: "io_uring_setup", code: -code)
        }
        unsafe self.ring = ring

        bufferRingByteCount = bufferRingCount * MemoryLayout<io_uring_buf>.stride
        let memory = UnsafeMutableRawPointer.allocate(byteCount: bufferRingByteCount, alignment: 4096)
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: bufferRingByteCount)
        unsafe bufferRing = memory.assumingMemoryBound(to: io_uring_buf_ring.self)
        unsafe addresses = UnsafeMutablePointer<sockaddr_storage>.allocate(capacity: Int(Self.submissionCount))
        unsafe reaped = UnsafeMutablePointer<UnsafeMutablePointer<io_uring_cqe>?>.allocate(capacity: Self.reapCount)
        connecting = FlatArray(repeating: -1, count: slotCount * 2)

        var registration = io_uring_buf_reg()
        registration.ring_addr = UInt64(UInt(bitPattern: memory))
        registration.ring_entries = UInt32(bufferRingCount)
        registration.bgid = Self.bufferGroup
        code = unsafe io_uring_register_buf_ring(ring, &registration, 0)
        guard code == 0 else { throw SetupFailure(step: "io_uring_register_buf_ring", code: -code) }
        unsafe io_uring_buf_ring_init(bufferRing)
        immediate.reserveCapacity(64)
    }

    deinit {
        // Closing the ring ends what is in flight; the buffers outlive it because the pool is held until here.
        unsafe io_uring_queue_exit(ring)
        unsafe ring.deallocate()
        unsafe UnsafeMutableRawPointer(bufferRing).deallocate()
        unsafe addresses.deallocate()
        for place in connecting.indices where connecting[place] >= 0 { Glibc.close(connecting[place]) }
        connecting.deallocate()
        unsafe reaped.deallocate()
    }

    package func now() -> Instant { Instant(nanoseconds: cweir_monotonic_ns()) }

    package func wallClockOffset() -> UInt64 { cweir_realtime_ns() &- cweir_monotonic_ns() }

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
        if !isEnabled { enable() }
        offerBuffers()
        addressCount = 0
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

    private func enable() {
        let code = unsafe io_uring_enable_rings(ring)
        precondition(code == 0, "io_uring_enable_rings failed with \(-code)")
        // EINVAL or no free slot: the calls work without, only slower.
        _ = unsafe io_uring_register_ring_fd(ring)
        isEnabled = true
        armWake()
    }

    private func armWake() {
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
                bufferRing, pool.address(of: buffer), UInt32(BufferPool.largeByteCount),
                UInt16(truncatingIfNeeded: buffer), mask, added)
            added += 1
            offeredCount += 1
        }
        if added > 0 { unsafe io_uring_buf_ring_advance(bufferRing, added) }
    }

    private func submitAndWait(_ deadline: Instant) {
        counts.enterCount += 1
        if !immediate.isEmpty {
            _ = unsafe io_uring_submit_and_get_events(ring)
            return
        }
        let remaining = deadline.nanoseconds(since: now())
        if remaining == 0 {
            _ = unsafe io_uring_submit_and_get_events(ring)
            return
        }
        var timeout = __kernel_timespec()
        timeout.tv_sec = Int64(remaining / 1_000_000_000)
        timeout.tv_nsec = Int64(remaining % 1_000_000_000)
        var first: UnsafeMutablePointer<io_uring_cqe>?
        let code = unsafe io_uring_submit_and_wait_timeout(ring, &first, 1, &timeout, nil)
        switch code {
        case 0..., -ETIME, -EINTR, -EAGAIN:
            break
        case -EBUSY:
            // The completion queue has overflowed: what it holds is reaped below, then the rest is flushed.
            break
        default:
            preconditionFailure("io_uring_enter failed with \(-code)")
        }
    }

    private func reap(into completions: inout [Completion]) {
        while true {
            let count = unsafe io_uring_peek_batch_cqe(ring, reaped, UInt32(Self.reapCount))
            for index in 0..<Int(count) {
                guard let entry = unsafe reaped[index] else { continue }
                unsafe complete(entry.pointee.user_data, entry.pointee.res, entry.pointee.flags, into: &completions)
            }
            unsafe io_uring_cq_advance(ring, count)
            if count == Self.reapCount { continue }
            guard unsafe cweir_cq_has_overflow(ring) != 0 else { return }
            counts.overflowCount += 1
            _ = unsafe io_uring_get_events(ring)
        }
    }

    private func complete(_ userData: UInt64, _ result: Int32, _ flags: UInt32, into completions: inout [Completion]) {
        let token = Token(rawValue: userData)
        let hasMore = flags & UInt32(IORING_CQE_F_MORE) != 0
        if token == .silent { return }
        if token.kind == Self.wakeKind {
            wakeEvent.drain()
            if !hasMore { armWake() }
            return
        }
        if token.kind & Self.watchBit != 0 {
            completeWatch(Token(rawValue: userData & ~Self.watchMask), result, hasMore, into: &completions)
            return
        }
        if token.kind & Self.connectBit != 0 {
            completeConnect(Token(rawValue: userData & ~Self.connectMask), result, into: &completions)
            return
        }
        var buffer = BufferPool.none
        if flags & UInt32(IORING_CQE_F_BUFFER) != 0 {
            let short = UInt16(truncatingIfNeeded: flags >> UInt32(IORING_CQE_BUFFER_SHIFT))
            buffer = UInt32(short)
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

    // MARK: Watches

    // A watch's poll fires on FIN as well (the kernel always adds EPOLLRDHUP), so its completions are looked through
    // here: only an error or the end of both directions is news. The top bit of the kind marks them.
    private static let watchBit: UInt8 = 0x80
    private static let watchMask: UInt64 = 1 << 63
    // The next bit marks connects, whose result is the socket.
    private static let connectBit: UInt8 = 0x40
    private static let connectMask: UInt64 = 1 << 62

    private func completeWatch(_ token: Token, _ result: Int32, _ hasMore: Bool, into completions: inout [Completion]) {
        if result >= 0 {
            let events = UInt32(bitPattern: result)
            let isOver = events & UInt32(POLLERR) != 0 || events & UInt32(POLLHUP) != 0
            if !isOver && hasMore { return }
            let code: Int32 = events & UInt32(POLLERR) != 0 ? -ECONNRESET : 0
            if hasMore {
                // One answer is enough: end the poll and report it when it is home.
                pendingWatches.append((token, code))
                cancel(rawToken: token.rawValue | Self.watchMask)
                return
            }
            completions.append(Completion(token: token, result: code, buffer: BufferPool.none, hasMore: false))
            return
        }
        var code = result
        if let index = pendingWatches.firstIndex(where: { $0.0 == token }) {
            code = pendingWatches.remove(at: index).1
        }
        completions.append(Completion(token: token, result: code, buffer: BufferPool.none, hasMore: false))
    }

    private var pendingWatches: [(Token, Int32)] = []

    private func cancel(rawToken: UInt64) {
        let entry = unsafe nextEntry()
        unsafe io_uring_prep_cancel64(entry, rawToken, 0)
        unsafe entry.pointee.user_data = Token.silent.rawValue
        unsafe entry.pointee.flags = CWEIR_SQE_CQE_SKIP_SUCCESS.rawValue
    }

    // MARK: Operations into entries

    private func nextEntry() -> UnsafeMutablePointer<io_uring_sqe> {
        if let entry = unsafe io_uring_get_sqe(ring) { return unsafe entry }
        counts.enterCount += 1
        let code = unsafe io_uring_submit(ring)
        // Entries that were taken have copied their addresses.
        addressCount = 0
        guard let entry = unsafe io_uring_get_sqe(ring) else {
            preconditionFailure("io_uring_submit freed no entry: \(code)")
        }
        return unsafe entry
    }

    private func prepare(_ operation: Operation) {
        let token = operation.token.rawValue
        switch operation.action {
        case .accept(let socket):
            let entry = unsafe nextEntry()
            unsafe io_uring_prep_multishot_accept(entry, socket.rawValue, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
            unsafe entry.pointee.user_data = token
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
            unsafe entry.pointee.user_data = token
        case .send(let socket, let payload):
            let chunkStart = unsafe pool.address(of: payload.buffer) + Int(payload.offset)
            let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_WAITALL)
            let more = payload.more ? Int32(MSG_MORE) : 0
            let entry = unsafe nextEntry()
            unsafe io_uring_prep_send(entry, socket.rawValue, chunkStart, Int(payload.byteCount), flags | more)
            unsafe entry.pointee.user_data = token
        case .watch(let socket):
            let entry = unsafe nextEntry()
            unsafe io_uring_prep_poll_multishot(entry, socket.rawValue, 0)
            unsafe entry.pointee.user_data = token | Self.watchMask
        case .cancel(let target):
            cancel(rawToken: target.rawValue)
        case .cancelConnect(let target):
            cancel(rawToken: target.rawValue | Self.connectMask)
        case .cancelWatch(let target):
            cancel(rawToken: target.rawValue | Self.watchMask)
        case .shutdown(let socket):
            // Not through the ring: the kernel always hands IORING_OP_SHUTDOWN to a worker thread.
            _ = Glibc.shutdown(socket.rawValue, Int32(SHUT_WR))
        case .close(let socket):
            close(socket)
        case .reset(let socket):
            _ = cweir_set_reset_on_close(socket.rawValue)
            close(socket)
        }
    }

    private func close(_ socket: Socket) {
        let entry = unsafe nextEntry()
        unsafe io_uring_prep_close(entry, socket.rawValue)
        unsafe entry.pointee.user_data = Token.silent.rawValue
        unsafe entry.pointee.flags = CWEIR_SQE_CQE_SKIP_SUCCESS.rawValue
    }

    private func connect(_ token: Token, _ destination: SocketAddress, _ source: IPAddress?) {
        let socket = cweir_connecting_socket(destination.ip.family == .v6 ? 1 : 0)
        var code = socket
        if socket >= 0, let source {
            var address = sockaddr_storage()
            let length = unsafe set(&address, SocketAddress(source, port: 0))
            code = unsafe cweir_bind_source(socket, &address, length)
        }
        guard code >= 0 else {
            if socket >= 0 { Glibc.close(socket) }
            immediate.append(Completion(token: token, result: code, buffer: BufferPool.none, hasMore: false))
            return
        }
        let entry = unsafe nextEntry()
        let address = unsafe addresses + addressCount
        addressCount += 1
        let length = unsafe set(address, destination)
        unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            unsafe io_uring_prep_connect(entry, socket, $0, length)
        }
        unsafe entry.pointee.user_data = token.rawValue | Self.connectMask
        connecting[connectPlace(token)] = socket
    }

    /// A session has at most two connects in flight; the lowest bit of the kind tells them apart.
    private func connectPlace(_ token: Token) -> Int { Int(token.index) * 2 + Int(token.kind & 1) }

    /// The socket goes to the engine once it is connected and is closed otherwise.
    private func completeConnect(_ token: Token, _ code: Int32, into completions: inout [Completion]) {
        let socket = connecting[connectPlace(token)]
        connecting[connectPlace(token)] = -1
        precondition(socket >= 0, "a connect completed that was not in flight")
        if code < 0 { Glibc.close(socket) }
        completions.append(
            Completion(token: token, result: code < 0 ? code : socket, buffer: BufferPool.none, hasMore: false))
    }

    private func set(_ storage: UnsafeMutablePointer<sockaddr_storage>, _ address: SocketAddress) -> socklen_t {
        unsafe cweir_sockaddr_set(
            storage, address.ip.family == .v6 ? 1 : 0, address.ip.high, address.ip.low, address.port)
    }

    // MARK: Addresses

    package func peerAddress(of socket: Socket) -> SocketAddress? {
        unsafe read { unsafe Glibc.getpeername(socket.rawValue, $0, $1) }
    }

    package func localAddress(of socket: Socket) -> SocketAddress? {
        unsafe read { unsafe Glibc.getsockname(socket.rawValue, $0, $1) }
    }

    private func read(
        _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let code = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, &length) }
        }
        guard code == 0 else { return nil }
        var isV6: Int32 = 0
        var high: UInt64 = 0
        var low: UInt64 = 0
        var port: UInt16 = 0
        guard unsafe cweir_sockaddr_get(&storage, &isV6, &high, &low, &port) == 0 else { return nil }
        let ip = isV6 == 0 ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : IPAddress(v6High: high, low: low)
        return SocketAddress(ip, port: port)
    }
}
