import WeirNet

/// A socket as the driver names it. Valid from the completion that delivers it until the operation that closes it; one
/// made elsewhere, such as a listening socket, from the first operation that names it.
@frozen
public struct Socket: Hashable, Sendable, BitwiseCopyable {
    public let rawValue: Int32

    @inlinable
    public init(rawValue: Int32) { self.rawValue = rawValue }

    /// No socket.
    public static let none = Socket(rawValue: -1)
    @inlinable
    public var isNone: Bool { rawValue < 0 }
}

/// Names one operation in flight: whose it is, which tenant of that slot, and what kind of operation.
///
/// A completion for an earlier tenant of a slot carries the earlier generation and is recognised by it.
@frozen
public struct Token: Hashable, Sendable, BitwiseCopyable {
    /// Bits 0..<32 the owner's index, 32..<56 the generation, 56..<62 the kind, 62..<64 the driver's own.
    public let rawValue: UInt64

    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    @inlinable
    public init(kind: UInt8, index: UInt32, generation: UInt32) {
        rawValue = UInt64(kind) << 56 | UInt64(generation & 0xff_ffff) << 32 | UInt64(index)
    }

    @inlinable
    public var kind: UInt8 { UInt8(truncatingIfNeeded: rawValue >> 56) }
    @inlinable
    public var index: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    /// The low 24 bits of the slot's generation.
    @inlinable
    public var generation: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) & 0xff_ffff }

    /// For operations that complete in silence.
    public static let silent = Token(rawValue: .max)
}

/// Bytes of one buffer of the worker's pool, to be sent. The buffer belongs to the operation until it completes.
@frozen
public struct Payload: Sendable, BitwiseCopyable {
    public var buffer: UInt32
    public var offset: UInt32
    public var byteCount: UInt32
    /// More, or the end, follows at once: the kernel may hold these bytes back to fill a segment (MSG_MORE).
    public var more: Bool

    @inlinable
    public init(buffer: UInt32, offset: UInt32, byteCount: UInt32, more: Bool = false) {
        self.buffer = buffer
        self.offset = offset
        self.byteCount = byteCount
        self.more = more
    }
}

/// Where the packets of a connection leave the machine, besides what its source address says of that.
@frozen
public struct Outlet: Hashable, Sendable, BitwiseCopyable {
    /// The number of the one interface that they may use (SO_BINDTOIFINDEX, Linux 5.1); 0: any; below: one that there is
    /// not, and connecting fails with ENODEV.
    public var interface: Int32
    /// Their mark, for policy routing (SO_MARK, which takes CAP_NET_ADMIN); 0: none.
    public var mark: UInt32

    @inlinable
    public init(interface: Int32, mark: UInt32) {
        self.interface = interface
        self.mark = mark
    }

    /// Where the routes say.
    @inlinable
    public static var any: Outlet { Outlet(interface: 0, mark: 0) }
    @inlinable
    public var isAny: Bool { interface == 0 && mark == 0 }
}

/// When the kernel asks the other end of a quiet connection whether it is still there (SO_KEEPALIVE).
@frozen
public struct Keepalive: Hashable, Sendable, BitwiseCopyable {
    /// Seconds without a byte before the first probe (TCP_KEEPIDLE): 1...32,767.
    public var idle: UInt16
    /// Seconds between two probes (TCP_KEEPINTVL): 1...32,767.
    public var interval: UInt16
    /// Probes without an answer after which the connection has timed out (TCP_KEEPCNT): 1...127; 0: nobody is asked.
    public var probes: UInt8

    @inlinable
    public init(idle: UInt16, interval: UInt16, probes: UInt8) {
        self.idle = idle
        self.interval = interval
        self.probes = probes
    }

    @inlinable
    public static var off: Keepalive { Keepalive(idle: 0, interval: 0, probes: 0) }
    @inlinable
    public var isOff: Bool { probes == 0 }
}

