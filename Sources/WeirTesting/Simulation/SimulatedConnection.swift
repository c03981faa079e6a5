import WeirIO
import WeirNet

/// One simulated TCP connection. The near end is a socket of the worker, the far end belongs to a script: a client or
/// an upstream.
///
/// ```
///  far end  ── sent ──▶ arrivedCount ──▶ readCount     the worker receives
///  far end  ◀── consumedCount ◀── deliveredCount ◀── received     the worker sends
/// ```
///
/// `readCount <= arrivedCount <= sent.count` and `consumedCount <= deliveredCount <= received.count`; what is between
/// the outer two fits the window of its direction.
package final class SimulatedConnection {
    /// The worker's number stands on top.
    package let id: Int
    package var worker: Int { id >> 20 }
    /// Our end, and the other.
    package let nearAddress: SocketAddress
    package let farAddress: SocketAddress
    /// Opened by the worker, not by the far end.
    package let isUpstream: Bool

    // From the far end to us.
    let inboundWindow: Int
    /// All the far end has written.
    package internal(set) var sent: [UInt8] = []
    package internal(set) var arrivedCount = 0
    package internal(set) var readCount = 0
    package internal(set) var hasFarEnded = false
    var endArrived = false
    var lastInboundArrival: UInt64 = 0
    /// The far end has reset the connection or vanished, and when that reached us.
    package internal(set) var hasFarReset = false
    package internal(set) var hasVanished = false
    package internal(set) var resetArrivedAt: Instant?
    /// Linux tells one operation of a reset; the others see an end or EPIPE.
    var pendingError: Int32 = 0

    // From us to the far end.
    let outboundWindow: Int
    /// All that was taken from the worker's sends.
    package internal(set) var received: [UInt8] = []
    package internal(set) var deliveredCount = 0
    package internal(set) var consumedCount = 0
    var lastOutboundArrival: UInt64 = 0
    /// Taken from sends that said that more follows, and not on its way yet.
    var heldBackCount = 0
    /// The first of them.
    var heldBackSince: UInt64 = 0
    var heldBackTurn: UInt64 = 0
    /// The last send said that more follows.
    var mayHoldBack = false
    /// Our FIN or RST is on its way.
    package internal(set) var hasNearEnded = false
    package internal(set) var nearResetAt: Instant?
    /// The far end knows of it.
    package internal(set) var sawEndAt: Instant?
    package internal(set) var sawResetAt: Instant?
    /// When the worker closed its socket.
    package internal(set) var closedAt: Instant?

    /// Our socket; none before accept and after close.
    package internal(set) var socket = Socket.none
    package internal(set) var openedAt: Instant?
    /// A send may wait for the acknowledgement of an earlier one that filled no segment.
    var mayDelaySends: Bool
    var hasSmallSend = false
    /// The worker has sent or received on it, or tried to.
    var isUsed = false
    var receiving: SimulatedOperation? {
        didSet { isUsed = true }
    }
    var sending: SimulatedOperation?
    var watching: SimulatedOperation?
    var isReceiveDue = false
    var isSendDue = false

    /// The far end looks at bytes as soon as they come.
    package var readsAtOnce = true
    /// The worker's own machine failed it, for want of memory.
    package internal(set) var hasLackedMemory = false
    /// The last time that the worker received or had sent a byte, or received its end.
    package internal(set) var movedAt = Instant(nanoseconds: 0)
    /// When the worker received its end.
    package internal(set) var endReadAt: Instant?

    init(
        id: Int, near: SocketAddress, far: SocketAddress, isUpstream: Bool, inboundWindow: Int, outboundWindow: Int
    ) {
        self.id = id
        nearAddress = near
        farAddress = far
        self.isUpstream = isUpstream
        mayDelaySends = isUpstream
        self.inboundWindow = inboundWindow
        self.outboundWindow = outboundWindow
    }

    // MARK: For scripts

    /// Bytes that the far end may write now.
    package var sendRoom: Int {
        hasFarEnded || hasFarReset || sawResetAt != nil ? 0 : max(0, inboundWindow - (sent.count - readCount))
    }
    /// Bytes that have come to the far end and were not looked at yet.
    package var unconsumedCount: Int { deliveredCount - consumedCount }
    /// The far end has seen our FIN and all before it.
    package var hasReadEnd: Bool { sawEndAt != nil && unconsumedCount == 0 }
    /// Nothing will happen on it any more.
    package var isOver: Bool { sawResetAt != nil || hasFarReset || hasReadEnd && hasFarEnded }
}

/// A listening socket and the clients that wait to be accepted.
final class SimulatedListener {
    let address: SocketAddress
    var waiting: [SimulatedConnection] = []
    var accepting: SimulatedOperation?
    var isDue = false
    var isOpen = true
    /// When the last accept failed, or the first of those who wait has come.
    var waitsSince = Instant(nanoseconds: 0)

    init(address: SocketAddress) { self.address = address }
}

/// An operation in flight.
final class SimulatedOperation {
    enum Kind {
        case accept(SimulatedListener)
        case connect(SimulatedConnect)
        case receive(SimulatedConnection, isContinuing: Bool)
        case send(SimulatedConnection, Payload)
        case watch(SimulatedConnection)
        case pump(from: SimulatedConnection, to: SimulatedConnection)
    }

    let token: Token
    let kind: Kind
    /// Of a send: bytes taken so far.
    var sentCount = 0
    var isCancelled = false
    var isInFlight = true
    // Of a pump: what it takes at a time, what it holds, whether it was asked to end.
    var carrierByteCount = 0
    var carried: [UInt8] = []
    var isStopping = false
    var isDue = false

    /// What it is called when it succeeds although it was to be cancelled.
    var despiteCancel: Played {
        switch kind {
        case .accept: .acceptDespiteCancel
        case .connect: .connectDespiteCancel
        case .send(_, let payload) where sentCount < Int(payload.byteCount): .sendPartlyDespiteCancel
        case .send: .sendDespiteCancel
        case .receive, .watch, .pump: .receiveDespiteCancel
        }
    }

    init(_ token: Token, _ kind: Kind) {
        self.token = token
        self.kind = kind
    }
}

/// A connect in flight.
final class SimulatedConnect {
    let socket: Socket
    let near: SocketAddress
    let destination: SocketAddress
    let plan: SimulatedConnectPlan

    init(socket: Socket, near: SocketAddress, destination: SocketAddress, plan: SimulatedConnectPlan) {
        self.socket = socket
        self.near = near
        self.destination = destination
        self.plan = plan
    }
}

/// What becomes of a connect.
package enum SimulatedConnectPlan: Sendable {
    /// Times in nanoseconds.
    case succeed(after: UInt64)
    case fail(Int32, after: UInt64)
    /// Nothing answers.
    case silence
}
