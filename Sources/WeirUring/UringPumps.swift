import CWeir
import Glibc
import WeirIO
import WeirMemory
import WeirSockets

// Pumps. The ring says when a source has something and when a destination has room; bytes are moved by calls that do not
// wait (`direct`), or through the ring (`ring`), which hands each splice to a thread of the kernel's.

/// How bytes go into a pipe and out of it.
package enum SpliceMethod: Sendable {
    /// splice(2) on the worker's thread, once the kernel has reported that it will not wait.
    case direct
    /// IORING_OP_SPLICE.
    case ring
}

/// What a pump has in the ring.
struct PumpOperations: BitwiseCopyable {
    enum Poll: UInt8 {
        case none
        case armed
        case cancelled
    }

    var isFilling = false
    var isDraining = false
    var sourcePoll = Poll.none
    var destinationPoll = Poll.none
    var pause = Poll.none

    var isSplicing: Bool { isFilling || isDraining }
    var isHome: Bool { !isSplicing && sourcePoll == .none && destinationPoll == .none && pause == .none }
}

extension UringDriver {
    /// Carriers that one pump fills in a turn: others wait meanwhile.
    private static let fillCountMax = 2

    func startPump(_ token: Token, _ from: Int32, _ to: Int32) {
        guard let index = pumps.start(token, at: place(token), from: from, to: to) else {
            immediate.append(Completion(token: token, result: -ENOBUFS, buffer: BufferPool.none, hasMore: false))
            // Who has nothing to move gives his up, for whoever asks next.
            if let resting = pumps.resting() {
                pumps.update(resting) { $0.stop() }
                pumps.enqueue(resting)
            }
            return
        }
        pumpOperations[index] = PumpOperations()
        pumps.enqueue(index)
    }

    func stopPump(_ token: Token) {
        guard let index = pumps.index(of: token, at: place(token)) else { return }
        pumps.update(index) { $0.stop() }
        pumps.enqueue(index)
    }

    func cancelPump(_ index: Int) {
        pumps.update(index) { $0.cancel() }
        if pumpOperations[index].isSplicing { cancel(pumps[index].token.rawValue) }
        pumps.enqueue(index)
    }

    func runPumps(into completions: inout [Completion]) {
        for index in pumps.takeQueue() where pumps.isLive(Int(index)) { runPump(Int(index), into: &completions) }
    }

    private func runPump(_ index: Int, into completions: inout [Completion]) {
        var fillCount = 0
        while !pumpOperations[index].isSplicing {
            let entry = pumps[index]
            switch entry.pump.next {
            case .fill(let byteCount):
                guard fillCount < Self.fillCountMax else {
                    pumps.enqueue(index)
                    reportMoved(index, into: &completions)
                    return
                }
                fillCount += 1
                fill(index, entry, byteCount)
                continue
            case .drain(let byteCount):
                drain(index, entry, byteCount)
                continue
            case .awaitBytes:
                pollSource(index, entry)
            case .awaitRoom:
                awaitRoom(index, entry)
            case .end(let ending):
                reportMoved(index, into: &completions)
                end(index, entry, ending, into: &completions)
                return
            }
            break
        }
        reportMoved(index, into: &completions)
    }

    private func fill(_ index: Int, _ entry: PumpTable.Entry, _ byteCount: Int) {
        guard case .pipe(_, let write, _) = entry.carrier, spliceMethod == .ring else {
            filled(index, entry, carriers.fill(entry.carrier, from: entry.from, byteCount))
            return
        }
        // One that waited would hold a thread of the kernel's.
        let found = cweir_peek(entry.from)
        guard found > 0 else {
            filled(index, entry, Int(found))
            return
        }
        pumpOperations[index].isFilling = true
        splice(entry.token, from: entry.from, to: write, byteCount)
    }

    /// RS-06: no end, but a reset that somebody else was told of.
    private func filled(_ index: Int, _ entry: PumpTable.Entry, _ result: Int) {
        let taken = result == 0 ? takenError(entry.place) : nil
        pumps.update(index) { $0.filled(taken.map { Int($0) } ?? result) }
    }

    /// The error of the socket that the operation at `place` receives from, where a watch or the pump in the other
    /// direction has taken it and not reported it yet.
    func takenError(_ place: Int) -> Int32? {
        watches.takenError(place) ?? pumps.resetOfDestination(at: place ^ 1).map { -$0 }
    }

    private func drain(_ index: Int, _ entry: PumpTable.Entry, _ byteCount: Int) {
        guard case .pipe(let read, _, _) = entry.carrier, spliceMethod == .ring else {
            let result = carriers.drain(entry.carrier, to: entry.to, byteCount, offset: entry.pump.offset)
            pumps.update(index) { $0.drained(result) }
            return
        }
        // It may wait for room there; a source that is reset meanwhile is to be heard of.
        pollSource(index, entry)
        pumpOperations[index].isDraining = true
        splice(entry.token, from: read, to: entry.to, min(byteCount, Self.ringDrainMax))
    }

