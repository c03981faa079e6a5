import WeirNet

/// An address where clients connect, and what is done with them.
public struct Listener: Sendable, Equatable {
    /// Unique; a metric label.
    public var name: String
    /// Port 0 takes a free port, the same for every worker.
    public var address: SocketAddress
    /// An IPv6 address takes IPv4 connections too, where it is `::`: all addresses of the machine.
    public var takesIPv4 = false
    /// Who may connect, by the client's address (the PROXY header's where one is accepted).
    public var clients: ClientPolicy = .privateNetworks
    /// Set: a PROXY header is required from the listed peers and every other peer is refused.
    public var acceptProxy: AcceptProxy?
    /// What the first bytes are read as. Empty: nothing is read, the first route decides (upstream may speak first).
    public var detect: Set<DetectedProtocol> = [.tls]
    public var hello = HelloPolicy()
    public var timeouts = ListenerTimeouts()
    public var limits = ListenerLimits()
    /// Whether one side's end is passed on while the other goes on sending.
    public var halfClose = true
    /// Tried in order of the rules of `RouteMatch`: exact name, longest wildcard, any name, no constraint.
    /// A connection that no route takes is refused.
    public var routes: [Route] = []
    /// Length of the kernel's accept queue.
    public var backlog = 4096

    public init(name: String, address: SocketAddress) {
        self.name = name
        self.address = address
    }

    /// Where it listens: of all addresses those of each family.
    var addresses: [SocketAddress] {
        takesIPv4 && address.ip == .v6Any ? [address, SocketAddress(.v4Any, port: address.port)] : [address]
    }

    /// Listeners of two configurations with the same one have the same socket, whatever they are called.
    package var socketKey: String {
        let place = address.port == 0 ? "\(name) \(address)" : "\(address)"
        return takesIPv4 ? "\(place) and IPv4" : place
    }
}

public enum DetectedProtocol: Sendable, Hashable {
    /// A TLS ClientHello; its server name and ALPN are matched.
    case tls
    /// An HTTP/1 request head; its `Host` is matched.
    case http
}

/// Ordered allow and deny rules; the first that contains the address decides.
public struct ClientPolicy: Sendable, Equatable {
    public struct Rule: Sendable, Equatable {
        public var allow: Bool
        public var block: CIDR

        public init(allow: Bool, block: CIDR) {
            self.allow = allow
            self.block = block
        }
    }

    public var rules: [Rule]
    /// What happens to an address that no rule contains.
    public var otherwiseAllow: Bool

    public init(rules: [Rule], otherwiseAllow: Bool) {
        self.rules = rules
        self.otherwiseAllow = otherwiseAllow
    }

    /// The default: loopback, RFC 1918 and ULA (fc00::/7). An open proxy has to be asked for.
    public static let privateNetworks = ClientPolicy.allowing([
        CIDR(IPAddress(127, 0, 0, 0), prefixLength: 8),
        CIDR(IPAddress(10, 0, 0, 0), prefixLength: 8),
        CIDR(IPAddress(172, 16, 0, 0), prefixLength: 12),
        CIDR(IPAddress(192, 168, 0, 0), prefixLength: 16),
        CIDR(.v6Loopback, prefixLength: 128),
        CIDR(IPAddress(v6High: 0xfc00 << 48, low: 0), prefixLength: 7),
    ])

    /// Everyone.
    public static let everyone = ClientPolicy(rules: [], otherwiseAllow: true)

    /// Only the listed blocks.
    public static func allowing(_ blocks: [CIDR]) -> ClientPolicy {
        ClientPolicy(rules: blocks.map { Rule(allow: true, block: $0) }, otherwiseAllow: false)
    }
}

public struct AcceptProxy: Sendable, Equatable {
    /// Socket addresses whose header is believed; not empty.
    public var from: [CIDR]
    /// The longest v2 header taken, as its length field counts: addresses and TLVs, without the 16 fixed bytes.
    /// 16...65535.
    public var headerByteCountMax = 4096
    /// Takes `TCP6` lines that carry IPv4 text, which nginx sends for mapped addresses.
    public var acceptIPv4InTCP6 = false

    public init(from: [CIDR]) { self.from = from }
}

public struct HelloPolicy: Sendable, Equatable {
    /// The longest ClientHello taken, in handshake bytes: 512...65536.
    public var byteCountMax = 16384
    /// Whether a hello that carries encrypted_client_hello (RFC 9849) is routed by its outer name.
    public var allowECH = true

    public init() {}
}

/// All on the monotonic clock.
public struct ListenerTimeouts: Sendable, Equatable {
    /// From accept to an open upstream: PROXY header, hello, DNS and connect together.
    public var preamble: Duration = .seconds(10)
    /// From accept to the last byte of the PROXY header and the hello.
    public var hello: Duration = .seconds(5)
    /// Without a byte in either direction.
    public var idle: Duration = .seconds(3600)
    /// Without a byte after one side has ended.
    public var halfClose: Duration = .seconds(60)
    /// The whole session; nil: no limit.
    public var session: Duration?

    public init() {}
}

public struct ListenerLimits: Sendable, Equatable {
    /// Sessions at once on this listener; nil: only the process limit.
    public var connections: Int?
    /// Sessions at once per client address (IPv6: per /64); nil: no limit.
    public var connectionsPerClient: Int?
    /// New sessions on this listener; nil: no limit.
    public var rate: RateLimit?
    /// New sessions per client address (IPv6: per /64); nil: no limit.
    public var ratePerClient: RateLimit?

    public init() {}
}
