import Glibc
import WeirIO
import WeirMemory
import WeirNet

/// Stands between a worker and its simulated kernel on a day with a planted fault: once, what the worker asks for or
/// hears is not what it should be, as if the engine were broken in that way.
final class FaultPlanter: Driver {
    private let kernel: SimulatedDriver
    private let pool: BufferPool
    private let fault: PlantedFault
    /// The fault was done; `lateTimers` goes on from then on.
    private(set) var hasStruck = false
    /// Chances to let pass.
    var skipCount = 0
    /// Another place than the one that is to be connected to.
    var otherPlace: (SocketAddress) -> SocketAddress? = { _ in nil }
    /// Does to the counts what the fault says.
    var miscount: () -> Void = {}

    /// Sends in flight, as the worker asked for them.
    private var sends: [UInt64: Operation] = [:]
    private var cancelledConnects: Set<UInt64> = []
    /// The send that is a byte shorter than the worker believes.
    private var shortened: Token?
    /// To be handed over again.
    private var again: Operation?

    init(_ fault: PlantedFault, around kernel: SimulatedDriver) {
        self.fault = fault
        self.kernel = kernel
        pool = kernel.pool
    }

    func now() -> Instant { kernel.now() }
    func wallClockOffset() -> UInt64 { kernel.wallClockOffset() }
    func acceptWaiting(on listener: Socket) -> Socket? { kernel.acceptWaiting(on: listener) }
    func peerAddress(of socket: Socket) -> SocketAddress? { kernel.peerAddress(of: socket) }
    func localAddress(of socket: Socket) -> SocketAddress? { kernel.localAddress(of: socket) }
    func originalDestination(of socket: Socket) -> SocketAddress? { kernel.originalDestination(of: socket) }
    var wake: @Sendable () -> Void { kernel.wake }
    var figures: DriverFigures { kernel.figures }

    func turn(
        _ operations: inout [Operation], into completions: inout [Completion], until deadline: Instant
    ) -> Instant {
        for operation in operations { remember(operation) }
        if !hasStruck { spoil(&operations) }
        if let again {
            operations.insert(again, at: 0)
            self.again = nil
        }
        if fault == .lateTimers && !hasStruck && deadline < kernel.now().advanced(byNanoseconds: 500_000_000) {
            _ = strikes()
        }
        let end = fault == .lateTimers && hasStruck ? deadline.advanced(byNanoseconds: 30_000_000_000) : deadline
        let now = kernel.turn(&operations, into: &completions, until: end)
        if let token = shortened, let index = completions.firstIndex(where: { $0.token == token }) {
            if completions[index].result > 0 { completions[index].result += 1 }
            shortened = nil
        }
        if !hasStruck { spoil(&completions) }
        for completion in completions { sends[completion.token.rawValue] = nil }
        return now
    }

    private func remember(_ operation: Operation) {
        switch operation.action {
        case .send: sends[operation.token.rawValue] = operation
        case .cancelConnect(let target): cancelledConnects.insert(target.rawValue)
        default: break
        }
    }

    /// This is a place for the fault; whether it is the one.
    private func strikes() -> Bool {
        skipCount -= 1
        hasStruck = skipCount < 0
        return hasStruck
    }

    // MARK: What the worker asks for

    private func spoil(_ operations: inout [Operation]) {
        for index in operations.indices {
            let operation = operations[index]
            switch (fault, operation.action) {
            case (.forgottenReceive, .receive), (.forgottenAccept, .accept), (.forgottenCancel, .cancel),
                (.forgottenShutdown, .shutdown):
                if strikes() { operations.remove(at: index) }
            case (.forgottenClose, .close(let socket)), (.forgottenClose, .reset(let socket)):
                if kernel.openConnection(socket) != nil && strikes() { operations.remove(at: index) }
            case (.repeatedClose, .close(let socket)), (.repeatedClose, .reset(let socket)):
                if kernel.openConnection(socket) != nil && strikes() { operations.insert(operation, at: index) }
            case (.politeReset, .reset(let socket)):
                guard let connection = kernel.openConnection(socket), connection.resetArrivedAt == nil,
                    isSpokenOn(connection), strikes()
                else { continue }
                operations[index].action = .close(socket)
            case (.strayWatch, .receive(let socket, _)):
                guard strikes() else { continue }
                let token = Token(kind: 6, index: operation.token.index, generation: operation.token.generation)
                operations.append(Operation(token, .watch(socket)))
            case (.vainHold, .send(let socket, var payload)):
                guard !payload.more, isSpokenOn(socket), strikes() else { continue }
                payload.more = true
                operations[index].action = .send(socket, payload)
            case (.unsentByte, .send(let socket, var payload)):
                guard payload.byteCount > 8, isSpokenOn(socket), strikes() else { continue }
                payload.byteCount -= 1
                operations[index].action = .send(socket, payload)
                shortened = operation.token
            case (.misdirectedConnect, .connect(let destination, let source, _, _, _)):
                guard let other = otherPlace(destination), strikes() else { continue }
                operations[index].action = .connect(to: other, from: source)
            case (.guardedConnect, .connect(let destination, let source, _, _, _)):
                guard strikes() else { continue }
                operations[index].action = .connect(
                    to: SocketAddress(.v4Loopback, port: destination.port), from: source)
            case (.forgottenLeave, .close), (.forgottenLeave, .reset), (.forgottenClientLeave, .close),
                (.forgottenClientLeave, .reset), (.forgottenEndpointLeave, .close), (.forgottenEndpointLeave, .reset),
                (.repeatedCount, .close), (.repeatedCount, .reset):
                if strikes() { miscount() }
            case (.forgottenRelease, .receive):
                if pool.freeBlockCount > 0 && strikes() { _ = pool.takeBlock() }
            default: continue
            }
            if hasStruck { return }
        }
    }

