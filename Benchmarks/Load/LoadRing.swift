import CWeir
import Glibc
import WeirMemory
import WeirNet
import WeirSockets
import WeirUring

/// One end of a connection: the client's towards the subject, or the origin's behind it.
struct End: BitwiseCopyable {
    enum Role: UInt8 {
        case client
        case origin
    }

    var socket: Int32
    var role: Role
    /// What the role makes of it: how far the exchange has come.
    var isOpen = false
    /// Bytes that are still to come in the exchange under way.
    var expectedByteCount = 0
    /// When the exchange under way began, or should have.
    var startedAt: UInt64 = 0
    /// The client's own number, from 0.
    var number: Int32 = -1
}

/// What became of an operation on an end.
struct Event {
    enum Kind: UInt8 {
        case accepted = 1
        case connected = 2
        case received = 3
        case sent = 4
        case failedQuietly = 5
    }

    var kind: Kind
    /// The end that it happened on; for `accepted` the listening socket's number.
    var end: Int
    /// The operation's result, or a negated errno.
    var result: Int32
    /// The operation goes on.
    var goesOn: Bool
}

/// The kernel as the generator uses it: a thin layer over the engine's ring that never looks at a byte it receives.
@safe
final class LoadRing {
    /// The bytes of a send.
    enum Bytes {
        case hello
        /// Zeroes, at most `chunkByteCountMax`.
        case zeroes(Int)
    }

    static let chunkByteCountMax = 1 << 20
    private static let bufferByteCount = 4096
    private static let bufferCount = 4096

    let ends: Slab<End>
    private let ring: Ring
    private let buffers: BufferRing
    private let memory: UnsafeMutableRawPointer
    /// What bulk is sent from.
    private let zeroes: UnsafeMutableRawPointer
    /// Where what is thrown away would go; nothing is ever written there.
    private let nowhere: UnsafeMutableRawPointer
    private let hello: UnsafeMutableRawPointer
    let helloByteCount: Int
    private let destinations: UnsafeMutablePointer<sockaddr_storage>
    private let destinationLength: socklen_t
    private let destinationCount: Int
    private var nextDestination = 0

    /// Clients connect to `destinations` in turn. Belongs to the calling thread.
    init(hello bytes: [UInt8], destinations addresses: [SocketAddress], endCount: Int) throws(DriverSetupFailure) {
        ring = try Ring(entryCount: 4096, completionCount: 65536)
        buffers = try BufferRing(capacity: Self.bufferCount, in: ring)
        unsafe memory = .allocate(byteCount: Self.bufferCount * Self.bufferByteCount, alignment: 4096)
        unsafe zeroes = .allocate(byteCount: Self.chunkByteCountMax, alignment: 4096)
        unsafe zeroes.initializeMemory(as: UInt8.self, repeating: 0, count: Self.chunkByteCountMax)
        unsafe nowhere = .allocate(byteCount: Self.chunkByteCountMax, alignment: 4096)
        let hello = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: 16)
        unsafe bytes.withUnsafeBytes { unsafe hello.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        unsafe self.hello = hello
        helloByteCount = bytes.count
        unsafe destinations = .allocate(capacity: max(addresses.count, 1))
        destinationCount = addresses.count
        var length: socklen_t = 0
        for (index, address) in addresses.enumerated() {
            unsafe (destinations + index).initialize(to: sockaddr_storage())
            length = unsafe Self.set(destinations + index, address)
        }
        destinationLength = length
        ends = Slab(capacity: endCount)
        for buffer in 0..<Self.bufferCount { giveBack(UInt16(buffer)) }
        buffers.publish()
        try ring.enable()
    }

    private static func set(_ place: UnsafeMutablePointer<sockaddr_storage>, _ address: SocketAddress) -> socklen_t {
        unsafe cweir_sockaddr_set(
            place, address.ip.family == .v6 ? 1 : 0, address.ip.high, address.ip.low, address.port)
    }

    private func giveBack(_ buffer: UInt16) {
        unsafe buffers.offer(buffer, at: memory + Int(buffer) * Self.bufferByteCount, byteCount: Self.bufferByteCount)
    }

    var now: UInt64 { cweir_monotonic_ns() }

    // MARK: Operations

    /// Listens and accepts from now on.
    func listen(on address: SocketAddress) throws(DriverSetupFailure) {
        var place = sockaddr_storage()
        let length = unsafe Self.set(&place, address)
        let socket = unsafe cweir_listening_socket(&place, length, 4096, 0)
        guard socket >= 0 else { throw DriverSetupFailure(step: "listen on \(address)", code: -socket) }
        accept(socket)
    }

