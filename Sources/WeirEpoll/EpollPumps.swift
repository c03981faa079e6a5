import CWeir
import Glibc
import WeirIO
import WeirMemory
import WeirSockets

// Pumps. One stands in its source's place for a receive and in its destination's for a send, so events lead to it.

extension EpollDriver {
    /// Carriers that one pump fills in a turn: others wait meanwhile.
    private static let fillCountMax = 2

    func startPump(_ token: Token, _ from: Socket, _ to: Socket, into completions: inout [Completion]) {
        let (source, destination) = (slot(of: from), slot(of: to))
        precondition(
            sockets[source].receive == .silent, "a pump from descriptor \(from.rawValue), which is received from")
        precondition(sockets[destination].send == .silent, "a pump to descriptor \(to.rawValue), which is sent to")
        guard
            let index = pumps.start(
                token, at: place(token), from: Int32(truncatingIfNeeded: source),
                to: Int32(truncatingIfNeeded: destination))
        else {
            complete(token, -ENOBUFS, into: &completions)
            // Who has nothing to move gives his up, for whoever asks next.
            if let resting = pumps.resting() {
                pumps.update(resting) { $0.stop() }
                runPump(resting, into: &completions)
            }
            return
        }
        sockets[source].receive = token
        sockets[source].facts.insert(.isPumpedFrom)
        sockets[destination].send = token
        sockets[destination].facts.insert(.isPumpedTo)
        runPump(index, into: &completions)
    }

    func stopPump(_ token: Token, into completions: inout [Completion]) {
        guard let index = pumps.index(of: token, at: place(token)) else { return }
        pumps.update(index) { $0.stop() }
        runPump(index, into: &completions)
    }

    func cancelPump(_ index: Int, into completions: inout [Completion]) {
        pumps.update(index) { $0.cancel() }
        runPump(index, into: &completions)
    }

    /// The kernel has said something about the source in `slot`.
    func pumpSourceChanged(_ slot: Int, into completions: inout [Completion]) {
        let token = sockets[slot].receive
        guard let index = pumps.index(of: token, at: place(token)) else { return }
        let hasFailed = sockets[slot].facts.contains(.hasFailed)
        // Also while bytes of it wait: a reset is passed on at once. An error is told once.
        let code = hasFailed ? cweir_socket_error(sockets[slot].descriptor) : 0
        pumps.update(index) {
            if hasFailed { $0.fail(code > 0 ? code : ECONNRESET, ofDestination: false) }
            $0.sourceChanged()
        }
        runPump(index, into: &completions)
    }

    /// There may be room at the destination in `slot`.
    func pumpDestinationChanged(_ slot: Int, into completions: inout [Completion]) {
        let token = sockets[slot].send
        guard let index = pumps.index(of: token, at: place(token)) else { return }
        pumps.update(index) { $0.destinationChanged() }
        runPump(index, into: &completions)
    }

    private func runPump(_ index: Int, into completions: inout [Completion]) {
        let (source, destination) = (Int(pumps[index].from), Int(pumps[index].to))
        var fillCount = 0
        while true {
            let entry = pumps[index]
            switch entry.pump.next {
            case .fill(let byteCount):
                if fillCount == Self.fillCountMax {
                    queueReceive(source)
                    reportMoved(index, into: &completions)
                    return
                }
                fillCount += 1
                let result = fill(source, entry, byteCount)
                pumps.update(index) { $0.filled(result) }
                continue
            case .drain(let byteCount):
                let result = drain(destination, entry, byteCount)
                pumps.update(index) { $0.drained(result) }
                continue
            case .awaitBytes:
                waitFor(index, source, room: false)
            case .awaitRoom:
                waitFor(index, source, room: false)
                waitFor(index, destination, room: true)
            case .end(let ending):
                reportMoved(index, into: &completions)
                sockets[source].receive = .silent
                sockets[source].facts.remove(.isPumpedFrom)
                sockets[destination].send = .silent
                sockets[destination].facts.remove(.isPumpedTo)
                pumps.finish(index)
                completions.append(Completion(ending, of: entry.token))
                return
            }
            if case .end = pumps[index].pump.next { continue }
            reportMoved(index, into: &completions)
            return
        }
    }

    private func fill(_ source: Int, _ entry: PumpTable.Entry, _ byteCount: Int) -> Int {
        if sockets[source].facts.contains(.isDrained) { return 0 }
        guard sockets[source].facts.contains(.mayReceive) else { return -Int(EAGAIN) }
        let result = carriers.fill(entry.carrier, from: sockets[source].descriptor, byteCount)
        if result == -Int(EAGAIN) { sockets[source].facts.remove(.mayReceive) }
        return result
    }

    private func drain(_ destination: Int, _ entry: PumpTable.Entry, _ byteCount: Int) -> Int {
        guard sockets[destination].facts.contains(.maySend) else { return -Int(EAGAIN) }
        let descriptor = sockets[destination].descriptor
        let result = carriers.drain(entry.carrier, to: descriptor, byteCount, offset: entry.pump.offset)
        if result == -Int(EAGAIN) {
            sockets[destination].facts.remove(.maySend)
            if cweir_unacknowledged(descriptor) == 0 { stall(destination) }
        }
        return result
    }

    private func waitFor(_ index: Int, _ slot: Int, room: Bool) {
        let code = register(slot, room: room)
        if code != 0 { pumps.update(index) { $0.fail(code, ofDestination: room) } }
    }

    private func reportMoved(_ index: Int, into completions: inout [Completion]) {
        var count = 0
        pumps.update(index) { count = $0.takeMovedCount() }
        if count > 0 { complete(pumps[index].token, Int32(count), hasMore: true, into: &completions) }
    }
}