    private func isSpokenOn(_ connection: SimulatedConnection) -> Bool {
        !connection.sent.isEmpty && !connection.received.isEmpty
    }

    private func isSpokenOn(_ socket: Socket) -> Bool { kernel.openConnection(socket).map(isSpokenOn) ?? false }

    // MARK: What the worker hears

    private static let receiveUpstream: UInt8 = 3

    private func spoil(_ completions: inout [Completion]) {
        for index in completions.indices {
            let completion = completions[index]
            let isReceive = completion.buffer != BufferPool.none && completion.token.kind == Self.receiveUpstream
            let send = sends[completion.token.rawValue]
            switch fault {
            case .changedByte, .repeatedByte, .lostByte:
                guard isReceive, completion.result > 8, strikes() else { continue }
                completions[index].result = Int32(rewrite(completion.buffer))
            case .swappedBytes:
                guard isReceive, completion.result > 8,
                    let other = completions.indices.first(where: { place in
                        let other = completions[place]
                        return place > index && other.buffer != BufferPool.none && other.result > 8
                            && other.token.kind == Self.receiveUpstream && other.token.index != completion.token.index
                    }), strikes()
                else { continue }
                (completions[index].buffer, completions[other].buffer) = (
                    completions[other].buffer, completions[index].buffer
                )
                (completions[index].result, completions[other].result) = (
                    completions[other].result, completions[index].result
                )
            case .lostReceive:
                guard isReceive, !completion.hasMore, strikes() else { continue }
                pool.release(completion.buffer)
                completions.remove(at: index)
            case .lostSend:
                guard send != nil, completion.result > 0, strikes() else { continue }
                completions.remove(at: index)
            case .ignoredShortSend, .repeatedSend:
                guard let send, case .send(_, let payload) = send.action, completion.result > 0 else { continue }
                let isShort = completion.result < Int32(payload.byteCount)
                if fault == .ignoredShortSend {
                    if isShort && strikes() { completions[index].result = Int32(payload.byteCount) }
                } else if !isShort && strikes() {
                    again = send
                    completions.remove(at: index)
                }
            case .ignoredLateConnect:
                guard completion.token.kind < 2, completion.result >= 0,
                    cancelledConnects.contains(completion.token.rawValue), strikes()
                else { continue }
                completions[index].result = -ECANCELED
            default: break
            }
            if hasStruck { return }
        }
        guard fault == .earlyRelease else { return }
        for (token, operation) in sends.sorted(by: { $0.key < $1.key })
        where !completions.contains(where: { $0.token.rawValue == token }) {
            if case .send(_, let payload) = operation.action, strikes() {
                pool.release(payload.buffer)
                return
            }
        }
    }

    /// Makes the bytes of a buffer others; answers how many they are.
    private func rewrite(_ buffer: UInt32) -> Int {
        let chunk = pool.chunks[Int(buffer)]
        var bytes: [UInt8] = []
        pool.withBytes(of: buffer, Int(chunk.begin)..<Int(chunk.end)) { bytes.append(copying: $0) }
        switch fault {
        case .changedByte: bytes[bytes.count / 2] ^= 0x20
        case .repeatedByte: bytes = [bytes[0]] + bytes.dropLast()
        default: bytes.removeFirst()
        }
        pool.chunks[Int(buffer)].end = chunk.begin
        pool.append(to: buffer) { room in
            room.write(bytes, bytes.indices)
            return bytes.count
        }
        return bytes.count
    }
}
