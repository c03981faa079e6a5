import WeirModel
import WeirNet

/// EndpointSlices: what a service's endpoints are, where they are, and whether they are ready.
extension ManifestLowering {
    private static let serviceLabel = "kubernetes.io/service-name"

    /// By namespace and name of the service.
    func readEndpointSlices(_ workloads: WorkloadIndex) -> [String: ServiceMembers] {
        var services: [String: ServiceMembers] = [:]
        for manifest in manifests.all("EndpointSlice", "discovery.k8s.io") {
            guard let name = manifest.labels[Self.serviceLabel] else {
                manifest.unsupported("it belongs to no service: it has no label \(Self.serviceLabel)")
                continue
            }
            let service = "\(manifest.namespace)/\(name)"
            var members = services[service] ?? ServiceMembers(position: manifest.position)
            readEndpointSlice(manifest, workloads, into: &members)
            services[service] = members
        }
        return services
    }

    private func readEndpointSlice(
        _ manifest: Manifest, _ workloads: WorkloadIndex, into members: inout ServiceMembers
    ) {
        let fields = manifest.fields
        let type = fields.text("addressType")
        if let type, !["IPv4", "IPv6", "FQDN"].contains(type.value) {
            fields.error(
                type.position, "addressType", "expected IPv4, IPv6 or FQDN, found \(quoted(type.value))")
        }
        var ports: [String: UInt16] = [:]
        for entry in fields.list("ports") {
            entry.passOver("appProtocol", "protocol")
            if let port = entry.port("port") { ports[entry.text("name")?.value ?? ""] = port }
        }
        for entry in fields.list("endpoints") {
            // `hints` are for proxies of one zone, and the others say what the node and the address say.
            entry.passOver("hints", "hostname", "deprecatedTopology")
            let conditions = entry.fields("conditions")
            let isReady = conditions?.boolean("ready") ?? true
            let isServing = conditions?.boolean("serving") ?? isReady
            let isTerminating = conditions?.boolean("terminating") ?? false
            let zone = entry.text("zone")?.value
            let node = entry.text("nodeName")?.value
            let target = entry.fields("targetRef")
            // All addresses of an entry lead to the same pod.
            guard let host = host(entry, isName: type?.value == "FQDN") else {
                target?.passOver()
                continue
            }
            let pod = workloads.pod(target, manifest.namespace, host)
            var member = Service.Member(
                host: host, ports: ports,
                labels: workloads.labels(pod?.labels ?? [:], node: node ?? pod?.node ?? "", zone: zone))
            member.servesItsPortsOnly = true
            member.isReady = isReady
            members.add(ServiceMembers.Listed(member: member, isServingToTheEnd: isServing && isTerminating))
        }
    }

    private func host(_ entry: ManifestFields, isName: Bool) -> Endpoint.Host? {
        guard isName else { return entry.addresses("addresses").first.map { .address($0) } }
        guard let text = entry.texts("addresses").first else { return nil }
        guard let name = try? ServerName(text.value) else {
            entry.error(text.position, "addresses", "\(quoted(text.value)) is no host name")
            return nil
        }
        return .name(name)
    }
}
