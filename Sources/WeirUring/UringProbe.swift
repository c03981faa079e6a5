import CWeir
import Glibc

/// What `UringProbe` found: every feature the driver is built on, tried by using it.
package struct UringProbeReport: Sendable, Equatable {
    package enum Feature: CaseIterable, Sendable {
        /// A ring with the set-up flags of the driver (Linux 6.1).
        case ring
        /// Receive buffers that the kernel picks from a shared ring (5.19).
        case bufferRing
        /// One accept operation that completes once per connection (5.19).
        case multishotAccept
        /// One receive operation that completes once per arrival, into a picked buffer (6.0).
        case multishotReceive
        /// A live operation is cancelled, and completes because of it.
        case cancel
        /// A ring that refuses every operation but those of the driver (5.10). It goes on without.
        case restrictions

        /// Whether the driver needs it.
        package var isRequired: Bool { self != .restrictions }
    }

    package enum Outcome: Sendable, Equatable {
        case works
        /// `call` was answered with this errno; 0 where the kernel took the operation and did something else.
        case fails(call: String, CInt)
        /// An earlier feature failed that this one needs.
        case notTried
    }

    /// One outcome per feature, in the order of `Feature.allCases`.
    package private(set) var outcomes: [Outcome] = Array(repeating: .notTried, count: Feature.allCases.count)

    package init() {}

    package subscript(feature: Feature) -> Outcome {
        get { outcomes[Feature.allCases.firstIndex(of: feature)!] }
        set { outcomes[Feature.allCases.firstIndex(of: feature)!] = newValue }
    }

    /// Whether the driver can run here.
    package var isUsable: Bool { Feature.allCases.allSatisfy { !$0.isRequired || self[$0] == .works } }
}

/// Tries the kernel's io_uring by real operations on a connection of its own, as a version number says nothing of
/// seccomp, sysctl and back-ports (U-01, U-02).
package enum UringProbe {
    /// Runs for less than a millisecond on the calling thread and leaves nothing open. A step that gets no answer fails
    /// with ETIME after a second.
    package static func run() -> UringProbeReport {
        var report = UringProbeReport()
        do throws(StepFailure) {
            try probe(&report)
        } catch {
            report[error.feature] = .fails(call: error.call, error.code)
        }
        return report
    }

    private struct StepFailure: Error {
        let feature: UringProbeReport.Feature
        var call = "io_uring_enter"
        let code: CInt
    }

    private static func probe(_ report: inout UringProbeReport) throws(StepFailure) {
        let ring = ProbeRing()
        guard ring.setupCode == 0 else {
            throw StepFailure(feature: .ring, call: "io_uring_setup", code: ring.setupCode)
        }
        report[.ring] = .works

        let registerCode = ring.registerBuffers()
        guard registerCode == 0 else {
            throw StepFailure(feature: .bufferRing, call: "io_uring_register", code: registerCode)
        }
        report[.bufferRing] = .works

        // Two connections through one accept, which then stays armed.
        guard let listener = ProbeListener() else {
            throw StepFailure(feature: .multishotAccept, call: "socket", code: errno)
        }
        let acceptCode = ring.submitAccept(listener.socket.descriptor)
        guard acceptCode == 0 else { throw StepFailure(feature: .multishotAccept, code: acceptCode) }
        var accepted: [ProbeSocket] = []
        var connected: [ProbeSocket] = []
        for _ in 0..<2 {
            guard let client = listener.connect() else {
                throw StepFailure(feature: .multishotAccept, call: "connect", code: errno)
            }
            connected.append(client)
            let arrival = ring.next()
            guard arrival.result >= 0 else { throw StepFailure(feature: .multishotAccept, code: -arrival.result) }
            accepted.append(ProbeSocket(descriptor: arrival.result))
            guard arrival.operation == .accept, arrival.isMore else {
                throw StepFailure(feature: .multishotAccept, code: 0)
            }
        }
        report[.multishotAccept] = .works

        // Two arrivals through one receive.
        let receiveCode = ring.submitReceive(accepted[0].descriptor)
        guard receiveCode == 0 else { throw StepFailure(feature: .multishotReceive, code: receiveCode) }
        for _ in 0..<2 {
            connected[0].sendOneByte()
            let arrival = ring.next()
            guard arrival.result >= 0 else { throw StepFailure(feature: .multishotReceive, code: -arrival.result) }
            guard arrival.operation == .receive, arrival.result == 1, arrival.isMore, arrival.hasBuffer else {
                throw StepFailure(feature: .multishotReceive, code: 0)
            }
        }
        report[.multishotReceive] = .works

        // The receive ends with ECANCELED and the cancel with its own completion, in either order.
        let cancelCode = ring.submitCancel(.receive)
        guard cancelCode == 0 else { throw StepFailure(feature: .cancel, code: cancelCode) }
        for _ in 0..<2 {
            let ending = ring.next()
            switch ending.operation {
            case .cancel where ending.result >= 0: continue
            case .receive where ending.result == -ECANCELED && !ending.isMore: continue
            case .cancel: throw StepFailure(feature: .cancel, code: -ending.result)
            case .accept, .receive, nil: throw StepFailure(feature: .cancel, code: max(0, -ending.result))
            }
        }
        report[.cancel] = .works

        let restrictCode = ProbeRing.restrict()
        guard restrictCode == 0 else {
            throw StepFailure(feature: .restrictions, call: "io_uring_register", code: max(restrictCode, 0))
        }
        report[.restrictions] = .works
    }
}

