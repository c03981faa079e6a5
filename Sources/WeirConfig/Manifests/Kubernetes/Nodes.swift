import WeirNet

/// Nodes: labels and addresses.
extension ManifestLowering {
    func readNodes() {
        for manifest in manifests.all("Node", "") {
            manifest.fields.passOver("spec")
            var internals: [IPAddress] = []
            var others: [IPAddress] = []
            let status = manifest.fields.fields("status")
            for entry in status?.list("addresses") ?? [] {
                let type = entry.text("type")?.value ?? ""
                guard type == "InternalIP" || type == "ExternalIP", let address = entry.address("address") else {
                    continue
                }
                if type == "InternalIP" { internals.append(address) } else { others.append(address) }
            }
            status?.passOver()
            nodes.append(Node(name: manifest.name, labels: manifest.labels, addresses: internals + others))
        }
    }
}
