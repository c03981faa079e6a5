import WeirNet

/// Which connections, and where they go.
public struct Route: Sendable, Equatable {
    /// Unique within its listener; a metric label.
    public var name: String
    public var match: RouteMatch
    public var action: RouteAction

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
}

public enum RouteAction: Sendable, Equatable {
    /// To an endpoint of the named cluster.
    case cluster(String)
    /// To the server name itself, resolved; every address is checked by the guard. A connection without a name is
    /// refused.
    case forward(DynamicForward)
    case deny(Denial)
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
    /// nil: no PROXY header is sent.
    public var sendProxy: SendProxy?
    /// Local addresses to connect from, at most one per family; families that do not fit are skipped.
    public var sourceAddresses: [IPAddress] = []

    public init() {}
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
