import WeirNet

/// What is left of a session when it has closed: the source of its access log line. A plain value, so that a worker
/// hands it over by copying.
public struct SessionRecord: Sendable, BitwiseCopyable {
    /// What the first bytes were read as.
    public enum DetectedProtocol: UInt8, Sendable, BitwiseCopyable {
        case none
        case tls
        case http
    }

    public struct Flags: OptionSet, Sendable, BitwiseCopyable {
        public let rawValue: UInt16
        @inlinable
        public init(rawValue: UInt16) { self.rawValue = rawValue }

        /// The client's address came from a PROXY header.
        @inlinable public static var proxyAccepted: Flags { Flags(rawValue: 1 << 0) }
        /// The hello carried encrypted_client_hello.
        @inlinable public static var echSeen: Flags { Flags(rawValue: 1 << 1) }
        /// One side ended while the other went on sending.
        @inlinable public static var halfClosed: Flags { Flags(rawValue: 1 << 2) }
        /// The address came out of the DNS cache after its TTL.
        @inlinable public static var staleAnswer: Flags { Flags(rawValue: 1 << 3) }
        /// The session was open when a drain ran out of time.
        @inlinable public static var drained: Flags { Flags(rawValue: 1 << 4) }
        /// A PROXY header said that the client used TLS.
        @inlinable public static var proxyTLS: Flags { Flags(rawValue: 1 << 5) }
    }

    /// Unique in this process; written as 16 hexadecimal digits.
    public var id: UInt64
    public var worker: UInt16 = 0
    public var detected: DetectedProtocol = .none
    public var flags: Flags = []
    /// Connects tried.
    public var attempts: UInt8 = 0
    /// 200, 400, 403, 500, 502 or 503 (UP-11).
    public var status: UInt16 = 0
    /// Why it closed: a code of the registry's `reasonLabels`.
    public var reason: UInt16 = 0
    /// The errno behind the reason; 0: none.
    public var code: Int32 = 0
    /// The guard's rule that refused the last address: a code of `guardRuleLabels`; -1: none.
    public var guardRule: Int16 = -1

    /// Bases that the registry handed out; -1: none.
    public var listener: Int32 = -1
    public var route: Int32 = -1
    public var cluster: Int32 = -1
    public var endpoint: Int32 = -1

    /// The client: the PROXY header's where one was believed, else `peer`.
    public var client: SocketAddress
    /// The other end of the downstream socket.
    public var peer: SocketAddress
    /// Where the client connected to.
    public var local: SocketAddress
    /// The last address tried.
    public var upstream: SocketAddress?
    /// Our end of the upstream connection.
    public var upstreamLocal: SocketAddress?
    public var serverName: ServerName = .none

    /// Wall clock, in nanoseconds since 1970 (UTC).
    public var acceptedAt: UInt64 = 0
    /// Durations in nanoseconds. From accept to the end of the preamble; nil: it did not end.
    public var preambleTime: UInt64?
    /// Waiting for DNS; nil: nothing was resolved.
    public var resolveTime: UInt64?
    /// The successful connect; nil: there was none.
    public var connectTime: UInt64?
    /// From accept to close.
    public var totalTime: UInt64 = 0

    /// Bytes read from the client, the preamble included and a PROXY header not.
    public var bytesFromClient: UInt64 = 0
    /// Bytes read from the upstream.
    public var bytesFromUpstream: UInt64 = 0

    public init(id: UInt64, client: SocketAddress, peer: SocketAddress, local: SocketAddress) {
        self.id = id
        self.client = client
        self.peer = peer
        self.local = local
    }
}

/// What a worker hands to the log when a session ends.
public struct LogEntry: Sendable, BitwiseCopyable {
    public var record: SessionRecord
    /// PP2_TYPE_UNIQUE_ID of a PROXY header that was believed, any bytes; empty: none came. Apart from the record, which
    /// every open session holds.
    public var proxyUniqueID: InlineBytes<128>

    public init(_ record: SessionRecord, proxyUniqueID: InlineBytes<128> = InlineBytes()) {
        self.record = record
        self.proxyUniqueID = proxyUniqueID
    }
}
