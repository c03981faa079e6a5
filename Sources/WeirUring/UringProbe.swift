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
    }

    package enum Outcome: Sendable, Equatable {
        case works
        /// With this errno; 0 where the kernel took the operation and did something else.
        case fails(CInt)
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

    /// Whether the driver can run here: it uses every feature.
    package var isUsable: Bool { outcomes.allSatisfy { $0 == .works } }
}

/// Tries the kernel's io_uring by real operations on a loopback connection, as a version number says nothing of
/// seccomp, sysctl and back-ports (U-01, U-02).
package enum UringProbe {
    /// The set-up that the driver asks for.
    package static let setupFlags: UInt32 =
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL
        | IORING_SETUP_CQSIZE

    /// Runs for some milliseconds on the calling thread and leaves nothing open. A step that gets no answer fails with
    /// ETIME after a second.
    package static func run() -> UringProbeReport {
        var report = UringProbeReport()
        do throws(StepFailure) {
            try probe(&report)
        } catch {
            report[error.feature] = .fails(error.code)
        }
        return report
    }

    private struct StepFailure: Error {
        let feature: UringProbeReport.Feature
        let code: CInt
    }

    private static func probe(_ report: inout UringProbeReport) throws(StepFailure) {
        let ring = ProbeRing()
        guard ring.setupCode == 0 else { throw StepFailure(feature: .ring, code: ring.setupCode) }
        report[.ring] = .works

        let registerCode = ring.registerBuffers()
        guard registerCode == 0 else { throw StepFailure(feature: .bufferRing, code: registerCode) }
        report[.bufferRing] = .works

        // Two connections through one accept, which then stays armed.
        guard let listener = ProbeSocket.listening() else { throw StepFailure(feature: .multishotAccept, code: errno) }
        ring.submitAccept(listener.descriptor)
        var accepted: [ProbeSocket] = []
        var connected: [ProbeSocket] = []
        for _ in 0..<2 {
            guard let client = ProbeSocket.connected(to: listener) else {
                throw StepFailure(feature: .multishotAccept, code: errno)
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
        ring.submitReceive(accepted[0].descriptor)
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
        ring.submitCancel(.receive)
        for _ in 0..<2 {
            let ending = ring.next()
            switch ending.operation {
            case .cancel where ending.result >= 0: continue
            case .receive where ending.result == -ECANCELED && !ending.isMore: continue
            case .cancel: throw StepFailure(feature: .cancel, code: -ending.result)
            case .accept, .receive, nil: throw StepFailure(feature: .cancel, code: min(0, -ending.result))
            }
        }
        report[.cancel] = .works
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
        parameters.flags = UringProbe.setupFlags
        parameters.cq_entries = 64
        setupCode = -(unsafe io_uring_queue_init_params(8, ring, &parameters))
    }

    deinit {
        // Ends the accept that is still armed, too.
        if setupCode == 0 { unsafe io_uring_queue_exit(ring) }
        unsafe ring.deallocate()
        unsafe page.deallocate()
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

    func submitAccept(_ listener: CInt) {
        let entry = unsafe io_uring_get_sqe(ring)!
        unsafe io_uring_prep_multishot_accept(entry, listener, nil, nil, CInt(SOCK_CLOEXEC.rawValue))
        unsafe submit(entry, .accept)
    }

    func submitReceive(_ descriptor: CInt) {
        let entry = unsafe io_uring_get_sqe(ring)!
        unsafe io_uring_prep_recv_multishot(entry, descriptor, nil, 0, 0)
        unsafe entry.pointee.flags |= 1 << UInt8(IOSQE_BUFFER_SELECT_BIT)
        unsafe entry.pointee.buf_group = Self.group
        unsafe submit(entry, .receive)
    }

    func submitCancel(_ operation: Operation) {
        let entry = unsafe io_uring_get_sqe(ring)!
        unsafe io_uring_prep_cancel64(entry, operation.rawValue, 0)
        unsafe submit(entry, .cancel)
    }

    private func submit(_ entry: UnsafeMutablePointer<io_uring_sqe>, _ operation: Operation) {
        unsafe entry.pointee.user_data = operation.rawValue
        unsafe _ = io_uring_submit(ring)
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

/// A blocking loopback socket. Closed when it goes away.
private final class ProbeSocket {
    let descriptor: CInt

    init(descriptor: CInt) { self.descriptor = descriptor }
    deinit { close(descriptor) }

    private convenience init?() {
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        self.init(descriptor: descriptor)
    }

    /// On 127.0.0.1 and a free port; nil with errno.
    static func listening() -> ProbeSocket? {
        guard let made = ProbeSocket() else { return nil }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        guard unsafe made.apply(&address, bind) == 0, listen(made.descriptor, 4) == 0 else { return nil }
        return made
    }

    /// nil with errno.
    static func connected(to listener: ProbeSocket) -> ProbeSocket? {
        var address = sockaddr_in()
        var byteCount = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isNamed = unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getsockname(listener.descriptor, $0, &byteCount) == 0
            }
        }
        guard isNamed, let made = ProbeSocket(), unsafe made.apply(&address, connect) == 0 else { return nil }
        return made
    }

    func sendOneByte() {
        var byte: UInt8 = 0x57
        unsafe _ = send(descriptor, &byte, 1, CInt(MSG_NOSIGNAL))
    }

    /// bind(2) or connect(2).
    private func apply(
        _ address: inout sockaddr_in, _ call: (CInt, UnsafePointer<sockaddr>?, socklen_t) -> CInt
    ) -> CInt {
        unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe call(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