    /// A splice through the ring waits until all of it has gone out, and nobody hears of it before: with this much even a
    /// slow reader is seen to be alive.
    private static let ringDrainMax = 1 << 18

    private func splice(_ token: Token, from: Int32, to: Int32, _ byteCount: Int) {
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_splice(
            entry, from, -1, to, -1, UInt32(byteCount), CWEIR_SPLICE_FLAGS.rawValue)
        unsafe start(entry, token.rawValue)
    }

    private func awaitRoom(_ index: Int, _ entry: PumpTable.Entry) {
        // A source that is reset meanwhile is told of by the same poll as its bytes.
        pollSource(index, entry)
        if pumpOperations[index].destinationPoll == .none {
            poll(entry.token, Self.watchMask, entry.to, UInt32(POLLOUT))
            pumpOperations[index].destinationPoll = .armed
        }
        // Nothing is on its way whose arrival could make room: it is TCP's memory that is short, and no event will tell.
        if pumpOperations[index].pause == .none, cweir_unacknowledged(entry.to) == 0 {
            let pause = unsafe ring.nextEntry()
            unsafe io_uring_prep_timeout(pause, pauseTime, 0, 0)
            unsafe start(pause, entry.token.rawValue | Self.roomMask)
            pumpOperations[index].pause = .armed
        }
    }

    private func pollSource(_ index: Int, _ entry: PumpTable.Entry) {
        guard pumpOperations[index].sourcePoll == .none else { return }
        poll(entry.token, Self.connectMask, entry.from, UInt32(POLLIN) | CWEIR_POLLRDHUP.rawValue)
        pumpOperations[index].sourcePoll = .armed
    }

    private func poll(_ token: Token, _ mask: UInt64, _ descriptor: Int32, _ events: UInt32) {
        let entry = unsafe ring.nextEntry()
        unsafe io_uring_prep_poll_multishot(entry, descriptor, events)
        unsafe start(entry, token.rawValue | mask)
    }

    private func reportMoved(_ index: Int, into completions: inout [Completion]) {
        var count = 0
        pumps.update(index) { count = $0.takeMovedCount() }
        guard count > 0 else { return }
        completions.append(
            Completion(token: pumps[index].token, result: Int32(count), buffer: BufferPool.none, hasMore: true))
    }

    /// Calls home what is in the ring; the engine hears of the end after that.
    private func end(
        _ index: Int, _ entry: PumpTable.Entry, _ ending: Pump.Ending, into completions: inout [Completion]
    ) {
        guard pumpOperations[index].isHome else {
            callHome(&pumpOperations[index].sourcePoll, entry.token, Self.connectMask)
            callHome(&pumpOperations[index].destinationPoll, entry.token, Self.watchMask)
            callHome(&pumpOperations[index].pause, entry.token, Self.roomMask)
            return
        }
        pumps.finish(index)
        completions.append(Completion(ending, of: entry.token))
    }

    private func callHome(_ poll: inout PumpOperations.Poll, _ token: Token, _ mask: UInt64) {
        guard poll == .armed else { return }
        cancel(token.rawValue | mask)
        poll = .cancelled
    }

    /// The kernel's threads are interrupted by its own doings, and IORING_OP_SPLICE shows what system calls hide: 512 is
    /// ERESTARTSYS.
    private static func spliceResult(_ result: Int32) -> Int32 { result == -512 ? -EINTR : result }

    /// `mask` tells which of a pump's operations has completed.
    func completePump(_ token: Token, _ mask: UInt64, _ result: Int32, hasMore: Bool) {
        guard let index = pumps.index(of: token, at: place(token)) else {
            preconditionFailure("an operation completed of a pump that is not in flight")
        }
        switch mask {
        case 0 where pumpOperations[index].isFilling:
            pumpOperations[index].isFilling = false
            let entry = pumps[index]
            filled(index, entry, CarrierPool.fillResult(Int(Self.spliceResult(result)), from: entry.from))
        case 0:
            pumpOperations[index].isDraining = false
            pumps.update(index) { $0.drained(Int(Self.spliceResult(result))) }
        case Self.connectMask:
            if !hasMore { pumpOperations[index].sourcePoll = .none }
            let isBroken = result > 0 && result & Int32(POLLERR) != 0
            // An error is told once: whoever else asks is told of an end.
            let code = isBroken ? cweir_socket_error(pumps[index].from) : 0
            pumps.update(index) {
                if isBroken { $0.fail(code > 0 ? code : ECONNRESET, ofDestination: false) }
                $0.sourceChanged()
            }
            // A splice through the ring may be waiting for room in a thread of the kernel's.
            if isBroken && pumpOperations[index].isSplicing { cancel(token.rawValue) }
        case Self.watchMask:
            if !hasMore { pumpOperations[index].destinationPoll = .none }
            // FIN alone is no room.
            guard !hasMore || result & Int32(POLLOUT | POLLERR | POLLHUP) != 0 else { return }
            pumps.update(index) { $0.destinationChanged() }
        default:
            pumpOperations[index].pause = .none
            pumps.update(index) { $0.destinationChanged() }
        }
        pumps.enqueue(index)
    }
}
