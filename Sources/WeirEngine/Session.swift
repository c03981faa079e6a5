import WeirIO
import WeirMemory
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirUpstream
import WeirWire

/// Chunks of the worker's pool that wait to be sent to one side, first in first out. The links stand in the chunks.
struct SendQueue: BitwiseCopyable {
    var head = BufferPool.none
    var tail = BufferPool.none

    var isEmpty: Bool { head == BufferPool.none }
}

/// What a worker keeps of one session from accept to close. What is needed only until the upstream is open stands in
/// a `Preamble` and in an `Opening`. An idle session holds this and no buffer: less than 1 KiB.
struct Session: BitwiseCopyable {
    var machine: SessionMachine
    var downstream: Socket
    var upstream = Socket.none
    var toDownstream = SendQueue()
    var toUpstream = SendQueue()
    /// As counted in the worker's `receivesAheadCount`.
    var receivesAheadCount: UInt8 = 0
    /// Index of its `Preamble`; -1 once that is read.
    var preamble: Int32 = -1
    /// Index of its `Opening`; -1 before there is anything to decide from, and once the upstream has proved to be there.
    var opening: Int32 = -1
    let listenerSlot: Int32

    let acceptedAt: Instant
    /// The last byte in either direction.
    var activeAt: Instant
    /// When a quiet side is to be watched; `distantFuture`: not scheduled.
    var watchAt = Instant.distantFuture
    /// While refusing: when the client's lingering bytes are waited for no longer.
    var refuseDeadline = Instant.distantFuture
    // Copies, so that a reload leaves a live session as it is. Nanoseconds.
    let idleTimeout: UInt64
    let halfCloseTimeout: UInt64
    var deadline: Instant
    /// `deadline` is that of the connection's age, not of the listener's `session` timeout.
    var endsByAge = false
    /// What it goes through is no longer to be used, and this is when it is reset for that; `distantFuture`: it is not.
    var drainDeadline = Instant.distantFuture
    var drainReason = CloseReason.Other.routeRemoved
    /// Where it is counted on the board of endpoints: its endpoint and its cluster; -1: nowhere.
    var endpointPlace: Int32 = -1
    var clusterPlace: Int32 = -1
    /// Its cluster counts it among those that are connecting.
    var isPending = false

    /// What each lane's connect holds of the port ledger, from its start until its socket is closed. Here and not in the
    /// `Opening`, which is given back before the lane that lost the race is home.
    var firstSourcePort = PortLedger.Entry.none
    var secondSourcePort = PortLedger.Entry.none
    /// FIN went to the upstream before one came from there: closing leaves our port in TIME_WAIT.
    var sentUpstreamEndFirst = false

    /// Set when the session ends or is refused.
    var reason: CloseReason?
    var clientTicket = ConnectionCounter.Ticket.none
    /// Where its route, if that has limits, counts it; -1: nowhere. And what its client has there.
    var routePlace: Int32 = -1
    var routeTicket = ConnectionCounter.Ticket.none
    var record: SessionRecord
    /// Index of the unique id of its PROXY header; -1: none came.
    var proxyUniqueID: Int32 = -1
}

extension Worker {
    /// What each slot for a session takes, used or not.
    package static var byteCountPerSession: Int { MemoryLayout<Session>.stride }
}

/// What a session needs from accept to the last byte of its preamble. Small, because whoever stalls there costs no more
/// than this, a `Session` and a block: less than 4 KiB together (P-10).
struct Preamble: BitwiseCopyable {
    enum Stage: UInt8 {
        case proxyHeader
        case detect
        case hello
        case requestHead
        case done
    }

    var stage: Stage
    /// Index of the parser that goes on with the next bytes; -1: none has begun, or it has all it needs.
    var reader: Int32 = -1
    /// As the listener had it at accept.
    let helloByteCountMax: Int32
    // From accept on.
    let helloDeadline: Instant
    let preambleDeadline: Instant
}

/// The parser of a preamble of which a part has come. Most come whole, and never need one here.
enum PreambleReader: BitwiseCopyable {
    case proxyHeader(ProxyHeaderParser)
    case hello(ClientHelloParser)
    case requestHead(HTTPRequestHeadParser)
}

