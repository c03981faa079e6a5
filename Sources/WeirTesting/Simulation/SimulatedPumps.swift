import Glibc
import WeirIO
import WeirMemory

// Pumps: what a socket has is taken into a carrier, and goes from there to another socket.

extension SimulatedDriver {
    func startPump(_ token: Token, _ from: Socket, _ to: Socket) throws(BrokenRule) {
        let source = try connection(from, "pump")
        let destination = try connection(to, "pump")
        if source.receiving != nil { throw broken("a pump from \(from), which is received from") }
        if destination.sending != nil { throw broken("a pump to \(to), which is sent to") }
        if destination.hasNearEnded { throw broken("a pump to \(to), whose sending side was shut down") }
        if destination.mayDelaySends { throw broken("a pump to \(to), whose sends may wait for an acknowledgement") }
        let operation = try start(token, .pump(from: source, to: destination))
        source.receiving = operation
        destination.sending = operation
        if random.chance(faults.noCarrier) {
            tally.add(.pumpWithoutCarrier)
            post(operation, -ENOBUFS)
            return
        }
        operation.carrierByteCount = Int(random.within(faults.carrierByteCount))
        tally.add(.pump)
        pumpSoon(operation)
    }

    func stopPump(_ target: Token) throws(BrokenRule) {
        guard let operation = inFlight[target.rawValue] else { return }
        guard case .pump = operation.kind else { throw broken("stopPump of something else") }
        operation.isStopping = true
        pumpSoon(operation)
    }

    func pumpSoon(_ operation: SimulatedOperation) {
        guard !operation.isDue else { return }
        operation.isDue = true
        schedule.add(.pump(operation), at: soon())
    }

    /// Fills the carrier once and empties it as far as there is room.
    func pump(_ operation: SimulatedOperation) {
        operation.isDue = false
        guard operation.isInFlight, case .pump(let source, let destination) = operation.kind else { return }
        if operation.carried.isEmpty && !fill(operation, source) { return }
        if operation.carried.isEmpty { return }
        // Of a source that is gone no more is wanted: what it had sent looks cut off at the other end, too.
        if source.pendingError != 0 {
            postError(operation, of: source)
            return
        }
        drain(operation, destination)
    }

    /// False where the pump is over.
    private func fill(_ operation: SimulatedOperation, _ source: SimulatedConnection) -> Bool {
        let available = source.arrivedCount - source.readCount
        if operation.isStopping {
            post(operation, -ECANCELED)
            return false
        }
        if available > 0 {
            var count = min(available, operation.carrierByteCount)
            if random.chance(faults.shortReceive) { count = random.scaled(1, count) }
            operation.carried = Array(source.sent[source.readCount..<source.readCount + count])
            source.readCount += count
            source.movedAt = now()
            world?.changed(source)
            return true
        }
        if source.pendingError != 0 {
            postError(operation, of: source)
            return false
        }
        guard source.resetArrivedAt != nil || source.endArrived else { return true }
        source.endReadAt = now()
        source.movedAt = now()
        post(operation, 0)
        return false
    }

    private func postError(_ operation: SimulatedOperation, of source: SimulatedConnection) {
        let code = source.pendingError
        source.pendingError = 0
        post(operation, -code)
    }

    private func drain(_ operation: SimulatedOperation, _ destination: SimulatedConnection) {
        if destination.resetArrivedAt != nil {
            let code = destination.pendingError == 0 ? EPIPE : destination.pendingError
            destination.pendingError = 0
            post(operation, -code, isOfDestination: true)
            return
        }
        let room = destination.outboundWindow - (destination.received.count - destination.consumedCount)
        var count = min(room, operation.carried.count)
        guard count > 0 else { return }
        if random.chance(faults.shortSend) { count = random.scaled(1, count) }
        destination.received.append(contentsOf: operation.carried[..<count])
        operation.carried.removeFirst(count)
        push(destination)
        schedule.add(.outbound(destination, count), at: outboundArrival(destination))
        destination.movedAt = now()
        post(operation, Int32(count), hasMore: true)
        pumpSoon(operation)
    }
}
