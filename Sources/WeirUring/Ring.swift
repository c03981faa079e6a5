import CWeir
import Glibc
import WeirNet
import WeirSockets

/// One io_uring: room for entries, the ways into the kernel, completions in order. What entries mean is its owner's.
///
/// Made disabled. It belongs to the thread that calls `enable` and is used by no other from then on.
@safe
package final class Ring {
    /// SINGLE_ISSUER, DEFER_TASKRUN and COOP_TASKRUN: measured best for short connections and messages. Needs Linux 6.1.
    package static let setupFlags: UInt32 =
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL
        | IORING_SETUP_CQSIZE

    let pointer: UnsafeMutablePointer<io_uring>
    /// Calls into the kernel to submit or wait.
    package private(set) var enterCount: UInt64 = 0
    /// Times the completion queue overflowed; each was flushed (U-04).
    package private(set) var overflowCount: UInt64 = 0

    /// `entryCount`: submission entries, a batch that needs more is handed over in parts. `completionCount`: room for
    /// completions, clamped to four times the entries below and 65,536 above.
    package init(entryCount: UInt32, completionCount: Int) throws(DriverSetupFailure) {
        let pointer = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
        unsafe pointer.initialize(to: io_uring())
        var parameters = io_uring_params()
        parameters.flags = Self.setupFlags | UInt32(IORING_SETUP_R_DISABLED) | UInt32(IORING_SETUP_CLAMP)
        parameters.cq_entries = UInt32(min(max(completionCount, Int(entryCount) * 4), 65536))
        let code = unsafe io_uring_queue_init_params(entryCount, pointer, &parameters)
        guard code == 0 else {
            unsafe pointer.deallocate()
            throw DriverSetupFailure(step: "io_uring_setup", code: -code)
        }
        unsafe self.pointer = pointer
    }

    deinit {
        unsafe io_uring_queue_exit(pointer)
        unsafe pointer.deallocate()
    }

    /// Gives the ring to the calling thread. `threadCountMax`: threads of the kernel's for operations that wait there.
    package func enable(threadCountMax: Int = 4) throws(DriverSetupFailure) {
        let code = unsafe io_uring_enable_rings(pointer)
        guard code == 0 else { throw DriverSetupFailure(step: "io_uring_enable_rings", code: -code) }
        // Where it fails there is no slot left (there are 16 per thread): calls cost a little more then.
        _ = unsafe io_uring_register_ring_fd(pointer)
        // What still ends on a kernel thread is served by a few. Bounded, unbounded.
        var threadCounts: [UInt32] = [1, UInt32(threadCountMax)]
        _ = unsafe io_uring_register_iowq_max_workers(pointer, &threadCounts)
    }

    // MARK: Entries

    /// Submission entries that the ring has.
    package var entryCount: Int { unsafe Int(pointer.pointee.sq.ring_entries) }

    /// Room for the next entry, to be filled by one of liburing's `prep` calls before anything else is asked of the ring.
    @unsafe
    package func nextEntry() -> UnsafeMutablePointer<io_uring_sqe> {
        if let entry = unsafe io_uring_get_sqe(pointer) { return unsafe entry }
        for attempt in 0..<1000 {
            if attempt > 0 { usleep(1000) }
            enterCount += 1
            check(unsafe io_uring_submit(pointer))
            if let entry = unsafe io_uring_get_sqe(pointer) { return unsafe entry }
        }
        preconditionFailure("the kernel took no operation for a second")
    }

    /// Which of `entryCount` places `entry` has.
    @unsafe
    package func position(of entry: UnsafeMutablePointer<io_uring_sqe>) -> Int {
        unsafe entry - pointer.pointee.sq.sqes
    }

    // MARK: Into the kernel

    /// Hands over what was prepared. A negated errno where the kernel refuses.
    package func submit() -> Int32 {
        enterCount += 1
        return unsafe io_uring_submit(pointer)
    }

    /// Hands over what was prepared and waits for a completion, `nanoseconds` at most; 0: does not wait.
    package func submitAndWait(nanoseconds: UInt64) {
        enterCount += 1
        guard nanoseconds > 0 else {
            check(unsafe io_uring_submit_and_get_events(pointer))
            return
        }
        var timeout = __kernel_timespec()
        timeout.tv_sec = Int64(nanoseconds / 1_000_000_000)
        timeout.tv_nsec = Int64(nanoseconds % 1_000_000_000)
        var first: UnsafeMutablePointer<io_uring_cqe>?
        check(unsafe io_uring_submit_and_wait_timeout(pointer, &first, 1, &timeout, nil))
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

    // MARK: Completions

    /// Completions that can be taken.
    package var readyCount: UInt32 { unsafe io_uring_cq_ready(pointer) }

    /// The oldest completion; there is one. Its place is free before it is looked at, because what follows from it may
    /// fill the queue again.
    package func takeCompletion() -> io_uring_cqe {
        let queue = unsafe pointer.pointee.cq
        let entry = unsafe queue.cqes[Int(queue.khead.pointee & queue.ring_mask)]
        unsafe io_uring_cq_advance(pointer, 1)
        return entry
    }

    /// Asks for the completions that did not fit the queue: the kernel keeps them until then (U-04). False: there are none.
    package func flushOverflow() -> Bool {
        guard unsafe cweir_cq_has_overflow(pointer) != 0 else { return false }
        overflowCount += 1
        check(unsafe io_uring_get_events(pointer))
        return true
    }
}
