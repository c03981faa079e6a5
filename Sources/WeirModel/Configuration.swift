import WeirNet

/// Everything a running proxy is told: the configuration after a format has been read and before it is compiled.
///
/// A value: building one opens nothing and resolves nothing. References between parts are by name and are checked by
/// `validate()`.
public struct Configuration: Sendable, Equatable {
    /// Listeners at most: 1024, as many as one range of ports in nginx' format can name.
    public static let listenerCountMax = 1024

    /// Where clients connect. Names are unique, so are addresses (port 0 aside).
    public var listeners: [Listener] = []
    /// Named sets of endpoints that routes point at. Names are unique.
    public var clusters: [Cluster] = []
    /// Named pools of local addresses that clusters and forwards connect from. Names are unique.
    public var sources: [SourcePool] = []
    /// How connections leave that go to no cluster; the first that holds decides. Names are unique.
    public var policies: [Policy] = []
    /// Who the labels of policies mean.
    public var clientLabels: [ClientLabels] = []
    /// What the guard lets through although it is not a public address.
    public var destinations = DestinationPolicy()
    public var resolver = ResolverSettings()
    /// nil: one worker per available core.
    public var workerCount: Int?
    /// Which worker gets a connection.
    public var steering = SteeringChoice.hash
    /// How directions that prove to be bulk are moved.
    public var splice = SpliceChoice.auto
    /// The congestion control of every connection, to clients and to endpoints.
    public var congestion = CongestionChoice.system
    /// nil: no admin endpoint.
    public var admin: AdminSettings?
    public var log = LogSettings()
    /// nil: none is asked. For `weir`; the library asks none.
    public var shadow: ShadowSettings?
    /// Routes that may have limits.
    public static let limitedRouteCountMax = 1 << 16

    /// Limits over all listeners.
    public var limits = ProcessLimits()
    /// How long a drain goes on accepting, while readiness is gone already.
    public var drainDelay: Duration = .zero
    /// How long live sessions may go on after a drain has closed the listeners.
    public var drainTimeout: Duration = .seconds(300)
    /// How long a new process may take to serve, in an upgrade of the binary.
    public var upgradeTimeout: Duration = .seconds(30)

    public init() {}

    /// What `weir run` does with no file: SNI egress to port 443 of the name in the hello.
    public static func egressDefault(
        address: SocketAddress = SocketAddress(.v4Loopback, port: 8443),
        admin: SocketAddress? = SocketAddress(.v4Loopback, port: 9901)
    ) -> Configuration {
        var configuration = Configuration()
        var listener = Listener(name: "egress", address: address)
        listener.routes = [
            Route(
                name: "any", match: RouteMatch(serverNames: [.any]), action: .forward(DynamicForward(port: .fixed(443)))
            )
        ]
        configuration.listeners = [listener]
        configuration.admin = admin.map { AdminSettings(address: $0) }
        return configuration
    }
}

/// What decides which worker serves a connection.
public enum SteeringChoice: String, Sendable, Equatable, CaseIterable {
    /// A hash of its addresses and ports.
    case hash
    /// The CPU that received it; every worker is bound to one.
    case cpu
}

/// How bytes are moved in bulk.
public enum SpliceChoice: String, Sendable, Equatable, CaseIterable {
    /// What measures better: `direct`.
    case auto
    /// Pipes, through the ring (IORING_OP_SPLICE), which leaves each splice to a thread of the kernel's. On epoll as `direct`.
    case ring
    /// Pipes, with splice(2) on the worker's thread.
    case direct
    /// No pipes: large private buffers.
    case off
}

/// A congestion control (TCP_CONGESTION).
public enum CongestionChoice: String, Sendable, Equatable, CaseIterable {
    /// That of the machine (net.ipv4.tcp_congestion_control).
    case system
    case cubic
    case bbr
}

/// Which of the resolved addresses that the guard refuses by default are allowed after all.
public struct DestinationPolicy: Sendable, Equatable {
    public struct Exemption: Sendable, Equatable {
        public var block: CIDR
        /// nil: every port.
        public var ports: ClosedRange<UInt16>?

        public init(_ block: CIDR, ports: ClosedRange<UInt16>? = nil) {
            self.block = block
            self.ports = ports
        }
    }

    public var allow: [Exemption] = []
    /// Refused even where public or exempted: deny beats allow.
    public var deny: [Exemption] = []

    public init(allow: [Exemption] = [], deny: [Exemption] = []) {
        self.allow = allow
        self.deny = deny
    }
}

public struct ResolverSettings: Sendable, Equatable {
    /// Empty: the system's (/etc/resolv.conf).
    public var servers: [SocketAddress] = []
    /// Bounds put on the TTL of a positive answer.
    public var ttlMin: Duration = .seconds(1)
    public var ttlMax: Duration = .seconds(300)
    /// How long "no such name" and "no address" are remembered.
    public var negativeTTL: Duration = .seconds(5)
    /// How long past its TTL an answer still serves while no server answers.
    public var staleTTL: Duration = .seconds(60)
    /// Upper bound on one name's resolution, all tries included.
    public var timeout: Duration = .seconds(5)
    public var families: AddressFamilies = .both
    /// Names held at once.
    public var cacheEntryCountMax = 10_000

    public enum AddressFamilies: Sendable, Equatable {
        case both
        case v4Only
        case v6Only
    }

    public init() {}
}

public struct AdminSettings: Sendable, Equatable {
    public var address: SocketAddress
    public init(address: SocketAddress) { self.address = address }
}

public struct LogSettings: Sendable, Equatable {
    public enum Target: Sendable, Equatable {
        case standardOutput
        case file(String)
        case none
    }

    /// Where one JSON line per closed session goes.
    public var access: Target = .standardOutput
    public init() {}
}

/// A configuration that is asked beside this one, and decides about nobody.
public struct ShadowSettings: Sendable, Equatable {
    /// The files and directories that it stands in. Not empty.
    public var files: [String]
    /// Differences that are told of.
    public var samples = RateLimit(10)

    public init(files: [String]) { self.files = files }
}

public struct ProcessLimits: Sendable, Equatable {
    /// Sessions at once over all listeners; nil derives it from descriptors and memory at start.
    public var connections: Int?
    /// Bytes of relay buffers over all workers; nil derives it.
    public var bufferByteCount: Int?
    /// New sessions over all listeners; nil: no limit.
    public var rate: RateLimit?
    public init() {}
}
