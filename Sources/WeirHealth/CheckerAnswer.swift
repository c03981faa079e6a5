import Glibc
import WeirIO
import WeirMemory
import WeirModel
import WeirNet
import WeirUpstream
import WeirWire

// What a check says on an open connection, and what it makes of the answer.

extension Checker {
    /// The connection is open.
    func opened(_ slot: Int) {
        guard let opening = targets[Int(checks[slot].target)]?.opening else { return }
        guard !opening.isEmpty else {
            conclude(slot, .success)
            return
        }
        guard let block = pool.takeBlock() else { preconditionFailure("every check at hand has a block") }
        pool.append(to: block) { room in
            for index in opening.indices { room[index] = opening[index] }
            return opening.count
        }
        checks[slot].block = block
        checks[slot].phase = .talking
        checks[slot].hello = ServerHelloRecogniser()
        checks[slot].status = HTTPStatusParser()
        sendRest(slot)
        if kind(slot) != .tcp { receive(slot) }
    }

    private func kind(_ slot: Int) -> HealthCheck.Kind {
        guard let target = targets[Int(checks[slot].target)] else { preconditionFailure("a check has a target") }
        return target.target.policy.kind
    }

    // MARK: Sending

    private func sendRest(_ slot: Int) {
        let block = checks[slot].block
        let sent = checks[slot].sentCount
        checks[slot].isSending = true
        operations.append(
            Operation(
                token(slot, .send),
                .send(
                    checks[slot].socket,
                    Payload(buffer: block, offset: sent, byteCount: pool.chunks[Int(block)].end - sent))))
    }

    func sendCompleted(_ slot: Int, _ result: Int32) {
        checks[slot].isSending = false
        guard checks[slot].phase == .talking else {
            releaseIfHome(slot)
            return
        }
        guard result >= 0 else {
            attemptFailed(slot, CheckFailure(code: -result))
            return
        }
        checks[slot].sentCount += UInt32(result)
        if checks[slot].sentCount < pool.chunks[Int(checks[slot].block)].end {
            sendRest(slot)
            return
        }
        releaseBlock(slot)
        switch kind(slot) {
        case .tcp: conclude(slot, .success)
        case .proxy: hold(slot)
        case .tls, .http: break
        }
    }

    /// A server that refuses a header parts from it at once: its end is a round trip away, which the connect has measured.
    private func hold(_ slot: Int) {
        let index = Int(checks[slot].target)
        guard let policy = targets[index]?.target.policy else { return }
        let time = max(policy.timeout.clampedNanoseconds / 10, 2 * checks[slot].connectTime)
        checks[slot].phase = .holding
        schedule.setDeadline(index, min(now.advanced(byNanoseconds: time), checks[slot].deadline))
    }

    // MARK: Receiving

    private func receive(_ slot: Int) {
        checks[slot].isReceiving = true
        operations.append(
            Operation(token(slot, .receive), .receive(checks[slot].socket, isContinuing: false)))
    }

    func receiveCompleted(_ slot: Int, _ completion: Completion) {
        checks[slot].isReceiving = false
        let isAwaited = checks[slot].phase == .talking || checks[slot].phase == .holding
        defer { if completion.buffer != BufferPool.none { pool.release(completion.buffer) } }
        guard isAwaited else {
            releaseIfHome(slot)
            return
        }
        switch completion.result {
        // All of the driver's buffers are in use, for this turn.
        case -ENOBUFS: receive(slot)
        case ..<0: attemptFailed(slot, CheckFailure(code: -completion.result))
        case 0: attemptFailed(slot, .closed)
        default: take(slot, completion)
        }
    }

    private func take(_ slot: Int, _ completion: Completion) {
        let chunk = pool.chunks[Int(completion.buffer)]
        let range = Int(chunk.begin)..<Int(chunk.end)
        switch kind(slot) {
        // It speaks, so it has not refused the header.
        case .tcp, .proxy:
            conclude(slot, .success)
        case .tls:
            let progress = pool.withBytes(of: completion.buffer, range) { checks[slot].hello.consume($0) }
            switch progress {
            case .needMore: receive(slot)
            case .recognised: conclude(slot, .success)
            case .refused(.alert): attemptFailed(slot, .tlsAlert)
            case .refused(.malformed): attemptFailed(slot, .malformedAnswer)
            }
        case .http:
            let progress = pool.withBytes(of: completion.buffer, range) { checks[slot].status.consume($0) }
            switch progress {
            case .needMore: receive(slot)
            case .complete(let status): take(slot, status: status)
            case .refused: attemptFailed(slot, .malformedAnswer)
            }
        }
    }

    private func take(_ slot: Int, status: Int) {
        guard let policy = targets[Int(checks[slot].target)]?.target.policy else { return }
        if policy.expected.contains(where: { $0.contains(status) }) {
            conclude(slot, .success)
        } else {
            attemptFailed(slot, .status)
        }
    }
}
