import CWeir
import Glibc
import WeirIO
import WeirMemory
import WeirNet
import WeirSockets

/// The kernel through epoll and calls that do not wait: for places that forbid io_uring. The engine cannot tell it from
/// `UringDriver`.
///
/// An operation is tried when it is handed over. What cannot be done yet stays with its socket until the kernel reports
/// on it. A socket is registered when the first operation has to wait, and once more when the first send has to; from
/// then on each change is reported once (EPOLLET) and remembered, so that an operation asked for later does not wait in
/// vain. Closing a socket ends its registration.
///
/// Data calls carry MSG_DONTWAIT, so it does not matter in which mode a socket was made.
@safe
package final class EpollDriver: Driver {
    /// Events taken by one call.
    private static let eventCountMax = 256
    /// Connections that one listening socket hands over in a turn; what is left is reported again.
    private static let acceptCountMax: Int32 = 64
    /// Buffers that a continuing receive fills in a turn (U-18): the engine cancels it when about as many wait. One where
    /// fewer than half are free, for then the engine cancels it at the first.
    private static let receiveCountMax = 4
    /// When sends are tried again that TCP's memory was too short for: no event tells.
    private static let stallTime: UInt64 = 10_000_000

    private static let wakeData = UInt64.max
    private static let connectionEvents: UInt32 =
        EPOLLIN.rawValue | EPOLLRDHUP.rawValue | EPOLLPRI.rawValue | EPOLLET.rawValue

    private let epoll: Int32
    private let pool: BufferPool
    private let wakeEvent: WakeEvent
    private let settings: ConnectionSettings
    private let events: UnsafeMutablePointer<epoll_event>
    let sockets: Slab<EpollSocket>
    private var places: DescriptorPlaces
    // Which socket an operation is in flight on, by the operation's place; true only where that socket says so as well.
    private let receives: FlatArray<Int32>
    private let sends: FlatArray<Int32>
    private let watches: FlatArray<Int32>
    private let connects: FlatArray<Int32>
    let pumps: PumpTable
    let carriers: CarrierPool
    /// Sockets with an accept in flight.
    private var accepting: [Int] = []

    /// A socket, if it is still the same one.
    private struct Waiting: BitwiseCopyable {
        let slot: Int
        let generation: UInt32
    }

    /// Sockets whose receive has had its share of this turn, and those that had it in the last.
    private var queue: [Waiting] = []
    private var served: [Waiting] = []
    /// Sockets whose send found TCP's memory short.
    private var stalled: [Waiting] = []
    private var stalledUntil = Instant.distantFuture
    /// The last turn did not ask for events, because its operations completed at once.
    private var hasSkippedEvents = false
    private var counts = DriverFigures()

    /// `slotCount`: the engine's tokens have an index below it, but for those of accepts. Four times as many sockets fit,
    /// and some more.
    /// `wake`: what others wake it by; nil makes one.
    /// `settings`: of the sockets that it accepts and connects.
    /// `carriers`: of pumps; the default has none, and every pump ends for want of one.
    package init(
        pool: BufferPool, slotCount: Int, wake: WakeEvent? = nil, settings: ConnectionSettings = ConnectionSettings(),
        carriers: CarrierPool = CarrierPool()
    ) throws(DriverSetupFailure) {
        let wakeEvent: WakeEvent
        if let wake { wakeEvent = wake } else { wakeEvent = try WakeEvent() }
        let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epoll >= 0 else { throw DriverSetupFailure(step: "epoll_create1", code: errno) }
        // Reported once per signal, so nobody has to drain it.
        let code = Self.control(
            epoll, EPOLL_CTL_ADD, wakeEvent.descriptor, EPOLLIN.rawValue | EPOLLET.rawValue, Self.wakeData)
        guard code == 0 else {
            Glibc.close(epoll)
            throw DriverSetupFailure(step: "epoll_ctl", code: code)
        }
        self.epoll = epoll
        self.pool = pool
        self.wakeEvent = wakeEvent
        self.settings = settings
        unsafe events = UnsafeMutablePointer<epoll_event>.allocate(capacity: Self.eventCountMax)
        unsafe events.initialize(repeating: epoll_event(), count: Self.eventCountMax)
        // Only now: nothing frees it where the set-up fails.
        places = DescriptorPlaces()
        sockets = Slab(capacity: slotCount * 4 + 4096)
        receives = FlatArray(repeating: -1, count: slotCount * 2)
        sends = FlatArray(repeating: -1, count: slotCount * 2)
        watches = FlatArray(repeating: -1, count: slotCount * 2)
        connects = FlatArray(repeating: -1, count: slotCount * 2)
        pumps = PumpTable(placeCount: slotCount * 2, carriers: carriers)
        self.carriers = carriers
        accepting.reserveCapacity(64)
        queue.reserveCapacity(1024)
        served.reserveCapacity(1024)
        stalled.reserveCapacity(64)
    }

    deinit {
        // Those that were delivered belong to the engine.
        for slot in 0..<sockets.touchedCount
        where sockets.isLive(slot) && sockets[slot].facts.contains(.isConnecting) {
            Glibc.close(sockets[slot].descriptor)
        }
        Glibc.close(epoll)
        unsafe events.deallocate()
        places.deallocate()
        for table in [receives, sends, watches, connects] { table.deallocate() }
    }

    package func now() -> Instant { Instant(nanoseconds: cweir_monotonic_ns()) }

    package func wallClockOffset() -> UInt64 { cweir_realtime_ns() &- cweir_monotonic_ns() }

    package func peerAddress(of socket: Socket) -> SocketAddress? {
        let slot = Int(places[socket.rawValue])
        if slot >= 0, let peer = sockets[slot].peer { return peer }
        return SocketNames.peer(of: socket.rawValue)
    }

    package func localAddress(of socket: Socket) -> SocketAddress? { SocketNames.local(of: socket.rawValue) }

    package func originalDestination(of socket: Socket) -> SocketAddress? {
        SocketNames.originalDestination(of: socket.rawValue)
    }

    /// No buffer is held ready: one is taken for a receive that is tried.
    package var figures: DriverFigures { counts }

    package var wake: @Sendable () -> Void {
        let event = wakeEvent
        return { event.signal() }
    }

    // MARK: A turn

    package func turn(
        _ operations: inout [Operation], into completions: inout [Completion], until deadline: Instant
    ) -> Instant {
        let countBefore = completions.count
        swap(&queue, &served)
        for operation in operations { perform(operation, into: &completions) }
        operations.removeAll(keepingCapacity: true)
        // What completed at once is news enough, so most messages cost one call fewer. Not twice in a row: others wait.
        if completions.count > countBefore && served.isEmpty && !hasSkippedEvents {
            hasSkippedEvents = true
            return now()
        }
        hasSkippedEvents = false
        while true {
            let mustWait = completions.count == countBefore && served.isEmpty
            let isWoken = takeEvents(mustWait ? min(deadline, stalledUntil) : nil, into: &completions)
            serveAgain(into: &completions)
            let now = now()
            if now >= stalledUntil { sendAgain(now, into: &completions) }
            if isWoken || completions.count > countBefore || now >= deadline { return now }
        }
    }

    /// Waits for events until `limit`, not at all where it is nil, and does what they make possible. True where somebody
    /// asked for an end of the wait.
    private func takeEvents(_ limit: Instant?, into completions: inout [Completion]) -> Bool {
        var milliseconds: Int32 = 0
        if let limit {
            // Rounded up: a wait that ends before its time would be followed by others.
            let remaining = limit.nanoseconds(since: now())
            milliseconds = Int32(clamping: remaining / 1_000_000 + (remaining % 1_000_000 > 0 ? 1 : 0))
        }
        counts.enterCount += 1
        let count = unsafe epoll_wait(epoll, events, Int32(Self.eventCountMax), milliseconds)
        precondition(count >= 0 || errno == EINTR, "epoll_wait failed with \(errno)")
        var isWoken = false
        for position in 0..<Int(max(count, 0)) {
            let (bits, data) = unsafe (events[position].events, events[position].data.u64)
            if data == Self.wakeData {
                isWoken = true
            } else {
                let slot = Int(data & 0xffff_ffff)
                // Of a socket that was closed since: its number may be another's by now.
                guard sockets.isLive(slot, generation: UInt32(truncatingIfNeeded: data >> 32)) else { continue }
                reported(bits, slot, into: &completions)
            }
        }
        return isWoken
    }

    private func reported(_ bits: UInt32, _ slot: Int, into completions: inout [Completion]) {
        if sockets[slot].facts.contains(.isListening) {
            acceptWaiting(slot, into: &completions)
            return
        }
        var seen: EpollSocket.Facts = []
        let isBroken = bits & (EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0
        if isBroken || bits & (EPOLLIN.rawValue | EPOLLRDHUP.rawValue) != 0 { seen.insert(.mayReceive) }
        if isBroken || bits & EPOLLOUT.rawValue != 0 { seen.insert(.maySend) }
        if bits & EPOLLRDHUP.rawValue != 0 { seen.insert(.hasEnded) }
        if bits & EPOLLHUP.rawValue != 0 { seen.insert(.isOver) }
        if bits & EPOLLERR.rawValue != 0 { seen.insert(.hasFailed) }
        if bits & EPOLLPRI.rawValue != 0 { seen.insert(.hasUrgent) }
        sockets[slot].facts.formUnion(seen)
        if sockets[slot].facts.contains(.isConnecting) {
            if seen.contains(.maySend) { connectFinished(slot, into: &completions) }
            return
        }
        if sockets[slot].receive != .silent && !sockets[slot].facts.contains(.isQueued) {
            receive(slot, into: &completions)
        }
        if sockets[slot].send != .silent { send(slot, into: &completions) }
        if sockets[slot].watch != .silent { watch(slot, into: &completions) }
    }

    /// Goes on with the receives that had to let others go first.
    private func serveAgain(into completions: inout [Completion]) {
        for place in served where sockets.isLive(place.slot, generation: place.generation) {
            sockets[place.slot].facts.remove(.isQueued)
            if sockets[place.slot].receive != .silent { receive(place.slot, into: &completions) }
        }
        served.removeAll(keepingCapacity: true)
    }

    private func sendAgain(_ now: Instant, into completions: inout [Completion]) {
        stalledUntil = .distantFuture
        // `served` is empty here.
        swap(&stalled, &served)
        for place in served where sockets.isLive(place.slot, generation: place.generation) {
            sockets[place.slot].facts.insert(.maySend)
            if sockets[place.slot].send != .silent { send(place.slot, into: &completions) }
        }
        served.removeAll(keepingCapacity: true)
    }

    // MARK: Operations

    private func perform(_ operation: Operation, into completions: inout [Completion]) {
        let token = operation.token
        switch operation.action {
        case .accept(let socket):
            accept(token, socket, into: &completions)
        case .connect(let destination, let source, let outlet, let sendsFirst, let keepalive):
            connect(token, destination, source, outlet, keepalive, sendsFirst: sendsFirst, into: &completions)
        case .receive(let socket, let isContinuing):
            let slot = slot(of: socket)
            precondition(sockets[slot].receive == .silent, "a second receive on descriptor \(socket.rawValue)")
            sockets[slot].receive = token
            if isContinuing {
                sockets[slot].facts.insert(.isContinuing)
            } else {
                sockets[slot].facts.remove(.isContinuing)
            }
            receives[place(token)] = Int32(truncatingIfNeeded: slot)
            if !sockets[slot].facts.contains(.isQueued) { receive(slot, into: &completions) }
        case .send(let socket, let payload):
            let slot = slot(of: socket)
            precondition(sockets[slot].send == .silent, "a second send on descriptor \(socket.rawValue)")
            sockets[slot].send = token
            sockets[slot].payload = payload
            sockets[slot].sentCount = 0
            sends[place(token)] = Int32(truncatingIfNeeded: slot)
            send(slot, into: &completions)
        case .pump(let from, let to):
            startPump(token, from, to, into: &completions)
        case .stopPump(let target):
            stopPump(target, into: &completions)
        case .watch(let socket):
            let slot = slot(of: socket)
            precondition(sockets[slot].watch == .silent, "a second watch on descriptor \(socket.rawValue)")
            sockets[slot].watch = token
            watches[place(token)] = Int32(truncatingIfNeeded: slot)
            watch(slot, into: &completions)
        case .cancel(let target):
            cancel(target, into: &completions)
        case .cancelConnect(let target):
            guard let slot = slot(connects, target), sockets[slot].facts.contains(.isConnecting),
                sockets[slot].receive == target
            else { return }
            sockets[slot].receive = .silent
            close(slot)
            complete(target, -ECANCELED, into: &completions)
        case .cancelWatch(let target):
            guard let slot = slot(watches, target), sockets[slot].watch == target else { return }
            sockets[slot].watch = .silent
            complete(target, -ECANCELED, into: &completions)
        case .noDelay(let socket):
            cweir_set_no_delay(socket.rawValue)
        case .shutdown(let socket):
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

    private func cancel(_ target: Token, into completions: inout [Completion]) {
        if let index = pumps.index(of: target, at: place(target)) {
            cancelPump(index, into: &completions)
        } else if let slot = slot(receives, target), sockets[slot].receive == target,
            sockets[slot].facts.isDisjoint(with: [.isListening, .isConnecting])
        {
            sockets[slot].receive = .silent
            complete(target, -ECANCELED, into: &completions)
        } else if let slot = slot(sends, target), sockets[slot].send == target {
            let sentCount = Int32(sockets[slot].sentCount)
            sockets[slot].send = .silent
            complete(target, sentCount > 0 ? sentCount : -ECANCELED, into: &completions)
        } else if let position = accepting.firstIndex(where: { sockets[$0].receive == target }) {
            sockets[accepting.remove(at: position)].receive = .silent
            complete(target, -ECANCELED, into: &completions)
        }
    }

    /// Where the tables have it: the lowest bit of the kind tells the two sides of a session apart.
    func place(_ token: Token) -> Int { Int(token.index) * 2 + Int(token.kind & 1) }

    /// The socket that an operation with this token was last in flight on, if it still is one.
    private func slot(_ table: FlatArray<Int32>, _ token: Token) -> Int? {
        let place = place(token)
        guard place < table.count, table[place] >= 0 else { return nil }
        let slot = Int(table[place])
        return sockets.isLive(slot) ? slot : nil
    }

    func complete(
        _ token: Token, _ result: Int32, buffer: UInt32 = BufferPool.none, hasMore: Bool = false,
        into completions: inout [Completion]
    ) {
        completions.append(Completion(token: token, result: result, buffer: buffer, hasMore: hasMore))
    }

    // MARK: Sockets

    /// The slot of a socket; a new one where the driver has not made it or not met it yet.
    func slot(of socket: Socket) -> Int {
        let place = places[socket.rawValue]
        if place >= 0 { return Int(place) }
        guard let slot = add(socket.rawValue, [.mayReceive, .maySend]) else {
            preconditionFailure("more sockets than there can be sessions for")
        }
        return slot
    }

    /// nil where there is no room.
    private func add(_ descriptor: Int32, _ facts: EpollSocket.Facts) -> Int? {
        precondition(places[descriptor] < 0, "descriptor \(descriptor) was closed behind the driver's back")
        guard let slot = sockets.allocate(EpollSocket(descriptor: descriptor, facts: facts)) else { return nil }
        places[descriptor] = Int32(truncatingIfNeeded: slot)
        return slot
    }

    private func close(_ socket: Socket) {
        let place = places[socket.rawValue]
        if place >= 0 {
            close(Int(place))
        } else {
            close(descriptor: socket.rawValue)
        }
    }

    private func close(_ slot: Int) {
        let (descriptor, facts) = (sockets[slot].descriptor, sockets[slot].facts)
        precondition(sockets[slot].isIdle, "descriptor \(descriptor) is closed with an operation in flight")
        // A listening socket may be open in another process as well; then closing it here would not be its end.
        if facts.isSuperset(of: [.isListening, .isRegistered]) { stopReports(slot) }
        places[descriptor] = -1
        sockets.free(slot)
        close(descriptor: descriptor)
    }

    private func close(descriptor: Int32) {
        let code = Glibc.close(descriptor)
        precondition(code == 0 || errno != EBADF, "close of descriptor \(descriptor), which is not open")
    }

    /// Has the kernel report on a connection, from its present state on. `room`: for a send as well, which most sockets
    /// never need, and which would be reported at once. Returns 0 or an errno: memory or watches
    /// (fs.epoll.max_user_watches) are short.
    func register(_ slot: Int, room: Bool = false) -> Int32 {
        let facts = sockets[slot].facts
        if facts.contains(room ? .reportsRoom : .isRegistered) { return 0 }
        let call = facts.contains(.isRegistered) ? EPOLL_CTL_MOD : EPOLL_CTL_ADD
        let events = Self.connectionEvents | (room ? EPOLLOUT.rawValue : 0)
        let code = Self.control(epoll, call, sockets[slot].descriptor, events, data(slot))
        precondition(code == 0 || code == ENOMEM || code == ENOSPC, "epoll_ctl failed with \(code)")
        if code == 0 { sockets[slot].facts.formUnion(room ? [.isRegistered, .reportsRoom] : .isRegistered) }
        return code
    }

    private func stopReports(_ slot: Int) {
        let code = Self.control(epoll, EPOLL_CTL_DEL, sockets[slot].descriptor, 0, 0)
        precondition(code == 0, "EPOLL_CTL_DEL failed with \(code)")
        sockets[slot].facts.remove(.isRegistered)
    }

    private func data(_ slot: Int) -> UInt64 { UInt64(sockets.generation(of: slot)) << 32 | UInt64(slot) }

    /// Returns 0 or an errno.
    private static func control(_ epoll: Int32, _ call: Int32, _ descriptor: Int32, _ events: UInt32, _ data: UInt64)
        -> Int32
    {
        var event = unsafe epoll_event()
        unsafe event.events = events
        unsafe event.data.u64 = data
        return unsafe epoll_ctl(epoll, call, descriptor, &event) == 0 ? 0 : errno
    }

    // MARK: Accepts

    // A listening socket is left as it is made. Its description may be shared with another process during an upgrade, and
    // O_NONBLOCK on it would make every accept of that process' ring end with EAGAIN (U-17). So a connection is taken only
    // when one is reported to wait, and as many as there are; where the other process was faster, accept(2) waits for the
    // shortest time there is (SO_RCVTIMEO; accepted sockets inherit it, and neither driver lets a data call wait). The
    // kernel reports as long as one waits (no EPOLLET).

    private func accept(_ token: Token, _ socket: Socket, into completions: inout [Completion]) {
        let slot = slot(of: socket)
        precondition(sockets[slot].receive == .silent, "a second accept on descriptor \(socket.rawValue)")
        if !sockets[slot].facts.contains(.isListening) {
            sockets[slot].facts = .isListening
            _ = cweir_bound_accept(socket.rawValue)
        }
        if !sockets[slot].facts.contains(.isRegistered) {
            let code = Self.control(epoll, EPOLL_CTL_ADD, socket.rawValue, EPOLLIN.rawValue, data(slot))
            guard code == 0 else {
                complete(token, -code, into: &completions)
                return
            }
            sockets[slot].facts.insert(.isRegistered)
        }
        sockets[slot].receive = token
        accepting.append(slot)
    }

    private func acceptWaiting(_ slot: Int, into completions: inout [Completion]) {
        let listener = sockets[slot].descriptor
        let token = sockets[slot].receive
        guard token != .silent else {
            // It would be reported in every turn.
            stopReports(slot)
            return
        }
        // At least the one that was reported: not every system that calls itself Linux tells how many.
        let count = min(max(cweir_accept_queue(listener), 1), Self.acceptCountMax)
        for _ in 0..<count {
            var peer = sockaddr_storage()
            let code = sockets.liveCount < sockets.capacity ? unsafe cweir_accept(listener, &peer) : -ENFILE
            if code >= 0, let accepted = add(code, [.mayReceive, .maySend]) {
                sockets[accepted].peer = peer.address
                settings.apply(toAccepted: code)
                complete(token, code, hasMore: true, into: &completions)
                continue
            }
            if code == -EAGAIN || code == -EINTR { return }
            sockets[slot].receive = .silent
            accepting.removeAll { $0 == slot }
            complete(token, code, into: &completions)
            return
        }
    }

    package func acceptWaiting(on listener: Socket) -> Socket? {
        guard sockets.liveCount < sockets.capacity else { return nil }
        var peer = sockaddr_storage()
        let code = unsafe cweir_accept_waiting(listener.rawValue, &peer, 1)
        guard code >= 0, let accepted = add(code, [.mayReceive, .maySend]) else { return nil }
        sockets[accepted].peer = peer.address
        settings.apply(toAccepted: code)
        return Socket(rawValue: code)
    }

    // MARK: Connects

    private func connect(
        _ token: Token, _ destination: SocketAddress, _ source: IPAddress?, _ outlet: Outlet, _ keepalive: Keepalive,
        sendsFirst: Bool, into completions: inout [Completion]
    ) {
        precondition(!isConnecting(token), "a second connect for the same token")
        let descriptor = cweir_connecting_socket_nonblocking(destination.ip.family == .v6 ? 1 : 0)
        guard descriptor >= 0 else {
            complete(token, descriptor, into: &completions)
            return
        }
        settings.apply(toConnecting: descriptor, keepalive)
        if sendsFirst { cweir_delay_acknowledgements(descriptor) }
        guard let slot = add(descriptor, [.isConnecting]) else {
            Glibc.close(descriptor)
            complete(token, -ENFILE, into: &completions)
            return
        }
        var address = sockaddr_storage()
        var code: Int32 = 0
        if !outlet.isAny { code = cweir_restrict_outlet(descriptor, outlet.interface, outlet.mark) }
        if code == 0, let source {
            let length = address.set(SocketAddress(source, port: 0))
            code = unsafe cweir_bind_source(descriptor, &address, length)
        }
        if code == 0 {
            let length = address.set(destination)
            code = unsafe cweir_connect(descriptor, &address, length)
        }
        sockets[slot].receive = token
        if code == -EINPROGRESS {
            connects[place(token)] = Int32(truncatingIfNeeded: slot)
            code = -register(slot, room: true)
            if code == 0 { return }
        }
        finishConnect(slot, code, into: &completions)
    }

    private func isConnecting(_ token: Token) -> Bool {
        guard let slot = slot(connects, token) else { return false }
        return sockets[slot].facts.contains(.isConnecting) && place(sockets[slot].receive) == place(token)
    }

    private func connectFinished(_ slot: Int, into completions: inout [Completion]) {
        var code: Int32 = 0
        if !sockets[slot].facts.isDisjoint(with: [.hasFailed, .isOver]) {
            let error = cweir_socket_error(sockets[slot].descriptor)
            // What connect(2) says where the error is gone.
            code = error > 0 ? -error : -ECONNABORTED
        }
        finishConnect(slot, code, into: &completions)
    }

    /// The socket goes to the engine once it is connected and is closed otherwise.
    private func finishConnect(_ slot: Int, _ code: Int32, into completions: inout [Completion]) {
        let (descriptor, token) = (sockets[slot].descriptor, sockets[slot].receive)
        sockets[slot].receive = .silent
        sockets[slot].facts.remove(.isConnecting)
        sockets[slot].facts.insert(.maySend)
        if code < 0 { close(slot) }
        complete(token, code < 0 ? code : descriptor, into: &completions)
    }

    // MARK: Receives

    /// Receives what is there for the receive in flight, or leaves it waiting.
    private func receive(_ slot: Int, into completions: inout [Completion]) {
        if sockets[slot].facts.contains(.isPumpedFrom) {
            pumpSourceChanged(slot, into: &completions)
            return
        }
        let (descriptor, token) = (sockets[slot].descriptor, sockets[slot].receive)
        let isContinuing = sockets[slot].facts.contains(.isContinuing)
        var count = 0
        while sockets[slot].facts.contains(.mayReceive) {
            if count == Self.receiveCountMax || count > 0 && pool.freeLargeCount < pool.largeCount / 2 {
                queueReceive(slot)
                return
            }
            if sockets[slot].facts.contains(.isDrained) {
                finishReceive(slot, 0, into: &completions)
                return
            }
            // Only now, so that no buffer is held for a socket that is silent.
            guard let buffer = pool.takeLarge() else {
                finishReceive(slot, -ENOBUFS, into: &completions)
                return
            }
            let byteCount = unsafe recv(
                descriptor, pool.address(of: buffer), BufferPool.largeByteCount, Int32(MSG_DONTWAIT))
            if byteCount > 0 {
                pool.chunks[Int(buffer)].end = UInt32(byteCount)
                if byteCount < BufferPool.largeByteCount { emptied(slot) }
                if !isContinuing { sockets[slot].receive = .silent }
                let isDrained = sockets[slot].facts.contains(.isDrained)
                completions.append(
                    Completion(
                        token: token, result: Int32(byteCount), buffer: buffer, hasMore: isContinuing,
                        isBeforeEnd: isDrained))
                if !isContinuing { return }
                count += 1
                continue
            }
            let code = byteCount == 0 ? 0 : errno
            pool.release(buffer)
            switch code {
            case EAGAIN: sockets[slot].facts.remove(.mayReceive)
            case EINTR: break
            default:
                finishReceive(slot, -code, into: &completions)
                return
            }
        }
        let code = register(slot)
        if code != 0 { finishReceive(slot, -code, into: &completions) }
    }

    /// Has the receive, or the pump, of a socket go on in the next turn.
    func queueReceive(_ slot: Int) {
        guard !sockets[slot].facts.contains(.isQueued) else { return }
        sockets[slot].facts.insert(.isQueued)
        queue.append(Waiting(slot: slot, generation: sockets.generation(of: slot)))
    }

    /// A receive has found less than it could take, so nothing is left of what had come.
    private func emptied(_ slot: Int) {
        let facts = sockets[slot].facts
        // It stops there although bytes may follow.
        if facts.contains(.hasUrgent) { return }
        // A reset is reported with EPOLLRDHUP as well. Only the next receive tells it from FIN.
        if !facts.isDisjoint(with: [.isOver, .hasFailed]) { return }
        if facts.contains(.hasEnded) {
            // What was seen of FIN was seen before: these were the last bytes.
            sockets[slot].facts.insert(.isDrained)
        } else {
            // What comes from here on is reported.
            sockets[slot].facts.remove(.mayReceive)
        }
    }

    private func finishReceive(_ slot: Int, _ result: Int32, into completions: inout [Completion]) {
        let token = sockets[slot].receive
        sockets[slot].receive = .silent
        complete(token, result, into: &completions)
    }

    // MARK: Sends

    /// Sends what there is room for; the send in flight completes when all is out.
    private func send(_ slot: Int, into completions: inout [Completion]) {
        if sockets[slot].facts.contains(.isPumpedTo) {
            pumpDestinationChanged(slot, into: &completions)
            return
        }
        let (descriptor, payload) = (sockets[slot].descriptor, sockets[slot].payload)
        let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT) | (payload.more ? Int32(MSG_MORE) : 0)
        while sockets[slot].facts.contains(.maySend) {
            let start = unsafe pool.address(of: payload.buffer) + Int(payload.offset + sockets[slot].sentCount)
            let left = Int(payload.byteCount - sockets[slot].sentCount)
            let byteCount = unsafe Glibc.send(descriptor, start, left, flags)
            if byteCount == left {
                finishSend(slot, Int32(payload.byteCount), into: &completions)
                return
            }
            if byteCount >= 0 {
                sockets[slot].sentCount += UInt32(byteCount)
                continue
            }
            switch errno {
            case EAGAIN:
                sockets[slot].facts.remove(.maySend)
                if cweir_unacknowledged(descriptor) == 0 { stall(slot) }
            case EINTR:
                break
            case let code:
                // Also after a part has gone out: the kernel tells of a reset once, and a receive would be told of an
                // end.
                finishSend(slot, -code, into: &completions)
                return
            }
        }
        let code = register(slot, room: true)
        if code != 0 { finishSend(slot, -code, into: &completions) }
    }

    private func finishSend(_ slot: Int, _ result: Int32, into completions: inout [Completion]) {
        let token = sockets[slot].send
        sockets[slot].send = .silent
        complete(token, result, into: &completions)
    }

    /// Nothing is on its way whose arrival could make room, so it was memory that was short, and no event will come.
    func stall(_ slot: Int) {
        stalled.append(Waiting(slot: slot, generation: sockets.generation(of: slot)))
        stalledUntil = min(stalledUntil, now().advanced(byNanoseconds: Self.stallTime))
    }

    // MARK: Watches

    /// Completes the watch in flight where the connection is over.
    private func watch(_ slot: Int, into completions: inout [Completion]) {
        let facts = sockets[slot].facts
        var result: Int32
        if facts.contains(.hasFailed) {
            // Zero where another operation has taken the error, and reported it.
            let code = cweir_socket_error(sockets[slot].descriptor)
            result = code > 0 ? -code : -ECONNRESET
        } else if facts.contains(.isOver) {
            result = 0
        } else {
            result = -register(slot)
            if result == 0 { return }
        }
        let token = sockets[slot].watch
        sockets[slot].watch = .silent
        complete(token, result, into: &completions)
    }
}
