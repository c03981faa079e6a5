import WeirNet

/// Which connections, and where they go.
public struct Route: Sendable, Equatable {
    /// Unique within its listener; a metric label.
    public var name: String
    public var match: RouteMatch
    public var action: RouteAction
    public var limits = RouteLimits()
    /// What becomes of its live sessions when a reload leaves it out.
    public var onRemoved: LiveSessions = .keep

    public init(name: String, match: RouteMatch = RouteMatch(), action: RouteAction) {
        self.name = name
        self.match = match
        self.action = action
    }
}

/// What a connection must be for a route to take it: every constraint that is not empty holds.
///
/// Precedence between routes: an exact name before the longest wildcard, before `.any`, before no name constraint;
/// among equals the one written first.
public struct RouteMatch: Sendable, Equatable {
    /// Empty: also connections without a server name, and ones that are not TLS or HTTP at all.
    public var serverNames: [ServerNamePattern]
    /// The client's address (the PROXY header's where one is accepted).
    public var clients: [CIDR]
    /// The hello offers one of these protocols (RFC 7301), compared byte for byte; each is 1...255 bytes.
    /// `acme-tls/1` holds only where it is all that is offered, as RFC 8737 §3 demands of a validation.
    public var alpn: [String]
    /// The address that the client asked for: that of the PROXY header where one is accepted and names addresses, else
    /// that of the socket (SO_ORIGINAL_DST where a route of the listener goes to the original destination).
    public var destinations: [CIDR] = []
    /// Addresses in `destinations` that are not meant.
    public var exceptDestinations: [CIDR] = []
    /// The port that the client asked for, from where the address is; from 1 on.
    public var destinationPorts: [ClosedRange<UInt16>] = []

    public init(serverNames: [ServerNamePattern] = [], clients: [CIDR] = [], alpn: [String] = []) {
        self.serverNames = serverNames
        self.clients = clients
        self.alpn = alpn
    }
}

public enum ServerNamePattern: Sendable, Hashable {
    case exact(ServerName)
    /// `*.suffix`: one or more labels before the suffix, never the suffix itself. Holds the suffix without `*.`.
    case wildcard(ServerName)
    /// `*`: every connection that has a name.
    case any

    /// Reads `name`, `*.suffix` or `*`. (nginx's `.suffix`, which means both, is its reader's to expand.)
    public init(_ text: String) throws(ServerName.Refusal) {
        if text == "*" {
            self = .any
        } else if text.hasPrefix("*.") {
            self = .wildcard(try ServerName(String(text.dropFirst(2))))
        } else {
            self = .exact(try ServerName(text))
        }
    }

    /// As a configuration writes it; `init(_:)` reads it back.
    package var text: String {
        switch self {
        case .exact(let name): name.description
        case .wildcard(let suffix): "*.\(suffix)"
        case .any: "*"
        }
    }
}

public enum RouteAction: Sendable, Equatable {
    /// To an endpoint of the named cluster.
    case cluster(String)
    /// To an endpoint of one of these clusters, which is drawn by weight, once for a session. Not empty, nor are all
    /// weights 0.
    case split([ClusterShare])
    /// To the server name itself, resolved; every address is checked by the guard. A connection without a name is
    /// refused.
    case forward(DynamicForward)
    /// To the destination that the PROXY header names, which is checked by the guard. A connection whose header names none is
    /// refused.
    case proxyDestination(UpstreamOptions)
    /// To the destination that the client asked for before it was redirected to us (as `RouteMatch.destinations` has it),
    /// which is checked by the guard. A connection that nobody redirected asks for the listener itself, and is refused.
    case originalDestination(UpstreamOptions)
    case deny(Denial)
}

/// A cluster's part of the sessions of a route.
public struct ClusterShare: Sendable, Equatable {
    public static let weightRange = 0...1_000_000

    public var cluster: String
    /// Relative to the other shares: 0...1,000,000; 0: none.
    public var weight: Int

    public init(cluster: String, weight: Int) {
        self.cluster = cluster
        self.weight = weight
    }
}

/// What a route takes over all workers. Whoever comes beyond is refused.
public struct RouteLimits: Sendable, Equatable {
    /// Sessions at once; nil: no limit.
    public var connections: Int?
    /// Sessions at once per client address (IPv6: per /64): 1...1,000,000; nil: no limit.
    public var connectionsPerClient: Int?
    /// New sessions; nil: no limit.
    public var rate: RateLimit?
    /// New sessions per client address (IPv6: per /64); nil: no limit.
    public var ratePerClient: RateLimit?

    public init() {}

    package var isAny: Bool { self != RouteLimits() }
}

