import Glibc
import Testing
import WeirUring

/// Events as the kernel's poll reports them; FIN is EPOLLRDHUP.
private let fin: Int32 = 0x2000
private let reset = Int32(POLLERR) | Int32(POLLHUP) | fin
private let bothEnded = Int32(POLLHUP) | fin

@Suite final class WatchTableTests {
    private let table = WatchTable(count: 4)

    deinit { table.deallocate() }

    private func completed(_ result: Int32, hasMore: Bool, error: Int32 = ECONNRESET) -> WatchTable.Step {
        table.completed(1, result, hasMore: hasMore) { _ in error }
    }

    @Test func endOfOneDirectionIsNoNews() {
        table.start(1, 70)
        #expect(completed(fin, hasMore: true) == .wait)
        #expect(completed(fin, hasMore: true) == .wait)
    }

    @Test func errorIsReportedWhenThePollIsHome() {
        table.start(1, 70)
        #expect(completed(reset, hasMore: true) == .cancel)
        #expect(completed(-ECANCELED, hasMore: false) == .report(-ECONNRESET))
    }

    @Test func secondEventBeforeTheCancelChangesNothing() {
        table.start(1, 70)
        #expect(completed(reset, hasMore: true, error: ETIMEDOUT) == .cancel)
        #expect(completed(reset, hasMore: true, error: 0) == .wait)
        #expect(completed(bothEnded, hasMore: false) == .report(-ETIMEDOUT))
        // Nothing of it is left for the next watch of that place.
        table.start(1, 71)
        #expect(completed(bothEnded, hasMore: false) == .report(0))
    }

    @Test func errorThatSomebodyElseHasTakenIsAReset() {
        table.start(1, 70)
        #expect(completed(reset, hasMore: false, error: 0) == .report(-ECONNRESET))
    }

    /// U-06: a full completion queue ends the poll; the connection has not ended.
    @Test func pollThatEndsWithoutNewsStartsAgain() {
        table.start(1, 70)
        #expect(completed(fin, hasMore: false) == .pollAgain)
        #expect(table.descriptor(1) == 70)
        #expect(completed(bothEnded, hasMore: true) == .cancel)
        #expect(completed(-ECANCELED, hasMore: false) == .report(0))
    }

    /// U-10: the cancel found nothing because the poll had just ended by itself.
    @Test func cancelledWatchDoesNotStartAgain() {
        table.start(1, 70)
        #expect(table.cancel(1))
        #expect(completed(fin, hasMore: false) == .report(-ECANCELED))
    }

    @Test func cancelAfterTheErrorIsNotNeeded() {
        table.start(1, 70)
        #expect(completed(reset, hasMore: true) == .cancel)
        #expect(!table.cancel(1))
        #expect(completed(-ECANCELED, hasMore: false) == .report(-ECONNRESET))
        #expect(!table.cancel(1))
    }

    @Test func refusedPollIsReported() {
        table.start(1, 70)
        #expect(completed(-ENOMEM, hasMore: false) == .report(-ENOMEM))
    }

    /// RS-06: between the event and the end of its poll, a receive would take the reset for an end.
    @Test func errorThatWasTakenIsKnownUntilItIsReported() {
        #expect(table.takenError(1) == nil)
        table.start(1, 70)
        #expect(completed(fin, hasMore: true) == .wait)
        #expect(table.takenError(1) == nil)
        #expect(completed(reset, hasMore: true) == .cancel)
        #expect(table.takenError(1) == -ECONNRESET)
        #expect(table.takenError(0) == nil && table.takenError(1 << 20) == nil)
        #expect(completed(-ECANCELED, hasMore: false) == .report(-ECONNRESET))
        #expect(table.takenError(1) == nil)
    }

    @Test func cancelledWatchHasTakenNothing() {
        table.start(1, 70)
        #expect(table.cancel(1))
        #expect(table.takenError(1) == nil)
    }
}
