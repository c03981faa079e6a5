/// The two ends of a session. Public, although no product exposes the module, like `FlatArray`.
@frozen
public enum Side: UInt8, Sendable, BitwiseCopyable, CaseIterable {
    /// Towards the client.
    case downstream
    /// Towards the endpoint.
    case upstream

    @inlinable
    public var other: Side { self == .downstream ? .upstream : .downstream }
}

/// One of the two connects that may race for a session: the second address family starts later (RFC 8305 §5).
package enum Lane: UInt8, Sendable, BitwiseCopyable {
    case first
    case second
}

/// What the engine is to do next. Every member names an operation that was not in flight before.
///
/// Public, although no product exposes the module, like `FlatArray`: its set algebra is not specialised otherwise.
@frozen
public struct SessionActions: OptionSet, Sendable, BitwiseCopyable {
    public let rawValue: UInt32
    @inlinable
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    @inlinable public static var receiveDownstream: Self { Self(rawValue: 1 << 0) }
    @inlinable public static var receiveUpstream: Self { Self(rawValue: 1 << 1) }
    /// Send the head of the queue towards that side.
    @inlinable public static var sendDownstream: Self { Self(rawValue: 1 << 2) }
    @inlinable public static var sendUpstream: Self { Self(rawValue: 1 << 3) }
    @inlinable public static var shutdownDownstream: Self { Self(rawValue: 1 << 4) }
    @inlinable public static var shutdownUpstream: Self { Self(rawValue: 1 << 5) }
    @inlinable public static var watchDownstream: Self { Self(rawValue: 1 << 6) }
    @inlinable public static var watchUpstream: Self { Self(rawValue: 1 << 7) }
    @inlinable public static var cancelReceiveDownstream: Self { Self(rawValue: 1 << 8) }
    @inlinable public static var cancelReceiveUpstream: Self { Self(rawValue: 1 << 9) }
    @inlinable public static var cancelSendDownstream: Self { Self(rawValue: 1 << 10) }
    @inlinable public static var cancelSendUpstream: Self { Self(rawValue: 1 << 11) }
    @inlinable public static var cancelWatchDownstream: Self { Self(rawValue: 1 << 12) }
    @inlinable public static var cancelWatchUpstream: Self { Self(rawValue: 1 << 13) }
    @inlinable public static var cancelConnectFirst: Self { Self(rawValue: 1 << 14) }
    @inlinable public static var cancelConnectSecond: Self { Self(rawValue: 1 << 15) }
    /// Every operation is home: close the sockets, release the slot.
    @inlinable public static var release: Self { Self(rawValue: 1 << 16) }
    /// A side is neither received from nor watched: ask again with `watchDue` after `watchDelay`.
    @inlinable public static var scheduleWatch: Self { Self(rawValue: 1 << 17) }
    /// Move what comes from that side in bulk.
    @inlinable public static var pumpDownstream: Self { Self(rawValue: 1 << 18) }
    @inlinable public static var pumpUpstream: Self { Self(rawValue: 1 << 19) }
    /// That pump takes no more; what it holds is still moved.
    @inlinable public static var stopPumpDownstream: Self { Self(rawValue: 1 << 20) }
    @inlinable public static var stopPumpUpstream: Self { Self(rawValue: 1 << 21) }
    @inlinable public static var cancelPumpDownstream: Self { Self(rawValue: 1 << 22) }
    @inlinable public static var cancelPumpUpstream: Self { Self(rawValue: 1 << 23) }
    /// Before this send or pump: nothing sent there waits for an acknowledgement any more.
    @inlinable public static var noDelayUpstream: Self { Self(rawValue: 1 << 24) }
    /// No operation names the upstream any more: close it, and say so with `upstreamDropped`.
    @inlinable public static var dropUpstream: Self { Self(rawValue: 1 << 25) }
}

