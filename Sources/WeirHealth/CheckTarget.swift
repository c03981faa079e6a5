import WeirIO
import WeirModel
import WeirNet
import WeirUpstream

/// One endpoint that is to be checked, with all that a check of it needs.
package struct CheckTarget: Sendable {
    /// Chosen by whoever hands the targets in; reports name a target by it.
    package typealias Place = Int32

    package var place: Place
    /// The name of its cluster and its own description: what it is, from one configuration to the next.
    package var cluster: String
    package var endpoint: String
    package var policy: HealthCheck
    package var host: Endpoint.Host
    /// Where checks connect.
    package var port: UInt16
    /// The guard lets its name point into private networks.
    package var privateNames: Bool
    package var sourceV4: IPAddress?
    package var sourceV6: IPAddress?
    package var outlet = Outlet.any
    /// The version of the PROXY header that the cluster sends; nil: it sends none.
    package var sendProxy: SendProxy.Version?
    /// SNI of `tls`, host of `http`; `.none` where there is none.
    package var serverName: ServerName

    /// `endpoint` of `cluster`, as `policy` says; `pool`: the cluster's, where it has one. The first address of each family is
    /// checked from.
    package init(
        place: Place, _ endpoint: Endpoint, of cluster: Cluster, _ policy: HealthCheck, pool: SourcePool? = nil,
        interfaceIndex: (String) -> Int32? = { _ in nil }
    ) {
        self.place = place
        self.cluster = cluster.name
        self.endpoint = endpoint.description
        self.policy = policy
        host = endpoint.host
        privateNames = cluster.privateNames
        port = policy.port ?? endpoint.port
        let sources = pool?.addresses ?? cluster.upstream.sourceAddresses
        if let pool {
            outlet = Outlet(interface: pool.interface.map { interfaceIndex($0) ?? -1 } ?? 0, mark: pool.mark)
        }
        sourceV4 = sources.first { $0.family == .v4 }
        sourceV6 = sources.first { $0.family == .v6 }
        sendProxy = cluster.upstream.sendProxy?.version
        if let name = policy.serverName {
            serverName = name
        } else if case .name(let name) = endpoint.host {
            serverName = name
        } else {
            serverName = .none
        }
    }

    /// All that `configuration` wants checked, in its order; endpoints that are down are not. `place` is given the index of
    /// the cluster and of the endpoint in it.
    package static func all(
        of configuration: Configuration, interfaceIndex: (String) -> Int32? = { _ in nil },
        place: (_ cluster: Int, _ endpoint: Int) -> Place
    ) -> [CheckTarget] {
        var targets: [CheckTarget] = []
        for (index, cluster) in configuration.clusters.enumerated() {
            guard let policy = cluster.healthCheck else { continue }
            let pool = configuration.sources.first { $0.name == cluster.upstream.source }
            for (position, endpoint) in cluster.endpoints.enumerated() where !endpoint.isDown {
                targets.append(
                    CheckTarget(
                        place: place(index, position), endpoint, of: cluster, policy, pool: pool,
                        interfaceIndex: interfaceIndex))
            }
        }
        return targets
    }
}
