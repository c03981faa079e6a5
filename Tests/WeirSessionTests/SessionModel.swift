import WeirSession

/// What the engine tells a machine, as whole steps: the facts and the decisions that follow from them, up to the point at
/// which it asks for actions.
enum Event: Hashable {
    /// `isSmall`: a message rather than a part of a bulk transfer.
    case bytes(Side, isSmall: Bool, hasMore: Bool)
    /// Bytes that complete the preamble, or are refused.
    case lastPreambleBytes(isRefused: Bool)
    case ended(Side)
    case starved(Side)
    case stopped(Side)
    case bufferReturned(Side)
    case sent(Side, chunkDone: Bool)
    case pumped(Side, isSmall: Bool)
    case pumpEnded(Side)
    case pumpStopped(Side)
    case watchSawEnd(Side)
    case watchSawReset(Side)
    case watchDue
    /// With an answer or without.
    case refuse(answers: Bool)
    case connect(Lane)
    case connectExpired(Lane)
    /// With a PROXY header or without.
    case connected(Lane, sendsHeader: Bool)
    /// What the engine does where no other connect is in flight.
    case connectFailed(Lane, AfterFailure)
    case end(reset: Bool)
    /// The upstream is gone and another is looked for.
    case retry

    enum AfterFailure: Hashable {
        case nothing
        case connectsAgain
        case decidesAgain
        case refuses
    }
}

extension Side {
    static let both = [Side.downstream, .upstream]
}

extension Lane {
    static let both = [Lane.first, .second]
}

extension SessionMachine {
    /// Chunks that a model lets wait for a side at most; the engine's own limits are lower.
    static let queuedCountMax = 5

    /// Every event that may come in this state: operations in flight may complete in every way, deadlines may pass,
    /// and the engine may decide what it likes.
    func legalEvents() -> [Event] {
        var events: [Event] = []
        for side in Side.both {
            let half = self[side]
            if half.isReceiving {
                let hasRoom = self[side.other].queuedCount < Self.queuedCountMax
                if hasRoom || phase != .relaying && phase != .retrying {
                    for isSmall in [true, false] {
                        events.append(.bytes(side, isSmall: isSmall, hasMore: false))
                        if half.isContinuing { events.append(.bytes(side, isSmall: isSmall, hasMore: true)) }
                    }
                }
                events += [.ended(side), .starved(side), .stopped(side)]
            }
            if half.isStarved { events.append(.bufferReturned(side)) }
            if half.isPumping {
                events += [.pumped(side, isSmall: true), .pumped(side, isSmall: false)]
                events += [.pumpEnded(side), .pumpStopped(side)]
            }
            if half.isSending { events += [.sent(side, chunkDone: true), .sent(side, chunkDone: false)] }
            if half.isWatching { events += [.watchSawEnd(side), .watchSawReset(side)] }
        }
        for lane in Lane.both where isConnecting(lane) {
            events.append(.connectExpired(lane))
            events += [.connected(lane, sendsHeader: false), .connected(lane, sendsHeader: true)]
            let isOther = isConnecting(lane == .first ? .second : .first)
            if phase != .connecting || isOther {
                events.append(.connectFailed(lane, .nothing))
            } else {
                events += [
                    .connectFailed(lane, .connectsAgain), .connectFailed(lane, .decidesAgain),
                    .connectFailed(lane, .refuses),
                ]
            }
        }
        switch phase {
        case .preamble:
            events.append(.watchDue)
            if downstream.isReceiving {
                events += [.lastPreambleBytes(isRefused: false), .lastPreambleBytes(isRefused: true)]
            }
        case .deciding:
            events += [.connect(.first), .refuse(answers: true), .refuse(answers: false), .watchDue]
        case .connecting:
            for lane in Lane.both where !isConnecting(lane) { events.append(.connect(lane)) }
            events += [.refuse(answers: true), .watchDue]
        case .relaying:
            events.append(.watchDue)
            if downstream.queuedCount == 0 && !downstream.isPumping && !upstream.isPumping { events.append(.retry) }
        case .retrying, .refusing, .closing: events.append(.watchDue)
        case .released: return []
        }
        events += [.end(reset: true), .end(reset: false)]
        return events
    }

