import WeirModel
import WeirNet

/// The `manifests` section: what Kubernetes objects leave open.
extension NativeReader {
    func readManifests(_ node: YAMLNode) {
        guard let section = section(node, NativeSchema.manifests) else { return }
        if let node = section["address"] {
            if case .scalar(let text, _) = node.content, let address = IPAddress(text) {
                draft.manifestSettings.address = address
            } else {
                expected("an IP address without port, such as 10.0.0.1", node)
            }
        }
        if let clients = section["clients"].flatMap(clientPolicy) { draft.manifestSettings.clients = clients }
        if let node = section["workload_labels"] { draft.manifestSettings.workloadLabels = labels(node) }
        if let node = section["cluster_domain"], let name = text(node, "a domain such as cluster.local") {
            if let domain = try? ServerName(name) {
                draft.manifestSettings.clusterDomain = domain.description
            } else {
                expected("a domain such as cluster.local", node)
            }
        }
        if let node = section["node"] { draft.manifestSettings.node = text(node, "the name of a node") }
        if let value = section["gateway_port"].flatMap({ integer($0, 1...65535) }) {
            draft.manifestSettings.gatewayPort = UInt16(value)
        }
    }
}
