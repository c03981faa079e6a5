import WeirNet

/// What is left of a session when it has closed: the source of its access log line. A plain value, so that a worker
/// hands it over by copying.
package struct SessionRecord: Sendable, BitwiseCopyable {
    /// What the first bytes were read as.
    package enum DetectedProtocol: UInt8, Sendable, BitwiseCopyable {
        case none
        case tls
        case http
    }

    package struct Flags: OptionSet, Sendable, BitwiseCopyable {
        package let rawValue: UInt16
        @inlinable
        package init(rawValue: UInt16) { self.rawValue = rawValue }

        /// The client's address came from a PROXY header.
        @inlinable package static var proxyAccepted: Flags { Flags(rawValue: 1 << 0) }
        /// The hello carried encrypted_client_hello.
        @inlinable package static var echSeen: Flags { Flags(rawValue: 1 << 1) }
        /// One side ended while the other went on sending.
        @inlinable package static var halfClosed: Flags { Flags(rawValue: 1 << 2) }
        /// The address came out of the DNS cache after its TTL.
        @inlinable package static var staleAnswer: Flags { Flags(rawValue: 1 << 3) }
        /// The session was open when a drain ran out of time.
        @inlinable package static var drained: Flags { Flags(rawValue: 1 << 4) }
    }

    /// Unique in this process; written as 16 hexadecimal digits.
    package var id: UInt64
    package var worker: UInt16 = 0
    package var detected: DetectedProtocol = .none
    package var flags: Flags = []
    /// Connects tried.
    package var attempts: UInt8 = 0
    /// 200, 400, 403, 500, 502 or 503 (UP-11).
    package var status: UInt16 = 0
    /// Why it closed: a code of the registry's `reasonLabels`.
    package var reason: UInt16 = 0
    /// The errno behind the reason; 0: none.
    package var code: Int32 = 0
    /// The guard's rule that refused the last address: a code of `guardRuleLabels`; -1: none.
    package var guardRule: Int16 = -1

    /// Bases that the registry handed out; -1: none.
    package var listener: Int32 = -1
    package var route: Int32 = -1
    package var cluster: Int32 = -1
    package var endpoint: Int32 = -1

    /// The client: the PROXY header's where one was believed, else `peer`.
    package var client: SocketAddress
    /// The other end of the downstream socket.
    package var peer: SocketAddress
    /// Where the client connected to.
    package var local: SocketAddress
    /// The last address tried.
    package var upstream: SocketAddress?
    /// Our end of the upstream connection.
    package var upstreamLocal: SocketAddress?
    package var serverName: ServerName = .none

    /// Wall clock, in nanoseconds since 1970 (UTC).
    package var acceptedAt: UInt64 = 0
    /// Durations in nanoseconds. From accept to the end of the preamble; nil: it did not end.
    package var preambleTime: UInt64?
    /// Waiting for DNS; nil: nothing was resolved.
    package var resolveTime: UInt64?
    /// The successful connect; nil: there was none.
    package var connectTime: UInt64?
    /// From accept to close.
    package var totalTime: UInt64 = 0

    /// Bytes read from the client, the preamble included and a PROXY header not.
    package var bytesFromClient: UInt64 = 0
    /// Bytes read from the upstream.
    package var bytesFromUpstream: UInt64 = 0

    package init(id: UInt64, client: SocketAddress, peer: SocketAddress, local: SocketAddress) {
        self.id = id
        self.client = client
        self.peer = peer
        self.local = local
    }
}