/// A small ring, its buffers, and the few operations the probe needs. Closed when it goes away.
///
/// The pointers below are owned by this object alone, live exactly as long as it does, and never leave it.
@safe
private final class ProbeRing {
    enum Operation: UInt64 {
        case accept = 1
        case receive
        case cancel
    }

    struct Arrival {
        /// nil where nothing arrived in time.
        var operation: Operation?
        var result: CInt
        var isMore = false
        var hasBuffer = false
    }

    private static let bufferCount: UInt32 = 8
    private static let bufferByteCount: UInt32 = 64
    private static let group: UInt16 = 1

    /// 0, or the errno of io_uring_setup(2).
    let setupCode: CInt
    private let ring = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
    /// One page: the buffer ring in front, the buffers behind.
    private let page: UnsafeMutableRawPointer

    init() {
        unsafe ring.initialize(to: io_uring())
        unsafe page = .allocate(byteCount: 4096, alignment: 4096)
        var parameters = io_uring_params()
        parameters.flags = Ring.setupFlags
        parameters.cq_entries = 64
        setupCode = -(unsafe io_uring_queue_init_params(8, ring, &parameters))
    }

    deinit {
        // Ends the accept that is still armed, too.
        if setupCode == 0 { unsafe io_uring_queue_exit(ring) }
        unsafe ring.deallocate()
        unsafe page.deallocate()
    }

    /// Holds a ring of its own to the driver's rules and tries what they do not name. 0: it was refused; else an errno,
    /// or -1 where it was carried out.
    static func restrict() -> CInt {
        var ring = unsafe io_uring()
        var parameters = io_uring_params()
        parameters.flags = Ring.setupFlags | UInt32(IORING_SETUP_R_DISABLED)
        parameters.cq_entries = 8
        var code = unsafe io_uring_queue_init_params(4, &ring, &parameters)
        guard code == 0 else { return -code }
        defer { unsafe io_uring_queue_exit(&ring) }
        code = unsafe RingRules.apply(to: &ring)
        guard code == 0 else { return code }
        code = unsafe io_uring_enable_rings(&ring)
        guard code == 0, let entry = unsafe io_uring_get_sqe(&ring) else { return -code }
        unsafe io_uring_prep_nop(entry)
        code = unsafe io_uring_submit_and_wait(&ring, 1)
        var completion: UnsafeMutablePointer<io_uring_cqe>?
        guard code >= 0, unsafe io_uring_peek_cqe(&ring, &completion) == 0, let completion = unsafe completion else {
            return code < 0 ? -code : ETIME
        }
        let result = unsafe completion.pointee.res
        return result == -EACCES ? 0 : -1
    }

    func registerBuffers() -> CInt {
        let buffers = unsafe page.bindMemory(to: io_uring_buf_ring.self, capacity: 1)
        var registration = io_uring_buf_reg()
        registration.ring_addr = UInt64(UInt(bitPattern: unsafe page))
        registration.ring_entries = Self.bufferCount
        registration.bgid = Self.group
        let code = unsafe io_uring_register_buf_ring(ring, &registration, 0)
        guard code == 0 else { return -code }
        unsafe io_uring_buf_ring_init(buffers)
        let mask = CInt(Self.bufferCount - 1)
        for index in 0..<Self.bufferCount {
            let buffer = unsafe page + 1024 + Int(index * Self.bufferByteCount)
            unsafe io_uring_buf_ring_add(buffers, buffer, Self.bufferByteCount, UInt16(index), mask, CInt(index))
        }
        unsafe io_uring_buf_ring_advance(buffers, CInt(Self.bufferCount))
        return 0
    }

