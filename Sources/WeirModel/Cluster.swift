import WeirNet

/// A named set of endpoints that serve the same thing.
public struct Cluster: Sendable, Equatable {
    /// Unique; a metric label.
    public var name: String
    public var endpoints: [Endpoint]
    public var balance: Balance = .roundRobin
    public var upstream = UpstreamOptions()

    public init(name: String, endpoints: [Endpoint]) {
        self.name = name
        self.endpoints = endpoints
    }

    public enum Balance: Sendable, Equatable {
        /// Smooth weighted round robin, per worker.
        case roundRobin
        /// The client's address decides, by Maglev's table: a client keeps its endpoint, and when one of n leaves, at most 1/n and
        /// a hundredth of the clients move.
        case sourceHash
    }
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