/// What the engine asks of a kernel. A plain value; a batch of them crosses the seam once per turn.
@frozen
public struct Operation: Sendable, BitwiseCopyable {
    @frozen
    public enum Action: Sendable, BitwiseCopyable {
        /// Takes connections from a listening socket until it completes without `hasMore`. Result: the new socket.
        case accept(Socket)
        /// Makes a stream socket, binds it to `from` and to `through` where they are given, connects. `sendsFirst`: a send follows at once, and
        /// its segment may carry the acknowledgement that ends the handshake. Result: the new socket, on which a short
        /// send may wait for the acknowledgement of an earlier one.
        case connect(
            to: SocketAddress, from: IPAddress?, through: Outlet = .any, sendsFirst: Bool = false,
            keepalive: Keepalive = .off)
        /// Receives into a buffer that the driver takes from the pool. `isContinuing`: again and again, until a
        /// completion without `hasMore`. Result: the byte count, 0 at the end of the stream; the buffer, then owned
        /// by the engine, comes with every count above 0.
        case receive(Socket, isContinuing: Bool)
        /// Sends a payload. Result: the byte count, which may be short.
        case send(Socket, Payload)
        /// Moves bytes from one socket to another as they come, in a carrier of the driver's: for directions that move in
        /// bulk. No receive may be in flight on the first, no send on the second. Result, again and again with
        /// `hasMore`: bytes moved. Then, for good: 0 after the last byte before the source's end; ECANCELED after
        /// `stopPump` or `cancel`; ENOBUFS at once where there is no carrier; another error of either socket.
        case pump(from: Socket, to: Socket)
        /// Asks a pump to take nothing more. It completes once what it holds has been moved.
        case stopPump(Token)
        /// Waits until the connection has been reset or has ended in both directions. Result: 0, or the error.
        case watch(Socket)
        /// Asks for the end of an operation in flight. Completes in silence; the operation named completes as
        /// cancelled, or as what it had become by then; what a pump holds is lost. Connects and watches have their own,
        /// because a driver may keep them apart.
        case cancel(Token)
        case cancelConnect(Token)
        case cancelWatch(Token)
        /// From here on no send waits for the acknowledgement of an earlier one (TCP_NODELAY). Accepted sockets never do. What
        /// was held back goes out. Completes in silence.
        case noDelay(Socket)
        /// Ends the sending direction (FIN); no send may be in flight on the socket, nor stand before it in the batch: a
        /// driver may end it at once. Completes in silence.
        case shutdown(Socket)
        /// Closes; no operation may be in flight on the socket. Completes in silence.
        case close(Socket)
        /// Closes with RST (SO_LINGER{1,0}). What a send was told to hold back goes out before it, as far as there is
        /// room; what else was not sent is dropped. Completes in silence.
        case reset(Socket)
    }

    public var token: Token
    public var action: Action

    @inlinable
    public init(_ token: Token, _ action: Action) {
        self.token = token
        self.action = action
    }
}

/// What became of an operation.
@frozen
public struct Completion: Sendable, BitwiseCopyable {
    public var token: Token
    /// Zero or above: the operation's result. Below: a negated errno.
    public var result: Int32
    /// The buffer that a receive filled, or `BufferPool.none`.
    public var buffer: UInt32
    /// The operation goes on and will complete again.
    public var hasMore: Bool
    /// A pump's error is one of the socket that it moves bytes to.
    public var isOfDestination: Bool
    /// The end of the stream has come as well and is all that the next receive will find. A hint: a driver may not know,
    /// and bytes may follow all the same.
    public var isBeforeEnd: Bool

    @inlinable
    public init(
        token: Token, result: Int32, buffer: UInt32, hasMore: Bool, isOfDestination: Bool = false,
        isBeforeEnd: Bool = false
    ) {
        self.token = token
        self.result = result
        self.buffer = buffer
        self.hasMore = hasMore
        self.isOfDestination = isOfDestination
        self.isBeforeEnd = isBeforeEnd
    }
}
