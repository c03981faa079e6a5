import CWeir
import Glibc
import Testing
import WeirMemory
import WeirUring

/// T-19: a ring of ours is no way past a seccomp filter.
@Suite(.enabled(if: UringProbe.run()[.restrictions] == .works))
struct RingRulesTests {
    private struct NoAnswer: Error {}

    /// What one operation comes to on a ring that is held to the rules.
    private func result(_ prepare: (UnsafeMutablePointer<io_uring_sqe>) -> Void) throws -> CInt {
        var ring = unsafe io_uring()
        var parameters = io_uring_params()
        parameters.flags = Ring.setupFlags | UInt32(IORING_SETUP_R_DISABLED)
        parameters.cq_entries = 8
        try #require(unsafe io_uring_queue_init_params(4, &ring, &parameters) == 0)
        defer { unsafe io_uring_queue_exit(&ring) }
        try #require(unsafe RingRules.apply(to: &ring) == 0)
        try #require(unsafe io_uring_enable_rings(&ring) == 0)
        guard let entry = unsafe io_uring_get_sqe(&ring) else { throw NoAnswer() }
        unsafe prepare(entry)
        try #require(unsafe io_uring_submit_and_wait(&ring, 1) == 1)
        var completion: UnsafeMutablePointer<io_uring_cqe>?
        guard unsafe io_uring_peek_cqe(&ring, &completion) == 0, let completion = unsafe completion else {
            throw NoAnswer()
        }
        return unsafe completion.pointee.res
    }

    @Test func aFileCannotBeOpened() throws {
        let code = try unsafe result { unsafe io_uring_prep_openat($0, AT_FDCWD, "/etc/passwd", O_RDONLY, 0) }
        #expect(code == -EACCES)
    }

    @Test func anEntryFlagThatTheDriverDoesNotUseIsRefused() throws {
        let code = try unsafe result {
            unsafe io_uring_prep_close($0, -1)
            unsafe $0.pointee.flags = 1 << UInt8(IOSQE_ASYNC_BIT)
        }
        #expect(code == -EACCES)
    }

    @Test func anOperationOfTheDriverIsCarriedOut() throws {
        #expect(try unsafe result { unsafe io_uring_prep_close($0, -1) } == -EBADF)
    }

    @Test func theDriverHoldsItsRingToTheRules() throws {
        let pool = BufferPool(largeCount: 8, blockCount: 1)
        let driver = try UringDriver(pool: pool, slotCount: 1, completionCount: 0, bufferRingCount: 8)
        #expect(driver.isRestricted)
    }
}