    /// 0 or an errno, as the others below.
    func submitAccept(_ listener: CInt) -> CInt {
        let entry = unsafe io_uring_get_sqe(ring)!
        unsafe io_uring_prep_multishot_accept(entry, listener, nil, nil, CInt(SOCK_CLOEXEC.rawValue))
        return unsafe submit(entry, .accept)
    }

    func submitReceive(_ descriptor: CInt) -> CInt {
        let entry = unsafe io_uring_get_sqe(ring)!
        unsafe io_uring_prep_recv_multishot(entry, descriptor, nil, 0, 0)
        unsafe entry.pointee.flags |= 1 << UInt8(IOSQE_BUFFER_SELECT_BIT)
        unsafe entry.pointee.buf_group = Self.group
        return unsafe submit(entry, .receive)
    }

    func submitCancel(_ operation: Operation) -> CInt {
        let entry = unsafe io_uring_get_sqe(ring)!
        unsafe io_uring_prep_cancel64(entry, operation.rawValue, 0)
        return unsafe submit(entry, .cancel)
    }

    private func submit(_ entry: UnsafeMutablePointer<io_uring_sqe>, _ operation: Operation) -> CInt {
        unsafe entry.pointee.user_data = operation.rawValue
        return max(0, -(unsafe io_uring_submit(ring)))
    }

    /// The next completion; ETIME after a second.
    func next() -> Arrival {
        var entry: UnsafeMutablePointer<io_uring_cqe>?
        var limit = __kernel_timespec(tv_sec: 1, tv_nsec: 0)
        let code = unsafe io_uring_wait_cqe_timeout(ring, &entry, &limit)
        guard code == 0, let entry = unsafe entry else {
            return Arrival(operation: nil, result: code == 0 ? -ETIME : code)
        }
        let completion = unsafe entry.pointee
        unsafe io_uring_cqe_seen(ring, entry)
        return Arrival(
            operation: Operation(rawValue: completion.user_data), result: completion.res,
            isMore: completion.flags & IORING_CQE_F_MORE != 0, hasBuffer: completion.flags & IORING_CQE_F_BUFFER != 0)
    }
}

/// A blocking socket. Closed when it goes away.
private final class ProbeSocket {
    let descriptor: CInt

    init(descriptor: CInt) { self.descriptor = descriptor }
    deinit { close(descriptor) }

    /// nil with errno.
    convenience init?(family: CInt) {
        let descriptor = socket(family, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        self.init(descriptor: descriptor)
    }

    func sendOneByte() {
        var byte: UInt8 = 0x57
        unsafe _ = send(descriptor, &byte, 1, CInt(MSG_NOSIGNAL))
    }
}

/// A listening socket that can be connected to: a local one, because a container may have its loopback interface down or
/// filtered, which says nothing about io_uring; TCP only where a sandbox leaves no local sockets.
private struct ProbeListener {
    let socket: ProbeSocket
    private let family: CInt
    private var address = sockaddr_storage()
    private var byteCount: socklen_t

    /// nil with errno.
    init?() {
        guard let made = ProbeListener(family: AF_UNIX) ?? ProbeListener(family: AF_INET) else { return nil }
        self = made
    }

    private init?(family: CInt) {
        guard let socket = ProbeSocket(family: family) else { return nil }
        self.socket = socket
        self.family = family
        if family == AF_INET {
            byteCount = unsafe cweir_sockaddr_set(&address, 0, 0, 0x7f00_0001, 0)
        } else {
            // The family alone: the kernel chooses an abstract name (unix(7), autobind).
            address.ss_family = sa_family_t(family)
            byteCount = socklen_t(MemoryLayout<sa_family_t>.size)
        }
        guard unsafe apply(bind, to: socket) == 0, listen(socket.descriptor, 4) == 0 else { return nil }
        // Now the name or port that it got.
        byteCount = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let isNamed = unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getsockname(socket.descriptor, $0, &byteCount) == 0
            }
        }
        guard isNamed else { return nil }
    }

    /// nil with errno.
    func connect() -> ProbeSocket? {
        guard let made = ProbeSocket(family: family), unsafe apply(Glibc.connect, to: made) == 0 else { return nil }
        return made
    }

    /// bind(2) or connect(2) with the address.
    private func apply(
        _ call: (CInt, UnsafePointer<sockaddr>?, socklen_t) -> CInt, to socket: ProbeSocket
    ) -> CInt {
        unsafe withUnsafePointer(to: address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe call(socket.descriptor, $0, byteCount)
            }
        }
    }
}