    func accept(_ listener: Int32) {
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_multishot_accept(entry, listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
        unsafe entry.pointee.user_data = Self.name(.accepted, Int(listener), 0)
    }

    /// A new client end that is being connected; completes as `connected`.
    func connect() -> Int {
        let socket = cweir_connecting_socket(0)
        guard socket >= 0 else { fatalError("socket(2) failed with \(-socket)") }
        cweir_set_no_delay(socket)
        let end = add(End(socket: socket, role: .client))
        let entry = unsafe ring.nextEntry()
        let destination = unsafe UnsafeMutableRawPointer(destinations + nextDestination)
        nextDestination = (nextDestination + 1) % destinationCount
        unsafe io_uring_prep_connect(
            entry, socket, destination.assumingMemoryBound(to: sockaddr.self), destinationLength)
        unsafe entry.pointee.user_data = name(.connected, end)
        return end
    }

    /// The end of an accepted connection.
    func add(_ end: End) -> Int {
        guard let index = ends.allocate(end) else { fatalError("more than \(ends.capacity) ends") }
        return index
    }

    /// Receives once, or until the stream ends (`goesOn`).
    func receive(_ end: Int, goesOn: Bool) {
        let entry = unsafe ring.nextEntry()
        if goesOn {
            unsafe io_uring_prep_recv_multishot(entry, ends[end].socket, nil, 0, 0)
        } else {
            unsafe io_uring_prep_recv(entry, ends[end].socket, nil, 0, 0)
        }
        unsafe entry.pointee.flags = CWEIR_SQE_BUFFER_SELECT.rawValue
        unsafe entry.pointee.buf_group = BufferRing.group
        unsafe entry.pointee.user_data = name(.received, end)
    }

    /// Receives up to `chunkByteCountMax` bytes once, and has the kernel drop them uncopied (MSG_TRUNC on TCP).
    func drain(_ end: Int) {
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_recv(
            entry, ends[end].socket, nowhere, Self.chunkByteCountMax, Int32(MSG_TRUNC))
        unsafe entry.pointee.user_data = name(.received, end)
    }

    /// Sends all of it. `reports`: completes as `sent`; otherwise only a failure is told.
    func send(_ end: Int, _ bytes: Bytes, reports: Bool = false) {
        let entry = unsafe ring.nextEntry()
        let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_WAITALL)
        switch bytes {
        case .hello: unsafe io_uring_prep_send(entry, ends[end].socket, hello, helloByteCount, flags)
        case .zeroes(let count):
            precondition(count <= Self.chunkByteCountMax)
            unsafe io_uring_prep_send(entry, ends[end].socket, zeroes, count, flags)
        }
        unsafe entry.pointee.user_data = name(reports ? .sent : .failedQuietly, end)
        if !reports { unsafe entry.pointee.flags = CWEIR_SQE_CQE_SKIP_SUCCESS.rawValue }
    }

    /// Closes; no receive may be in flight, or FIN would wait for it.
    func close(_ end: Int) {
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_close(entry, ends[end].socket)
        unsafe entry.pointee.user_data = name(.failedQuietly, end)
        unsafe entry.pointee.flags = CWEIR_SQE_CQE_SKIP_SUCCESS.rawValue
        ends.free(end)
    }

    // MARK: Completions

    /// Hands over what was asked for and reports what has happened, after `nanoseconds` at the latest.
    func turn(waiting nanoseconds: UInt64, _ report: (Event) -> Void) {
        buffers.publish()
        ring.submitAndWait(nanoseconds: nanoseconds)
        repeat {
            for _ in 0..<ring.readyCount {
                if let event = event(of: ring.takeCompletion()) { report(event) }
            }
        } while ring.flushOverflow()
    }

    private func event(of completion: io_uring_cqe) -> Event? {
        if completion.flags & UInt32(IORING_CQE_F_BUFFER) != 0 {
            buffers.taken()
            giveBack(UInt16(completion.flags >> UInt32(IORING_CQE_BUFFER_SHIFT)))
        }
        guard let kind = Event.Kind(rawValue: UInt8(truncatingIfNeeded: completion.user_data >> 56)) else {
            fatalError("a completion of unknown kind")
        }
        let end = Int(completion.user_data & 0xffff_ffff)
        let generation = UInt32(truncatingIfNeeded: completion.user_data >> 32) & 0xff_ffff
        // What an end that is gone had in flight: only its failures are told, and they ended it.
        if kind != .accepted && (!ends.isLive(end) || ends.generation(of: end) & 0xff_ffff != generation) { return nil }
        let goesOn = completion.flags & UInt32(IORING_CQE_F_MORE) != 0
        return Event(kind: kind, end: end, result: completion.res, goesOn: goesOn)
    }

    private func name(_ kind: Event.Kind, _ end: Int) -> UInt64 { Self.name(kind, end, ends.generation(of: end)) }

    private static func name(_ kind: Event.Kind, _ end: Int, _ generation: UInt32) -> UInt64 {
        UInt64(kind.rawValue) << 56 | UInt64(generation & 0xff_ffff) << 32 | UInt64(end)
    }
}