    /// Tells the machine; answers actions that it asks for at once.
    mutating func apply(_ event: Event) -> SessionActions {
        switch event {
        case .bytes(let side, let isSmall, let hasMore):
            received(from: side, byteCount: isSmall ? 100 : 16384, hasMore: hasMore)
            switch phase {
            case .preamble: if upstream.queuedCount < 2 { queued(to: .upstream) }
            case .relaying: queued(to: side.other)
            case .retrying: if side == .downstream { queued(to: .upstream) }
            case .deciding, .connecting, .refusing, .closing, .released: break
            }
        case .ended(let side):
            ended(side)
            if phase == .preamble { end(reset: true) }
        case .starved(let side): starved(side, hasMore: false)
        case .stopped(let side): receiveStopped(side, hasMore: false)
        case .bufferReturned(let side): bufferReturned(side)
        case .sent(let side, let chunkDone): sent(to: side, chunkDone: chunkDone)
        case .pumped(let side, let isSmall): pumped(from: side, byteCount: isSmall ? 100 : 16384)
        case .pumpEnded(let side): pumpFinished(from: side, hasEnded: true)
        case .pumpStopped(let side): pumpFinished(from: side, hasEnded: false)
        case .watchSawEnd(let side): watchFinished(side)
        case .watchSawReset(let side):
            watchFinished(side)
            end(reset: true)
        case .watchDue: watchDue()
        case .lastPreambleBytes(let isRefused):
            received(from: .downstream, byteCount: 100, hasMore: false)
            if isRefused {
                refuse()
                queued(to: .downstream)
            } else {
                if upstream.queuedCount < 2 { queued(to: .upstream) }
                preambleRead()
            }
        case .refuse(let answers):
            refuse()
            if answers { queued(to: .downstream) }
        case .connect(let lane): connecting(lane)
        case .connectExpired(let lane): return connectExpired(lane)
        case .connected(let lane, let sendsHeader):
            if connectFinished(lane, isConnected: true), sendsHeader { queued(to: .upstream) }
        case .connectFailed(let lane, let then):
            _ = connectFinished(lane, isConnected: false)
            switch then {
            case .nothing: break
            case .connectsAgain: connecting(lane)
            case .decidesAgain: connectsFailed()
            case .refuses:
                connectsFailed()
                refuse()
            }
        case .end(let reset): end(reset: reset)
        case .retry: retry()
        }
        return []
    }
}

/// The operations in flight, kept apart from the machine that says which there are.
struct Flight: Equatable {
    private(set) var operations: SessionActions = []
    private(set) var cancelled: SessionActions = []
    private(set) var problem: String?

    private static let started: [SessionActions] = [
        .receiveDownstream, .receiveUpstream, .sendDownstream, .sendUpstream, .watchDownstream, .watchUpstream,
        .pumpDownstream, .pumpUpstream,
    ]
    private static let cancellations: [(SessionActions, of: SessionActions)] = [
        (.cancelReceiveDownstream, .receiveDownstream), (.cancelReceiveUpstream, .receiveUpstream),
        (.cancelSendDownstream, .sendDownstream), (.cancelSendUpstream, .sendUpstream),
        (.cancelWatchDownstream, .watchDownstream), (.cancelWatchUpstream, .watchUpstream),
        (.cancelPumpDownstream, .pumpDownstream), (.cancelPumpUpstream, .pumpUpstream),
        (.stopPumpDownstream, .pumpDownstream), (.stopPumpUpstream, .pumpUpstream),
    ]

    static func starts(_ actions: SessionActions) -> Bool { started.contains { actions.contains($0) } }

    /// What a machine says.
    init(_ machine: SessionMachine) {
        for side in Side.both {
            let half = machine[side]
            if half.isReceiving { operations.insert(Self.receive(side)) }
            if half.isSending { operations.insert(Self.send(side)) }
            if half.isWatching { operations.insert(Self.watch(side)) }
            if half.isPumping { operations.insert(Self.pump(side)) }
        }
    }

    static func receive(_ side: Side) -> SessionActions { side == .downstream ? .receiveDownstream : .receiveUpstream }
    static func send(_ side: Side) -> SessionActions { side == .downstream ? .sendDownstream : .sendUpstream }
    static func pump(_ side: Side) -> SessionActions { side == .downstream ? .pumpDownstream : .pumpUpstream }
    static func watch(_ side: Side) -> SessionActions { side == .downstream ? .watchDownstream : .watchUpstream }

    /// An operation has come home.
    mutating func complete(_ event: Event) {
        switch event {
        case .bytes(let side, _, let hasMore): if !hasMore { operations.remove(Self.receive(side)) }
        case .lastPreambleBytes: operations.remove(.receiveDownstream)
        case .ended(let side), .starved(let side), .stopped(let side): operations.remove(Self.receive(side))
        case .sent(let side, _): operations.remove(Self.send(side))
        case .pumpEnded(let side), .pumpStopped(let side): operations.remove(Self.pump(side))
        case .watchSawEnd(let side), .watchSawReset(let side): operations.remove(Self.watch(side))
        default: break
        }
    }

    /// Actions are carried out in the order in which the engine does: operations, then cancellations, then the release.
    mutating func carryOut(_ actions: SessionActions) {
        for operation in Self.started where actions.contains(operation) {
            if operations.contains(operation) { problem = "\(operation) was started twice" }
            operations.insert(operation)
        }
        for (cancellation, operation) in Self.cancellations where actions.contains(cancellation) {
            if !operations.contains(operation) { problem = "\(operation) was cancelled and is not in flight" }
        }
        if actions.contains(.release) && !operations.isEmpty { problem = "released with \(operations) in flight" }
    }

    static func == (a: Flight, b: Flight) -> Bool { a.operations == b.operations }
}
