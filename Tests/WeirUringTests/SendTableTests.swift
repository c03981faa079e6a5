import Glibc
import Testing
import WeirDriverHarness
import WeirIO
import WeirUring

/// Events as the kernel's poll reports them; FIN is EPOLLRDHUP.
private let fin: Int32 = 0x2000
private let room = Int32(POLLOUT)

@Suite final class SendTableTests {
    private let table = SendTable(count: 4)

    deinit { table.deallocate() }

    private func start() {
        table.start(1, .send(), Socket(rawValue: 70), Payload(buffer: 3, offset: 10, byteCount: 100))
    }

    private func isFree() -> Bool { !table.contains(1, .send()) }

    @Test func wholeSendIsReportedAtOnce() {
        start()
        #expect(table.sent(1, 100) == .report(100))
        #expect(isFree())
    }

    @Test func whatDidNotGoOutWaitsForRoomAndIsSentFromWhereItStopped() {
        start()
        #expect(table.sent(1, 30) == .poll)
        #expect(table.polled(1, room, hasMore: false) == .send)
        #expect(table.send(1).rest.offset == 40 && table.send(1).rest.byteCount == 70)
        #expect(table.sent(1, -EAGAIN) == .poll)
        #expect(table.polled(1, room | fin, hasMore: false) == .send)
        #expect(table.sent(1, 70) == .report(100))
    }

    @Test(arguments: [-ECANCELED, -EINTR]) func aPartThatWentOutIsNotSentAgain(code: Int32) {
        start()
        #expect(table.sent(1, 30) == .poll)
        #expect(table.polled(1, room, hasMore: false) == .send)
        let step = table.sent(1, code)
        #expect(code == -ECANCELED ? step == .report(30) : step == .poll)
        #expect(code == -ECANCELED || table.send(1).rest.offset == 40)
    }

    /// U-12: a poll reports FIN at once and for ever, which says nothing about room.
    @Test func standingEndOfThePeerIsNoRoom() {
        start()
        #expect(table.sent(1, -EAGAIN) == .poll)
        #expect(table.polled(1, fin, hasMore: false) == .pollOn)
        #expect(table.polled(1, fin, hasMore: true) == .wait)
        #expect(table.polled(1, room | fin, hasMore: true) == .cancelWait)
        #expect(table.polled(1, room | fin, hasMore: true) == .wait)
        #expect(table.polled(1, -ECANCELED, hasMore: false) == .send)
    }

    /// U-06
    @Test func pollThatEndsWithoutRoomStartsAgain() {
        start()
        _ = table.sent(1, -EAGAIN)
        _ = table.polled(1, fin, hasMore: false)
        #expect(table.polled(1, fin, hasMore: false) == .pollOn)
        #expect(table.polled(1, room, hasMore: false) == .send)
    }

    @Test func afterAnErrorTheSendSaysWhatItIs() {
        start()
        _ = table.sent(1, -EAGAIN)
        #expect(table.polled(1, Int32(POLLERR) | Int32(POLLHUP), hasMore: false) == .send)
        #expect(table.sent(1, -ECONNRESET) == .report(-ECONNRESET))
        #expect(isFree())
    }

    /// RS-06: the kernel tells of a reset once; whoever asks next is told of an end.
    @Test func errorAfterAPartIsReported() {
        start()
        #expect(table.sent(1, 30) == .poll)
        #expect(table.polled(1, Int32(POLLERR), hasMore: false) == .send)
        #expect(table.sent(1, -ECONNRESET) == .report(-ECONNRESET))
        #expect(isFree())
    }

    @Test(arguments: [0, 30]) func cancelEndsTheWaitAndSaysWhatWentOut(count: Int32) {
        start()
        #expect(table.sent(1, count == 0 ? -EAGAIN : count) == .poll)
        #expect(table.cancel(1) == .cancelWait)
        #expect(table.polled(1, -ECANCELED, hasMore: false) == .report(count == 0 ? -ECANCELED : count))
        #expect(isFree())
    }

    @Test func cancelDuringAPollThatGoesOnWaitsForItsEnd() {
        start()
        _ = table.sent(1, -EAGAIN)
        _ = table.polled(1, fin, hasMore: false)
        #expect(table.cancel(1) == .cancelWait)
        #expect(table.polled(1, room | fin, hasMore: true) == .wait)
        #expect(table.polled(1, -ECANCELED, hasMore: false) == .report(-ECANCELED))
    }

    @Test func cancelOfASendThatIsBeingTriedLetsItEndByItself() {
        start()
        #expect(table.cancel(1) == .wait)
        #expect(table.sent(1, -EAGAIN) == .report(-ECANCELED))
        start()
        #expect(table.cancel(1) == .wait)
        #expect(table.sent(1, 100) == .report(100))
    }

    @Test func onlyItsOwnTokenIsASend() {
        start()
        #expect(table.contains(1, .send()))
        #expect(!table.contains(1, .receive()))
        #expect(!table.contains(0, .send()))
        #expect(!table.contains(1 << 20, .send()))
    }

    /// TCP's memory is short: the kernel says that there is room, and there is none.
    @Test func sendThatIsToldOfRoomInVainPauses() {
        start()
        #expect(table.sent(1, -EAGAIN) == .poll)
        #expect(table.polled(1, room, hasMore: false) == .send)
        #expect(table.sent(1, -EAGAIN) == .poll)
        #expect(table.polled(1, room, hasMore: false) == .send)
        #expect(table.sent(1, -EAGAIN) == .pause)
        #expect(table.polled(1, -ETIME, hasMore: false) == .send)
        #expect(table.sent(1, -EAGAIN) == .poll)
        #expect(table.polled(1, room, hasMore: false) == .send)
        #expect(table.sent(1, 1) == .poll)
    }

    @Test func pauseIsCancelled() {
        start()
        _ = table.sent(1, -EAGAIN)
        for _ in 0..<2 {
            _ = table.polled(1, room, hasMore: false)
            _ = table.sent(1, -EAGAIN)
        }
        #expect(table.cancel(1) == .cancelWait)
        #expect(table.polled(1, -ECANCELED, hasMore: false) == .report(-ECANCELED))
    }
}
