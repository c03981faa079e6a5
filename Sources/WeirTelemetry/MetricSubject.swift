/// What a range of cells counts for. The labels are the configuration's names, never the wire's.
package enum MetricSubject: Hashable, Sendable {
    case listener(String)
    case route(listener: String, name: String)
    case cluster(String)
    /// `description` as `Endpoint.description` gives it.
    case endpoint(cluster: String, description: String)
    case policy(String)

    enum Kind: Int, CaseIterable {
        case listener
        case route
        case cluster
        case endpoint
        case policy

        /// The subject that shares one range among all that found no cells left.
        var overflow: MetricSubject {
            switch self {
            case .listener: .listener("other")
            case .route: .route(listener: "other", name: "other")
            case .cluster: .cluster("other")
            case .endpoint: .endpoint(cluster: "other", description: "other")
            case .policy: .policy("other")
            }
        }
    }

    var kind: Kind {
        switch self {
        case .listener: .listener
        case .route: .route
        case .cluster: .cluster
        case .endpoint: .endpoint
        case .policy: .policy
        }
    }

    /// The name that an access log line gives; for a route or endpoint without the part it belongs to.
    package var name: String {
        switch self {
        case .listener(let name), .route(_, let name), .cluster(let name), .endpoint(_, let name), .policy(let name):
            name
        }
    }

    var labels: [(name: String, value: String)] {
        switch self {
        case .listener(let name): [("listener", name)]
        case .route(let listener, let name): [("listener", listener), ("route", name)]
        case .cluster(let name): [("cluster", name)]
        case .endpoint(let cluster, let description): [("cluster", cluster), ("endpoint", description)]
        case .policy(let name): [("policy", name)]
        }
    }
}
