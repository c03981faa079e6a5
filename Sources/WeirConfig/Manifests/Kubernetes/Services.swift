import WeirModel
import WeirNet

/// Services of Kubernetes: their ports, and who serves them as EndpointSlices, Endpoints or Pods say.
extension ManifestLowering {
    /// A port as the Service has it: also where a member is to be found that no other document gives ports for.
    private struct ServicePort {
        var port: Service.Port
        var targetNumber: UInt16?
        var targetName: String?
    }

    func readServices() {
        let workloads = WorkloadIndex(pods, nodes)
        let slices = readEndpointSlices(workloads)
        let endpoints = readEndpoints(workloads)
        var described: Set<String> = []
        for manifest in manifests.all("Service", "") {
            described.insert(manifest.path)
            readService(manifest, slices[manifest.path], endpoints[manifest.path], workloads)
        }
        for (service, members) in endpoints.merging(slices, uniquingKeysWith: { $1 })
        where !described.contains(service) {
            findings.notice(
                members.position, "there is no document for service \(service), so nothing leads to these endpoints")
        }
    }

    private func readService(
        _ manifest: Manifest, _ slices: ServiceMembers?, _ endpoints: ServiceMembers?, _ workloads: WorkloadIndex
    ) {
        guard let spec = manifest.fields.fields("spec") else { return }
        passOverWhatIsForOthers(spec)
        let all = servicePorts(spec)
        // A number that both have, as DNS does, is that of what is carried.
        let isCarried = { (port: ServicePort) in !Service.uncarried.contains(port.port.transport) }
        let ports = all.filter(isCarried) + all.filter { !isCarried($0) }
        let (virtualAddress, isHeadless) = ownAddress(spec)
        var service = Service(
            host: "\(manifest.name).\(manifest.namespace).svc.\(settings.clusterDomain)".lowercased(),
            namespace: manifest.namespace, resolution: .fixed, ports: ports.map(\.port), isInternal: true,
            position: manifest.position)
        service.virtualAddress = virtualAddress
        service.isHeadless = isHeadless
        let selector = spec.labels("selector")
        let takesUnready = spec.boolean("publishNotReadyAddresses") ?? false
        let family = spec.texts("ipFamilies").first?.value
        if spec.text("type")?.value == "ExternalName" {
            readExternalName(spec, into: &service)
        } else if let listed = slices ?? endpoints {
            service.members = listed.members(family: family, takesUnready: takesUnready)
        } else if !selector.isEmpty {
            service.members = members(
                selecting: selector, manifest.namespace, workloads, ports, family, takesUnready)
        }
        if service.members.isEmpty, virtualAddress == nil { service.resolution = .names }
        if isHeadless, service.resolution == .names { setTargets(ports, of: &service) }
        readAffinity(spec, into: &service)
        catalogue.add(service)
    }

    private func passOverWhatIsForOthers(_ spec: ManifestFields) {
        // They are about how the cluster assigns addresses, and about load balancers and nodes in front of it.
        spec.passOver(
            "ipFamilyPolicy", "externalIPs", "loadBalancerIP", "loadBalancerClass", "loadBalancerSourceRanges",
            "allocateLoadBalancerNodePorts", "healthCheckNodePort", "externalTrafficPolicy")
        if let policy = spec.text("internalTrafficPolicy"), policy.value != "Cluster" {
            spec.unsupported("internalTrafficPolicy", "every endpoint is used, whichever node it is on")
        }
        spec.unsupported("trafficDistribution", "endpoints of every zone are used alike")
    }