public struct DynamicForward: Sendable, Equatable {
    public enum Port: Sendable, Equatable {
        case fixed(UInt16)
        /// The port the client connected to (nginx's `$server_port`).
        case listener
    }

    public var port: Port
    public var upstream = UpstreamOptions()

    public init(port: Port, upstream: UpstreamOptions = UpstreamOptions()) {
        self.port = port
        self.upstream = upstream
    }
}

/// How a refused client is told.
public enum Denial: UInt8, Sendable, BitwiseCopyable {
    /// TLS alert 112 (RFC 6066 §3); on HTTP 421; else as `close`.
    case unrecognizedName
    /// TLS alert 49; on HTTP 403; else as `close`.
    case accessDenied
    /// RST.
    case reset
    /// FIN.
    case close
}

/// How a connection to an upstream is made.
public struct UpstreamOptions: Sendable, Equatable {
    /// One attempt.
    public var connectTimeout: Duration = .seconds(2)
    /// All attempts together; also bounded by the listener's preamble timeout.
    public var connectTotal: Duration = .seconds(5)
    /// Addresses and endpoints tried at most: 1...8.
    public var attempts = 3
    /// A connection that the endpoint ends before its first byte, while it has had nothing but what was held back, goes on
    /// to the next address or endpoint, like a connect that failed.
    public var retriesEarlyClose = true
    /// nil: no PROXY header is sent.
    public var sendProxy: SendProxy?
    /// The pool of `Configuration.sources` to connect from.
    public var source: String?
    /// A pool of its own instead: local addresses to connect from, at most 64. Families that do not fit are skipped.
    public var sourceAddresses: [IPAddress] = []
    /// nil: the kernel asks nobody whether he is still there.
    public var keepalive: TCPKeepalive?

    public init() {}
}

/// Whether the other end of a quiet connection is still there, the kernel asks (SO_KEEPALIVE).
public struct TCPKeepalive: Sendable, Equatable {
    public static let timeRange: ClosedRange<Duration> = .seconds(1) ... .seconds(32767)
    public static let probesRange = 1...127

    /// Quiet for so long before the first probe (TCP_KEEPIDLE): 1 s...32,767 s, in whole seconds, rounded up.
    public var idle: Duration
    /// Between two probes (TCP_KEEPINTVL): as `idle`.
    public var interval: Duration
    /// Probes without an answer after which the connection is over (TCP_KEEPCNT): 1...127.
    public var probes: Int

    /// What is not said is as Linux has it.
    public init(idle: Duration = .seconds(7200), interval: Duration = .seconds(75), probes: Int = 9) {
        self.idle = idle
        self.interval = interval
        self.probes = probes
    }
}

public struct SendProxy: Sendable, Equatable {
    public enum Version: UInt8, Sendable, BitwiseCopyable {
        case v1
        case v2
    }

    /// What of a PROXY header that the client sent may be sent on.
    public enum ForwardedTLV: Sendable, Hashable, CaseIterable {
        /// PP2_TYPE_AUTHORITY.
        case authority
        /// PP2_TYPE_ALPN.
        case alpn
        /// PP2_TYPE_UNIQUE_ID.
        case uniqueID
    }

    /// A TLV with the same text on every connection.
    public struct CustomTLV: Sendable, Equatable {
        public static let typeRange: ClosedRange<UInt8> = 0xe0...0xef
        public static let byteCountMax = 64

        /// PP2_TYPE_MIN_CUSTOM...PP2_TYPE_MAX_CUSTOM: 0xE0...0xEF.
        public var type: UInt8
        /// 1...64 bytes of UTF-8.
        public var text: String

        public init(_ type: UInt8, _ text: String) {
            self.type = type
            self.text = text
        }
    }

    public static let customCountMax = 4
    public static let padToMax = 512

    public var version: Version
    /// v2: PP2_TYPE_AUTHORITY with the server name as the client sent it.
    public var authority = false
    /// v2: PP2_TYPE_CRC32C.
    public var crc32c = false
    /// v2: PP2_TYPE_UNIQUE_ID with the session's id.
    public var uniqueID = false
    /// v2: PP2_TYPE_ALPN with the first protocol that the hello offers.
    public var alpn = false
    /// v2: TLVs of the header that a trusted peer sent. Where there is one, it is sent instead of ours of that type.
    public var forwardedTLVs: Set<ForwardedTLV> = []
    /// v2: at most 4, each type once.
    public var custom: [CustomTLV] = []
    /// v2: the header has at least so many bytes, filled up with PP2_TYPE_NOOP (three bytes or more): 0...512.
    public var padTo = 0

    public init(_ version: Version) { self.version = version }

    /// Whether anything is asked for that only v2 has.
    public var needsV2: Bool { self != SendProxy(.v1) && self != SendProxy(.v2) }
}