/// The life of one session: which operations are in flight, which bytes wait, which ends have been seen.
///
/// ```
///                               ┌────────── retrying ◀─┐
///                               ▼                      │
///  accepted ─▶ preamble ─▶ deciding ⇄ connecting ─▶ relaying ─▶ closing ─▶ released
///                  │            │          │                       ▲
///                  └────────────┴──────────┴──▶ refusing ──────────┤
///                  (reset by either side, deadline, stop: from anywhere)
/// ```
///
/// Events change the state; `next()` then compares what is with what should be and returns the difference as actions,
/// which are in flight from that moment. So every state answers every event in one place, and a forgotten re-arm is not
/// possible. The machine knows nothing of time, sockets or bytes: only counts and facts.
package struct SessionMachine: Sendable, BitwiseCopyable, Hashable {
    package enum Phase: UInt8, Sendable, BitwiseCopyable {
        /// Reading a PROXY header, a ClientHello or a request head.
        case preamble
        /// A route has to be found or a name resolved; nothing is received from the client.
        case deciding
        /// One or two connects are in flight.
        case connecting
        /// Both sides are open. What was held back goes first.
        case relaying
        /// The upstream was gone before its first byte, and another is to get what was held back: waiting until the
        /// operations that name it are home.
        case retrying
        /// The client gets an answer, then FIN; what it still sends is dropped until it ends or the deadline comes.
        case refusing
        /// No new operation; waiting until those in flight are home.
        case closing
        /// Released; no event may come any more.
        case released
    }

    /// What is known of one side.
    package struct Half: Sendable, BitwiseCopyable, Hashable {
        /// There is a socket.
        package fileprivate(set) var isOpen = false
        package fileprivate(set) var isReceiving = false
        /// The receive in flight goes on by itself.
        package fileprivate(set) var isContinuing = false
        package fileprivate(set) var isReceiveCancelled = false
        /// The last receive found no buffer; do not try again until one is offered.
        package fileprivate(set) var isStarved = false
        package fileprivate(set) var isSending = false
        fileprivate var isSendCancelled = false
        fileprivate var promptness = Promptness.untried
        package fileprivate(set) var isWatching = false
        fileprivate var isWatchCancelled = false
        fileprivate var isWatchScheduled = false
        fileprivate var isWatchDue = false
        fileprivate var isWatchSpent = false
        /// FIN came in: no byte will follow.
        package fileprivate(set) var hasEnded = false
        /// Very likely nothing but FIN stands behind what was received last.
        fileprivate var isBeforeEnd = false
        /// FIN went out.
        package fileprivate(set) var isShut = false
        /// Chunks that wait to be sent to this side, the one in flight included.
        package fileprivate(set) var queuedCount: UInt16 = 0
        /// Consecutive receives that were small and found the other side's queue empty.
        fileprivate var chattyCount: UInt8 = 0
        /// Consecutive receives that filled their buffer.
        fileprivate var fullCount: UInt8 = 0
        /// What comes from this side is moved in bulk; no byte of that direction stands in a queue.
        package fileprivate(set) var isPumping = false
        fileprivate var isPumpStopping = false
        fileprivate var isPumpCancelled = false
        /// Consecutive reports of the pump that were small.
        fileprivate var calmCount: UInt8 = 0

        package init() {}

        /// Whether a send to this side may wait for the acknowledgement of an earlier one. The first has none to wait
        /// for: a session with one flight each way, of which there are many, saves the system call.
        fileprivate enum Promptness: UInt8, BitwiseCopyable {
            case untried
            /// Something has gone out with nothing behind it, which may fill no segment.
            case hasSent
            case prompt
        }

        fileprivate var operationCount: Int {
            (isReceiving ? 1 : 0) + (isSending ? 1 : 0) + (isWatching ? 1 : 0) + (isPumping ? 1 : 0)
        }

        fileprivate func checkInvariants() {
            precondition(!isSending || queuedCount > 0, "a send is in flight with nothing queued")
            precondition(!isContinuing || isReceiving, "a receive goes on that is not in flight")
            precondition(isOpen || operationCount == 0, "an operation is in flight on no socket")
            precondition(!isPumping || !isReceiving, "a side is received from and pumped from at once")
            precondition(!isPumping || !hasEnded, "a side is pumped from that has ended")
        }
    }

    /// Receives in flight of directions in which a chunk already waits to be sent: each may take a second buffer. A half
    /// hello waits, too, and takes none.
    package var receivesAheadCount: UInt8 {
        guard phase == .relaying else { return 0 }
        return (downstream.isReceiving && upstream.queuedCount > 0 ? 1 : 0)
            + (upstream.isReceiving && downstream.queuedCount > 0 ? 1 : 0)
    }

    package private(set) var phase = Phase.preamble
    package private(set) var downstream = Half()
    package private(set) var upstream = Half()
    private var isFirstConnecting = false
    private var isSecondConnecting = false
    private var isFirstCancelled = false
    private var isSecondCancelled = false
    /// One side's end is passed on while the other goes on; else it ends the session.
    package let allowsHalfClose: Bool
    // See `init`.
    private let bulkByteCount: Int32
    private let bulkReceiveCount: UInt8
    /// On `release`: close with RST instead of FIN.
    package private(set) var endsWithReset = false

    /// Receives up to this size count as messages rather than as part of a bulk transfer.
    package static let messageByteCountMax = 4096
    /// After so many messages in a row a receive is made continuing, which saves re-arming it per message
    /// (measured for this path: 20 to 45 % more CPU per message when re-armed).
    private static let chattyThreshold: UInt8 = 2
    /// After so many full receives in a row a direction moves in bulk. Bytes moved in all are no sign: a connection that
    /// has exchanged many messages would be pumped as well, which costs it a fifth more.
    package static let bulkReceiveCountDefault: UInt8 = 8
    /// After so many reports in a row of less than a buffer it does no more.
    private static let calmThreshold: UInt8 = 4
    /// Chunks a side may have waiting before its peer is received from no more. Two keep a receive and a send in
    /// flight at once; with a scarce pool it is one, so that every direction can hold a buffer.
    private static let queueMax: UInt16 = 2
    /// A continuing receive delivers several chunks before its cancellation takes effect; above this it is cancelled.
    private static let continuingQueueMax: UInt16 = 3

    /// A session whose client was just accepted. A direction is pumped after `bulkReceiveCount` receives in a row of
    /// `bulkByteCount` bytes or more, which is what fills a buffer.
    package init(
        allowsHalfClose: Bool, bulkByteCount: Int32 = .max, bulkReceiveCount: UInt8 = Self.bulkReceiveCountDefault
    ) {
        self.allowsHalfClose = allowsHalfClose
        self.bulkByteCount = bulkByteCount
        self.bulkReceiveCount = bulkReceiveCount
        downstream.isOpen = true
    }

    package subscript(side: Side) -> Half {
        @inline(__always)
        get { side == .downstream ? downstream : upstream }
        @inline(__always)
        _modify {
            if side == .downstream { yield &downstream } else { yield &upstream }
        }
    }

    /// Whether `lane` has a connect in flight.
    package func isConnecting(_ lane: Lane) -> Bool { lane == .first ? isFirstConnecting : isSecondConnecting }

    /// Operations in flight.
    package var operationCount: Int {
        downstream.operationCount + upstream.operationCount + (isFirstConnecting ? 1 : 0)
            + (isSecondConnecting ? 1 : 0)
    }

    /// One side at least has sent FIN.
    package var isHalfEnded: Bool { downstream.hasEnded || upstream.hasEnded }

    /// Both sides have ended and every byte was sent; without half-close one side is enough.
    private var isFinished: Bool {
        let isDownstreamDone = downstream.hasEnded && upstream.queuedCount == 0
        let isUpstreamDone = upstream.hasEnded && downstream.queuedCount == 0
        return allowsHalfClose ? isDownstreamDone && isUpstreamDone : isDownstreamDone || isUpstreamDone
    }

    // MARK: Events

    /// `byteCount` bytes came from `side`; `hasMore`: the receive goes on; `isBeforeEnd`: very likely FIN follows.
    package mutating func received(from side: Side, byteCount: Int, hasMore: Bool, isBeforeEnd: Bool = false) {
        precondition(self[side].isReceiving, "bytes came with no receive in flight")
        receiveFinished(side, hasMore)
        self[side].isBeforeEnd = isBeforeEnd
        guard phase == .relaying else { return }
        if byteCount >= bulkByteCount {
            if self[side].fullCount < bulkReceiveCount { self[side].fullCount += 1 }
        } else {
            self[side].fullCount = 0
        }
        if byteCount <= Self.messageByteCountMax && self[side.other].queuedCount == 0 {
            if self[side].chattyCount < Self.chattyThreshold { self[side].chattyCount += 1 }
        } else {
            self[side].chattyCount = 0
        }
    }

    /// `side` sent FIN.
    package mutating func ended(_ side: Side) {
        precondition(self[side].isReceiving, "an end came with no receive in flight")
        receiveFinished(side, false)
        self[side].hasEnded = true
    }

    /// The receive found no buffer. `bufferReturned` lets it try again.
    package mutating func starved(_ side: Side, hasMore: Bool) {
        receiveFinished(side, hasMore)
        if !hasMore { self[side].isStarved = true }
    }

    /// The receive ended without a byte and without an error of the peer's: it was cancelled or interrupted.
    package mutating func receiveStopped(_ side: Side, hasMore: Bool) {
        receiveFinished(side, hasMore)
    }

    private mutating func receiveFinished(_ side: Side, _ hasMore: Bool) {
        guard !hasMore else { return }
        self[side].isReceiving = false
        self[side].isContinuing = false
        self[side].isReceiveCancelled = false
    }

    /// The pump from `side` has moved so many bytes and goes on.
    package mutating func pumped(from side: Side, byteCount: Int) {
        precondition(self[side].isPumping, "bytes were moved with no pump in flight")
        if byteCount >= bulkByteCount {
            self[side].calmCount = 0
        } else if self[side].calmCount < Self.calmThreshold {
            self[side].calmCount += 1
        }
    }

    /// The pump from `side` is over. `hasEnded`: all before the side's FIN has been moved. Where it is not, the direction
    /// goes on with receives, and is pumped again when it has proved to be bulk once more.
    package mutating func pumpFinished(from side: Side, hasEnded: Bool) {
        precondition(self[side].isPumping, "a pump completed with none in flight")
        self[side].isPumping = false
        self[side].isPumpStopping = false
        self[side].isPumpCancelled = false
        self[side].fullCount = 0
        self[side].calmCount = 0
        if hasEnded { self[side].hasEnded = true }
    }

    /// A starved side may receive again.
    package mutating func bufferReturned(_ side: Side) { self[side].isStarved = false }

    /// A chunk now waits for `side`.
    package mutating func queued(to side: Side) { self[side].queuedCount += 1 }

    /// The send in flight has completed; `chunkDone`: nothing of its chunk is left.
    package mutating func sent(to side: Side, chunkDone: Bool) {
        precondition(self[side].isSending, "a send completed with none in flight")
        self[side].isSending = false
        self[side].isSendCancelled = false
        if chunkDone { self[side].queuedCount -= 1 }
    }

    /// The watch has completed. A reset that it saw is followed by `end`. Without one both directions have had their
    /// FIN while bytes may still wait to be received: watching again would see the same at once.
    package mutating func watchFinished(_ side: Side) {
        self[side].isWatching = false
        self[side].isWatchCancelled = false
        self[side].isWatchSpent = true
    }

    /// The delay asked for by `scheduleWatch` is over.
    package mutating func watchDue() {
        downstream.isWatchDue = downstream.isWatchScheduled
        upstream.isWatchDue = upstream.isWatchScheduled
        downstream.isWatchScheduled = false
        upstream.isWatchScheduled = false
    }

    /// Asked with the last of what is queued for `side`: whether FIN follows it, and in the same moment. Then both fit into one
    /// segment. Where buffers are scarce it may take a while to find that FIN has come; without half-close no shutdown
    /// follows, and a close with bytes unread would drop what was held back.
    package mutating func isEnding(towards side: Side, isScarce: Bool) -> Bool {
        switch phase {
        case .relaying:
            if isScarce || !allowsHalfClose { self[side.other].isBeforeEnd = false }
            return self[side.other].isBeforeEnd || self[side.other].hasEnded && allowsHalfClose
        case .refusing: return true
        case .preamble, .deciding, .connecting, .retrying, .closing, .released: return false
        }
    }

    /// After a send to `side`: whether it was held back for a FIN that has not come. Asked once; what comes may be an urgent
    /// byte, or nothing that there is a buffer for.
    package mutating func isHeldInVain(towards side: Side) -> Bool {
        guard phase == .relaying, self[side].queuedCount == 0, self[side.other].isBeforeEnd else { return false }
        self[side.other].isBeforeEnd = false
        return !self[side.other].hasEnded
    }

    private func needsWatch(_ side: Side) -> Bool {
        let half = self[side]
        guard half.isOpen, !half.isReceiving, !half.isPumping, !half.isWatching, !half.isWatchSpent else {
            return false
        }
        switch phase {
        case .deciding, .connecting, .relaying: return true
        case .preamble, .retrying, .refusing, .closing, .released: return false
        }
    }

    /// The preamble is complete.
    package mutating func preambleRead() {
        precondition(phase == .preamble)
        phase = .deciding
    }

    /// A connect was handed over on `lane`.
    package mutating func connecting(_ lane: Lane) {
        precondition(phase == .deciding || phase == .connecting)
        precondition(!isConnecting(lane), "a lane has one connect at a time")
        phase = .connecting
        if lane == .first { isFirstConnecting = true } else { isSecondConnecting = true }
    }

    /// The attempt on `lane` has taken too long: its connect is to be cancelled. It stays in flight until it completes.
    package mutating func connectExpired(_ lane: Lane) -> SessionActions {
        guard isConnecting(lane) else { return [] }
        switch lane {
        case .first:
            if isFirstCancelled { return [] }
            isFirstCancelled = true
            return .cancelConnectFirst
        case .second:
            if isSecondCancelled { return [] }
            isSecondCancelled = true
            return .cancelConnectSecond
        }
    }

    /// The connect on `lane` is no longer in flight. True where its socket, if any, is now the upstream; false where a
    /// success came too late and the socket is to be closed.
    package mutating func connectFinished(_ lane: Lane, isConnected: Bool) -> Bool {
        precondition(isConnecting(lane), "a connect completed with none in flight")
        if lane == .first {
            isFirstConnecting = false
            isFirstCancelled = false
        } else {
            isSecondConnecting = false
            isSecondCancelled = false
        }
        guard phase == .connecting, isConnected else { return false }
        phase = .relaying
        upstream.isOpen = true
        return true
    }

    /// Every connect failed and another endpoint or name is to be looked for.
    package mutating func connectsFailed() {
        precondition(phase == .connecting && !isFirstConnecting && !isSecondConnecting)
        phase = .deciding
    }

    /// Something is in flight that the search for another upstream has to wait for: also a connect that lost its race, whose
    /// lane is needed, and a receive from the client.
    private var namesUpstream: Bool {
        upstream.operationCount > 0 || isFirstConnecting || isSecondConnecting || downstream.isReceiving
    }

    /// The upstream is gone, and another is to be looked for: nothing of it has come yet, and what it was sent is kept.
    package mutating func retry() {
        precondition(phase == .relaying && !downstream.isPumping && !upstream.isPumping && downstream.queuedCount == 0)
        phase = .retrying
    }

    /// The upstream is closed; `queuedCount` chunks wait for the next one.
    package mutating func upstreamDropped(queuedCount: UInt16) {
        precondition(phase == .retrying && !namesUpstream)
        upstream = Half()
        upstream.queuedCount = queuedCount
        phase = .deciding
    }

    /// The client is refused: what is queued for it goes out, then FIN. What was held back for the upstream is dropped.
    package mutating func refuse() {
        switch phase {
        case .preamble, .deciding, .connecting:
            phase = .refusing
            upstream.queuedCount = 0
        case .relaying, .retrying, .refusing, .closing, .released:
            preconditionFailure("only a session that is not open yet can be refused")
        }
    }

    /// The session ends here. The first call decides how.
    package mutating func end(reset: Bool) {
        guard phase != .closing && phase != .released else { return }
        phase = .closing
        endsWithReset = reset
    }

    // MARK: What follows

    /// The actions that bring the session from what is to what should be. `isScarce`: few buffers are free.
    package mutating func next(isScarce: Bool) -> SessionActions {
        var actions: SessionActions = []
        switch phase {
        case .preamble:
            receiveIfIdle(.downstream, into: &actions)
        case .deciding:
            scheduleWatchIfQuiet(.downstream, into: &actions)
        case .connecting:
            scheduleWatchIfQuiet(.downstream, into: &actions)
        case .relaying:
            if isFinished {
                end(reset: false)
                close(into: &actions)
            } else {
                cancelConnects(into: &actions)
                relay(from: .downstream, isScarce, into: &actions)
                relay(from: .upstream, isScarce, into: &actions)
            }
        case .retrying:
            cancelConnects(into: &actions)
            cancelOperations(of: .upstream, into: &actions)
            cancelReceive(of: .downstream, into: &actions)
            if !namesUpstream { actions.insert(.dropUpstream) }
        case .refusing:
            cancelConnects(into: &actions)
            refuse(into: &actions)
        case .closing:
            close(into: &actions)
        case .released:
            preconditionFailure("an event came after the release")
        }
        return actions
    }

    private mutating func receiveIfIdle(_ side: Side, into actions: inout SessionActions) {
        guard !self[side].isReceiving, !self[side].isStarved, !self[side].hasEnded else { return }
        self[side].isReceiving = true
        actions.insert(side == .downstream ? .receiveDownstream : .receiveUpstream)
    }

    private mutating func scheduleWatchIfQuiet(_ side: Side, into actions: inout SessionActions) {
        guard needsWatch(side) else {
            self[side].isWatchDue = false
            return
        }
        if self[side].isWatchDue {
            self[side].isWatchDue = false
            self[side].isWatching = true
            actions.insert(side == .downstream ? .watchDownstream : .watchUpstream)
        } else if !self[side].isWatchScheduled {
            self[side].isWatchScheduled = true
            actions.insert(.scheduleWatch)
        }
    }

    /// One direction: from `side` to the other.
    private mutating func relay(from side: Side, _ isScarce: Bool, into actions: inout SessionActions) {
        let sink = side.other
        if self[side].isPumping {
            if self[side].calmCount >= Self.calmThreshold && !self[side].isPumpStopping {
                self[side].isPumpStopping = true
                actions.insert(side == .downstream ? .stopPumpDownstream : .stopPumpUpstream)
            }
            return
        }
        if self[sink].queuedCount > 0 && !self[sink].isSending {
            self[sink].isSending = true
            actions.insert(sink == .downstream ? .sendDownstream : .sendUpstream)
            if sink == .upstream { makePrompt(into: &actions) }
        }
        if self[side].hasEnded {
            // Where both have ended, `next` closes the sockets at once, which needs no shutdown before it.
            if self[sink].queuedCount == 0 && !self[sink].isShut && allowsHalfClose {
                self[sink].isShut = true
                actions.insert(sink == .downstream ? .shutdownDownstream : .shutdownUpstream)
            }
        } else if self[side].isReceiving {
            // One that goes on would keep a direction that has become bulk from its pump.
            let isBulk = self[side].fullCount >= bulkReceiveCount
            if self[side].isContinuing && !self[side].isReceiveCancelled
                && (isBulk || self[sink].queuedCount > (isScarce ? 0 : Self.continuingQueueMax))
            {
                self[side].isReceiveCancelled = true
                self[side].chattyCount = 0
                actions.insert(side == .downstream ? .cancelReceiveDownstream : .cancelReceiveUpstream)
            }
        } else if self[side].fullCount >= bulkReceiveCount {
            // What was received before goes out first.
            if self[sink].queuedCount == 0 && !self[sink].isSending {
                self[side].isPumping = true
                actions.insert(side == .downstream ? .pumpDownstream : .pumpUpstream)
                if sink == .upstream && upstream.promptness != .prompt {
                    upstream.promptness = .prompt
                    actions.insert(.noDelayUpstream)
                }
            }
        } else if self[sink].queuedCount < (isScarce ? 1 : Self.queueMax) {
            let isChatty = self[side].chattyCount >= Self.chattyThreshold && !isScarce
            receiveIfIdle(side, into: &actions)
            self[side].isContinuing = self[side].isReceiving && isChatty
        }
        scheduleWatchIfQuiet(side, into: &actions)
    }

    /// Accepted sockets are prompt from the start, as listening ones hand it on.
    private mutating func makePrompt(into actions: inout SessionActions) {
        switch upstream.promptness {
        case .untried:
            // With more behind it, a segment is filled.
            if upstream.queuedCount == 1 { upstream.promptness = .hasSent }
        case .hasSent:
            upstream.promptness = .prompt
            actions.insert(.noDelayUpstream)
        case .prompt:
            break
        }
    }

    private mutating func refuse(into actions: inout SessionActions) {
        if downstream.queuedCount > 0 {
            if !downstream.isSending {
                downstream.isSending = true
                actions.insert(.sendDownstream)
            }
        } else if !downstream.isShut {
            downstream.isShut = true
            actions.insert(.shutdownDownstream)
        }
        if downstream.isShut && downstream.hasEnded {
            end(reset: false)
            close(into: &actions)
            return
        }
        receiveIfIdle(.downstream, into: &actions)
    }

    private mutating func cancelConnects(into actions: inout SessionActions) {
        actions.formUnion(connectExpired(.first))
        actions.formUnion(connectExpired(.second))
    }

    private mutating func close(into actions: inout SessionActions) {
        cancelConnects(into: &actions)
        cancelOperations(of: .downstream, into: &actions)
        cancelOperations(of: .upstream, into: &actions)
        if operationCount == 0 {
            phase = .released
            actions.insert(.release)
        }
    }

    private mutating func cancelReceive(of side: Side, into actions: inout SessionActions) {
        guard self[side].isReceiving && !self[side].isReceiveCancelled else { return }
        self[side].isReceiveCancelled = true
        actions.insert(side == .downstream ? .cancelReceiveDownstream : .cancelReceiveUpstream)
    }

    private mutating func cancelOperations(of side: Side, into actions: inout SessionActions) {
        let isDownstream = side == .downstream
        cancelReceive(of: side, into: &actions)
        if self[side].isSending && !self[side].isSendCancelled {
            self[side].isSendCancelled = true
            actions.insert(isDownstream ? .cancelSendDownstream : .cancelSendUpstream)
        }
        if self[side].isPumping && !self[side].isPumpCancelled {
            self[side].isPumpCancelled = true
            actions.insert(isDownstream ? .cancelPumpDownstream : .cancelPumpUpstream)
        }
        if self[side].isWatching && !self[side].isWatchCancelled {
            self[side].isWatchCancelled = true
            actions.insert(isDownstream ? .cancelWatchDownstream : .cancelWatchUpstream)
        }
    }

    /// Traps where the facts contradict each other. The simulation calls it after every event.
    package func checkInvariants() {
        downstream.checkInvariants()
        upstream.checkInvariants()
        precondition(downstream.isOpen)
        precondition(phase != .preamble || !upstream.isOpen)
        precondition(phase != .relaying && phase != .retrying || upstream.isOpen)
        precondition(phase != .deciding && phase != .connecting || !upstream.isOpen)
        precondition(phase != .released || operationCount == 0)
    }
}