    private func servicePorts(_ spec: ManifestFields) -> [ServicePort] {
        spec.list("ports").compactMap { entry in
            entry.passOver("nodePort")
            guard let number = entry.port("port") else {
                if !entry.has("port") { entry.error(entry.position, "port", "is missing") }
                return nil
            }
            let name = entry.text("name")?.value ?? ""
            let transport = transport(entry, name)
            var port = ServicePort(
                port: Service.Port(number: number, name: name, transport: transport, target: nil))
            if let target = entry.text("targetPort"), target.value != "0" {
                port.port.targetText = target.value
                if let number = decimal(target.value) {
                    if (1...65535).contains(number) {
                        port.targetNumber = UInt16(number)
                    } else {
                        entry.error(target.position, "targetPort", "expected a port 1...65535 or the name of one")
                    }
                } else {
                    port.targetName = target.value
                }
            }
            return port
        }
    }

    /// What is spoken there, as `appProtocol` or the first word of the port's name says; else `TCP` or `UDP`.
    private func transport(_ entry: ManifestFields, _ name: String) -> String {
        let below = entry.text("protocol")?.value.uppercased() ?? "TCP"
        let spoken = entry.text("appProtocol")?.value ?? String(name.prefix { $0 != "-" })
        guard below == "TCP", ["TLS", "HTTPS", "HTTP"].contains(spoken.uppercased()) else { return below }
        return spoken.uppercased()
    }

    private func ownAddress(_ spec: ManifestFields) -> (address: IPAddress?, isHeadless: Bool) {
        spec.passOver("clusterIPs")
        guard let text = spec.text("clusterIP"), !text.value.isEmpty else { return (nil, false) }
        if text.value == "None" { return (nil, true) }
        return (spec.address("clusterIP"), false)
    }

    private func readExternalName(_ spec: ManifestFields, into service: inout Service) {
        service.resolution = .names
        service.isInternal = false
        guard let text = spec.text("externalName") else {
            return spec.error(spec.position, "externalName", "is missing")
        }
        guard let name = try? ServerName(text.value) else {
            return spec.error(text.position, "externalName", "\(quoted(text.value)) is no host name")
        }
        service.externalName = name
        service.isInternal = catalogue.isClusterLocal(name.description)
    }

    private func members(
        selecting labels: [String: String], _ namespace: String, _ workloads: WorkloadIndex, _ ports: [ServicePort],
        _ family: String?, _ takesUnready: Bool
    ) -> [Service.Member] {
        let selector = LabelSelector(labels: labels)
        let candidates = workloads.podsByNamespace[namespace] ?? []
        return candidates.filter { selector.selects($0.labels) }.map { pod in
            let address = pod.addresses.first { family == nil || $0.family.name == family } ?? pod.addresses[0]
            var member = Service.Member(host: .address(address), labels: workloads.labels(pod.labels, node: pod.node))
            for port in ports {
                let target = port.targetName.map { pod.ports[$0] } ?? (port.targetNumber ?? port.port.number)
                member.ports[port.port.name] = target
            }
            member.servesItsPortsOnly = true
            member.isReady = pod.isReady || takesUnready
            return member
        }
    }

    /// The name of a headless service leads to its pods themselves, so that their ports are to be asked for.
    private func setTargets(_ ports: [ServicePort], of service: inout Service) {
        for (index, port) in ports.enumerated() {
            service.ports[index].target = port.targetNumber
            if let name = port.targetName {
                findings.notice(
                    service.position,
                    "\(service.host): no document says which port of its pods is called \(quoted(name)); \(port.port.number) is taken"
                )
            }
        }
    }

    private func readAffinity(_ spec: ManifestFields, into service: inout Service) {
        // A hash forgets nobody.
        spec.passOver("sessionAffinityConfig")
        guard let affinity = spec.text("sessionAffinity"), affinity.value != "None" else { return }
        guard affinity.value == "ClientIP" else {
            return spec.error(
                affinity.position, "sessionAffinity", "expected None or ClientIP, found \(quoted(affinity.value))")
        }
        service.keepsClients = true
    }
}

extension IPAddress.Family {
    /// As Kubernetes writes it.
    var name: String { self == .v4 ? "IPv4" : "IPv6" }
}
