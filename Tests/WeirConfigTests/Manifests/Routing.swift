import Testing
import WeirModel
import WeirNet

@testable import WeirConfig

/// Every route that a text leads to: `port-443 Ingress/a/b/host [names] [clients] -> where`.
func routing(_ text: String) throws -> [String] {
    let result = reading(text)
    let configuration = try #require(result.configuration, "\(result.diagnostics.map(\.description))")
    return configuration.listeners.flatMap { listener in
        listener.routes.map { route in
            let names = route.match.serverNames.map(\.text).joined(separator: " ")
            let clients = route.match.clients.map(\.description).joined(separator: " ")
            let constraints = [names, clients].filter { !$0.isEmpty }.map { " [\($0)]" }.joined()
            return "\(listener.name) \(route.name)\(constraints) -> \(route.action.text)"
        }
    }
}

extension RouteAction {
    fileprivate var text: String {
        switch self {
        case .cluster(let name): name
        case .split(let shares): shares.map { "\($0.weight) \($0.cluster)" }.joined(separator: ", ")
        case .deny(let denial): "\(denial)"
        default: "elsewhere"
        }
    }
}

/// A Service in namespace `a` with the port given and one endpoint, which serves it on 8443.
func service(_ name: String, port: String = "{ name: https, port: 443 }", namespace: String = "a") -> String {
    """
    ---
    apiVersion: v1
    kind: Service
    metadata: { name: \(name), namespace: \(namespace) }
    spec: { clusterIP: 10.96.0.1, ports: [ \(port) ] }
    ---
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: { name: \(name)-1, namespace: \(namespace), labels: { kubernetes.io/service-name: \(name) } }
    addressType: IPv4
    ports: [ { name: https, port: 8443 } ]
    endpoints: [ { addresses: [10.0.0.1] } ]

    """
}