/// What a session needs between its preamble and the first byte of its upstream: what was read, the decision, the addresses
/// still to be tried, and what the upstream has been sent.
struct Opening: BitwiseCopyable {
    // What was read, besides the server name, which the record has.
    var alpn = ALPNOffer.none
    /// How the hello wrote the server name.
    var spelling = ServerNameSpelling()
    /// Index of the PROXY header that the client's side sent and that was believed; -1: none.
    var proxyHeader: Int32 = -1
    /// A PROXY header said LOCAL or UNKNOWN: what is sent on says so too (PO-05).
    var isLocalConnection = false
    /// The destination in the PROXY header.
    var proxiedDestination: SocketAddress?

    // Deadlines.
    let preambleDeadline: Instant
    var connectDeadline = Instant.distantFuture

    // The decision. `generation` names the snapshot that `cluster`, `endpoint` and `tried` index.
    var generation: UInt64 = 0
    var upstream: CompiledUpstream?
    /// -1: it goes to no cluster, but to a name.
    var cluster: Int32 = -1
    var endpoint: Int32 = -1
    var tried = TriedEndpoints()
    var clusterMetric: Int32 = -1
    /// As its cluster has it.
    var privateNames = false
    /// Nanoseconds from the moment on that the upstream is open; `UInt64.max`: no limit.
    var connectionAgeMax = UInt64.max
    var targetName = ServerName.none
    var targetPort: UInt16 = 0
    var isResolving = false
    var resolveStartedAt = Instant(nanoseconds: 0)
    var attemptCount = 0

    // Addresses by lane: one family each.
    var firstAddresses = ResolvedAddresses()
    var secondAddresses = ResolvedAddresses()
    var firstPosition = 0
    var secondPosition = 0
    var firstAttempt = Attempt()
    var secondAttempt = Attempt()
    /// When the second family starts; `distantFuture`: it has, or there is none.
    var staggerAt = Instant.distantFuture
    /// The errno of the last failed connect, and what the guard refused.
    var lastError: Int32 = 0
    var lastReason = CloseReason.Other.connectFailed
    var deniedRule: GuardRule?
    /// What was sent to the open upstream, for the next one, should this one be gone before its first byte.
    var sent = SendQueue()
    /// Our PROXY header stands at the head of what is queued: made anew for each upstream.
    var hasHeaderQueued = false
    /// More of the client's bytes are queued than its preamble.
    var hasMore = false
    /// Endpoints that ended before their first byte. Whether it was their fault is known once another answers.
    var endedEarly = TriedEndpoints()
    /// Where a gateway is to connect; nil: the session goes through none.
    var gatewayDestination: SocketAddress?
    /// Sources that the lane's present address is not to be tried from again, by bit.
    var firstTriedSources: UInt64 = 0
    var secondTriedSources: UInt64 = 0

    struct Attempt: BitwiseCopyable {
        var address = SocketAddress(.v4Any, port: 0)
        var startedAt = Instant(nanoseconds: 0)
        var deadline = Instant.distantFuture
        /// The source that the connect was begun from, among the pool's; nil: the kernel chose.
        var source: SourceSelector.Choice?
    }

    /// The lane has addresses and has not tried one.
    func isUntried(_ lane: Lane) -> Bool {
        lane == .first
            ? firstPosition == 0 && !firstAddresses.isEmpty : secondPosition == 0 && !secondAddresses.isEmpty
    }

    mutating func skipRest(of lane: Lane) {
        if lane == .first { firstPosition = firstAddresses.count } else { secondPosition = secondAddresses.count }
    }

    subscript(lane: Lane) -> Attempt {
        get { lane == .first ? firstAttempt : secondAttempt }
        set { if lane == .first { firstAttempt = newValue } else { secondAttempt = newValue } }
    }
}

/// The kinds of operation that a worker has in flight, as tokens name them.
enum OperationKind: UInt8 {
    // A driver tells the two connects of a session apart by the lowest bit.
    case connectFirst = 0
    case connectSecond = 1
    case receiveDownstream = 2
    case receiveUpstream = 3
    case sendDownstream = 4
    case sendUpstream = 5
    case watchDownstream = 6
    case watchUpstream = 7
    case accept = 8
    // A driver tells the two pumps of a session apart by the lowest bit as well.
    case pumpDownstream = 10
    case pumpUpstream = 11
}
