import WeirModel
import WeirNet

/// Endpoints: the older form of EndpointSlices, one object for each service and of its name.
extension ManifestLowering {
    /// By namespace and name of the service.
    func readEndpoints(_ workloads: WorkloadIndex) -> [String: ServiceMembers] {
        var services: [String: ServiceMembers] = [:]
        for manifest in manifests.all("Endpoints", "") {
            var members = ServiceMembers(position: manifest.position)
            for subset in manifest.fields.list("subsets") {
                var ports: [String: UInt16] = [:]
                for entry in subset.list("ports") {
                    entry.passOver("appProtocol", "protocol")
                    if let port = entry.port("port") { ports[entry.text("name")?.value ?? ""] = port }
                }
                for (key, isReady) in [("addresses", true), ("notReadyAddresses", false)] {
                    for entry in subset.list(key) {
                        guard var member = member(entry, manifest.namespace, workloads) else { continue }
                        member.ports = ports
                        member.isReady = isReady
                        members.add(ServiceMembers.Listed(member: member))
                    }
                }
            }
            services[manifest.path] = members
        }
        return services
    }

    private func member(
        _ entry: ManifestFields, _ namespace: String, _ workloads: WorkloadIndex
    ) -> Service.Member? {
        entry.passOver("hostname")
        let node = entry.text("nodeName")?.value
        let target = entry.fields("targetRef")
        guard let address = entry.address("ip") else {
            target?.passOver()
            return nil
        }
        let pod = workloads.pod(target, namespace, .address(address))
        var member = Service.Member(
            host: .address(address), labels: workloads.labels(pod?.labels ?? [:], node: node ?? pod?.node ?? ""))
        member.servesItsPortsOnly = true
        return member
    }
}
