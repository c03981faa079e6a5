import WeirNet

/// Pods: labels, addresses, and where their containers listen.
extension ManifestLowering {
    func readPods() {
        for manifest in manifests.all("Pod", "") {
            let ports = containerPorts(manifest.fields)
            let spec = manifest.fields.fields("spec")
            let node = spec?.text("nodeName")?.value ?? ""
            let hasNodesAddress = spec?.text("hostNetwork")?.value == "true"
            spec?.passOver()
            let status = manifest.fields.fields("status")
            let addresses = podAddresses(status)
            let isReady = isReady(status) && !manifest.isBeingDeleted
            // Its address is another pod's by now, perhaps.
            let hasEnded = ["Succeeded", "Failed"].contains(status?.text("phase")?.value)
            status?.passOver()
            if hasEnded { continue }
            if addresses.isEmpty {
                findings.notice(
                    manifest.position,
                    "\(manifest.title) has no address in its status (podIP), so nothing leads to it or comes from it")
                continue
            }
            pods.append(
                Pod(
                    name: manifest.name, namespace: manifest.namespace, labels: manifest.labels, addresses: addresses,
                    ports: ports, node: node, hasNodesAddress: hasNodesAddress, isReady: isReady))
        }
    }

    private func podAddresses(_ status: ManifestFields?) -> [IPAddress] {
        guard let status else { return [] }
        var addresses = status.list("podIPs").compactMap { $0.address("ip") }
        if let address = status.address("podIP"), !addresses.contains(address) { addresses.insert(address, at: 0) }
        return addresses
    }

    /// A pod of which nothing is said is taken to be ready: manifests written by hand have no conditions.
    private func isReady(_ status: ManifestFields?) -> Bool {
        guard let status else { return true }
        let ready = status.list("conditions").first { $0.text("type")?.value == "Ready" }
        return ready?.text("status")?.value ?? "True" == "True"
    }

    /// By name, of every container; those without a name are asked for by number.
    private func containerPorts(_ fields: ManifestFields) -> [String: UInt16] {
        guard let spec = fields.fields("spec") else { return [:] }
        var ports: [String: UInt16] = [:]
        // A container that starts first may go on running beside the others.
        for container in spec.list("containers") + spec.list("initContainers") {
            for entry in container.list("ports") {
                guard let name = entry.text("name")?.value, let port = entry.port("containerPort") else { continue }
                if ports[name] == nil { ports[name] = port }
            }
        }
        spec.passOver()
        return ports
    }
}
