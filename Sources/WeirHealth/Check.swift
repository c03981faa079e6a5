import WeirIO
import WeirMemory
import WeirNet
import WeirUpstream
import WeirWire

/// One check at hand. A plain value.
struct Check: BitwiseCopyable {
    enum Phase: UInt8, BitwiseCopyable {
        case resolving
        case connecting
        /// Sends, and waits for the answer.
        case talking
        /// A `proxy` check whose header is out: waits whether the endpoint parts from it.
        case holding
        /// Waits for its operations, to go on with the next address.
        case retrying
        /// Its result is out. Waits for its operations.
        case closing
    }

    /// Index of the target; -1 once nobody waits for a result.
    var target: Int32
    var phase = Phase.resolving
    var socket = Socket.none
    var isConnecting = false
    var isSending = false
    var isReceiving = false
    /// Holds the opening while it is sent.
    var block = BufferPool.none
    var sentCount: UInt32 = 0
    /// All of it.
    let deadline: Instant
    /// Those that may be connected to, and the next one.
    var addresses = ResolvedAddresses()
    var position = 0
    var connectStartedAt = Instant(nanoseconds: 0)
    /// Nanoseconds.
    var connectTime: UInt64 = 0
    /// Of the address that was tried last.
    var lastFailure = CheckFailure.timedOut
    var hello = ServerHelloRecogniser()
    var status = HTTPStatusParser()

    init(target: Int, deadline: Instant) {
        self.target = Int32(target)
        self.deadline = deadline
    }

    var isHome: Bool { !isConnecting && !isSending && !isReceiving }
}

/// What an operation of a check is. Raw values are even, as drivers tell two of a slot apart by the lowest bit.
enum CheckOperation: UInt8 {
    case connect = 0
    case receive = 2
    case send = 4
}
