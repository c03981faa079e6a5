import WeirNet

/// A named set of endpoints that serve the same thing.
public struct Cluster: Sendable, Equatable {
    /// Unique; a metric label.
    public var name: String
    public var endpoints: [Endpoint]
    public var balance: Balance = .roundRobin
    public var upstream = UpstreamOptions()
    /// Percent. A group of priority with `h` percent of its endpoints good takes `h` times this of the connections, and what
    /// is left over goes to the next group; 140 is Envoy's default. nil: a group serves all or, where none of it is good, none.
    public var overprovisioningFactor: Int?
    /// Of each group of priority, so many good endpoints serve at most, the first as written; the others stand by. nil: all.
    public var activeCountMax: Int?
    /// An endpoint that is new or good again gets its share of connections over so long; nil: at once.
    public var slowStart: Duration?
    /// nil: only `maxFails` of the endpoints holds, which does not where this is given.
    public var outlierDetection: OutlierDetection?
    public var limits = ClusterLimits()
    /// Sessions are ended after so long, give or take a tenth, so that clients come anew and are balanced anew; nil: never.
    public var connectionAgeMax: Duration?
    /// What becomes of an endpoint's live sessions when it is ejected or its checks fail.
    public var onUnhealthy: LiveSessions = .keep
    /// The same when a reload leaves the endpoint, or its cluster, out.
    public var onRemoved: LiveSessions = .keep
    /// nil: nothing but the sessions' own connects tells how its endpoints are.
    public var healthCheck: HealthCheck?
    /// What the names of its endpoints resolve to may be private (RFC 1918, ULA) or shared (100.64.0.0/10) without being
    /// in `Configuration.destinations`: for names of this cluster's own network. Nothing else that the guard refuses.
    public var privateNames = false

    public init(name: String, endpoints: [Endpoint]) {
        self.name = name
        self.endpoints = endpoints
    }

    public enum Balance: Sendable, Equatable, BitwiseCopyable {
        /// Smooth weighted round robin, per worker.
        case roundRobin
        /// The client's address decides, by Maglev's table: a client keeps its endpoint, and when one of n leaves, at most 1/n and
        /// a hundredth of the clients move.
        case sourceHash
        /// The endpoint with the fewest sessions for its weight, over all workers. Of more than 32 endpoints, the best of 16
        /// that are drawn.
        case leastConnections
        /// The better of two that are drawn.
        case random
    }
}

/// What becomes of live sessions when what they go through is no longer to be used.
public enum LiveSessions: Sendable, Equatable {
    /// They go on to their own end.
    case keep
    /// They go on for at most so long, above 0, and are reset then.
    case drain(Duration)
    /// They are reset at once.
    case close
}

/// Circuit breakers: what a cluster takes over all workers. Whoever comes beyond is refused at once.
public struct ClusterLimits: Sendable, Equatable {
    /// Sessions at once, those that are still connecting included; nil: no limit.
    public var connections: Int?
    /// Of them, those that are still connecting; nil: no limit.
    public var pending: Int?
    /// New sessions; nil: no limit.
    public var rate: RateLimit?

    public init() {}
}

public struct Endpoint: Sendable, Equatable {
    public enum Host: Sendable, Hashable {
        /// Written out in the configuration, so exempt from the guard.
        case address(IPAddress)
        /// Resolved when used; each address is checked by the guard.
        case name(ServerName)
    }

    public var host: Host
    public var port: UInt16
    /// Share of new connections relative to its peers: 1...65535.
    public var weight = 1
    /// 0 first; a higher group serves only while no endpoint of a lower one can be tried (nginx's `backup` is 1).
    public var priority = 0
    /// Never chosen (nginx's `down`).
    public var isDown = false
    /// Failed connects within `failTimeout` after which the endpoint rests for `failTimeout`; 0: never
    /// (nginx's `max_fails`, `fail_timeout`).
    public var maxFails = 1
    public var failTimeout: Duration = .seconds(10)
    /// Sessions at once over all workers, those that are still connecting included (nginx's `max_conns`); nil: no limit.
    public var connectionsMax: Int?

    public init(host: Host, port: UInt16) {
        self.host = host
        self.port = port
    }

    public init(_ address: SocketAddress) { self.init(host: .address(address.ip), port: address.port) }
}

extension Endpoint: CustomStringConvertible {
    /// `host:port` as a configuration would write it; the metric label.
    public var description: String {
        switch host {
        case .address(let ip): SocketAddress(ip, port: port).description
        case .name(let name): "\(name):\(port)"
        }
    }
}
