import CWeir

/// What a worker's ring may do, and nothing else (T-19): whoever took the process over could otherwise reach the file
/// system through it, past a seccomp filter.
package enum RingRules {
    /// The operations that `UringDriver` submits.
    package static let operations: [UInt8] = [
        IORING_OP_ACCEPT, IORING_OP_CONNECT, IORING_OP_RECV, IORING_OP_SEND, IORING_OP_POLL_ADD,
        IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE, IORING_OP_TIMEOUT,
    ].map { UInt8($0.rawValue) }

    /// What it registers once the ring is enabled, and takes back at the end.
    package static let registrations: [UInt8] = [
        IORING_REGISTER_RING_FDS, IORING_UNREGISTER_RING_FDS, IORING_REGISTER_IOWQ_MAX_WORKERS,
    ].map { UInt8($0) }

    package static let entryFlags = CWEIR_SQE_BUFFER_SELECT.rawValue | CWEIR_SQE_CQE_SKIP_SUCCESS.rawValue

    /// Binds a ring that is still disabled to the rules. 0, or the errno of a kernel that refuses. `splices`, `setsOptions`: it
    /// does that as well. Options are set by IORING_OP_URING_CMD, which the rules cannot narrow down to them.
    @unsafe
    package static func apply(
        to ring: UnsafeMutablePointer<io_uring>, splices: Bool = false, setsOptions: Bool = false
    ) -> CInt {
        var operations = operations
        if splices { operations.append(UInt8(IORING_OP_SPLICE.rawValue)) }
        if setsOptions { operations.append(CWEIR_OP_SOCKET_COMMAND.rawValue) }
        return
            -(unsafe cweir_restrict_ring(
                ring, operations, CInt(operations.count), registrations, CInt(registrations.count), entryFlags))
    }
}
