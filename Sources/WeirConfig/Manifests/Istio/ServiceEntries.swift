import WeirModel
import WeirNet

extension ManifestLowering {
    /// Adds the services that ServiceEntries describe, one for each of their hosts.
    func readServiceEntries(_ workloads: [IstioWorkload]) {
        let workloads = Dictionary(grouping: workloads, by: \.namespace)
        let pods = Dictionary(grouping: pods, by: \.namespace)
        for (manifest, spec) in istio("ServiceEntry") {
            guard let entry = ServiceEntry(manifest, spec) else { continue }
            readExportTo(spec, "it is known")
            let members = entry.members(workloads[entry.namespace] ?? [], pods[entry.namespace] ?? [])
            for host in entry.hosts { add(host, of: entry, members) }
        }
    }

    private func add(_ host: ManifestText, of entry: ServiceEntry, _ members: [Service.Member]) {
        // Full as it stands: Istio does not add a namespace to it.
        let name = host.value.lowercased()
        guard entry.spec.pattern(host, "hosts") != nil,
            let resolution = entry.resolution(isWildcard: name.hasPrefix("*"), members, at: host)
        else { return }
        if let first = catalogue.services[name] {
            entry.spec.say(
                host.position, "\(quoted(name)) is already described at \(first.position), which holds")
            return
        }
        var service = Service(
            host: name, namespace: entry.namespace, resolution: resolution, ports: entry.ports, members: members,
            isInternal: entry.isInternal, position: host.position)
        service.virtualAddress = entry.addressOfNone
        catalogue.add(service)
    }
}

/// What a ServiceEntry says of all its hosts.
struct ServiceEntry {
    enum Resolution: String, CaseIterable {
        case none = "NONE"
        case fixed = "STATIC"
        case dns = "DNS"
        case dnsRoundRobin = "DNS_ROUND_ROBIN"
        case dynamicDNS = "DYNAMIC_DNS"
    }

    let spec: ManifestFields
    let namespace: String
    let hosts: [ManifestText]
    let ports: [Service.Port]
    let isInternal: Bool
    private let resolution: Resolution
    private let resolutionPosition: SourcePosition
    private let addresses: [CIDR]
    private let endpoints: [IstioWorkload]
    private let selector: [String: String]?

    /// nil, and reported, where it is no ServiceEntry that Istio would take.
    init?(_ manifest: Manifest, _ spec: ManifestFields) {
        self.spec = spec
        namespace = manifest.namespace
        hosts = spec.texts("hosts")
        addresses = spec.blocks("addresses")
        ports = Self.ports(spec)
        let location = spec.text("location")
        isInternal = location?.value == "MESH_INTERNAL"
        if let location, !["MESH_INTERNAL", "MESH_EXTERNAL"].contains(location.value) {
            spec.error(
                location.position, "location",
                "expected MESH_EXTERNAL or MESH_INTERNAL, found \(quoted(location.value))")
        }
        let word = spec.text("resolution")
        resolution = word.flatMap { Resolution(rawValue: $0.value) } ?? .none
        resolutionPosition = word?.position ?? spec.position
        if let word, Resolution(rawValue: word.value) == nil {
            let known = Resolution.allCases.map(\.rawValue).joined(separator: ", ")
            spec.error(word.position, "resolution", "expected one of \(known), found \(quoted(word.value))")
        }
        endpoints = spec.list("endpoints").map { IstioWorkload($0, namespace: manifest.namespace) }
        selector = spec.fields("workloadSelector")?.labels("labels")
        if spec.has("subjectAltNames") {
            spec.say(
                spec.position(of: "subjectAltNames"),
                "subjectAltNames are not compared: certificates are verified by the client, "
                    + "not by a proxy that does not decrypt"
            )
        }
        spec.passOver("subjectAltNames")
        if hosts.isEmpty {
            spec.error(spec.position, "hosts", "a ServiceEntry has at least one host")
            return nil
        }
        if !endpoints.isEmpty, selector != nil {
            spec.error(
                spec.position(of: "endpoints"), "endpoints", "stand beside a workloadSelector: only one of both may")
        }
        checkEndpoints()
    }

    private static func ports(_ spec: ManifestFields) -> [Service.Port] {
        spec.list("ports").compactMap { fields in
            let (number, name) = (fields.port("number"), fields.text("name")?.value ?? "")
            let transport = fields.text("protocol")?.value.uppercased() ?? "TCP"
            let target = fields.port("targetPort")
            if transport == "UDP" { fields.unsupported("protocol", "UDP is not supported yet") }
            return number.map { Service.Port(number: $0, name: name, transport: transport, target: target) }
        }
    }

    private func checkEndpoints() {
        if resolution == .none, !endpoints.isEmpty {
            spec.error(
                spec.position(of: "endpoints"), "endpoints",
                "have no meaning with resolution NONE, to wherever the client was going")
        }
        guard resolution == .fixed else { return }
        for endpoint in endpoints {
            if case .name(let name)? = endpoint.host {
                spec.error(
                    spec.position(of: "endpoints"), "endpoints",
                    "resolution STATIC asks for addresses, \(quoted(name.description)) is a name")
            }
        }
    }

    /// Where connections go with resolution NONE and one single address. With any other the addresses are those that clients
    /// know, and nobody judges them as destinations: they do not stand in for endpoints.
    var addressOfNone: IPAddress? {
        guard resolution == .none, addresses.count == 1, addresses[0].prefixLength == addresses[0].base.bitCount else {
            return nil
        }
        return addresses[0].base
    }

    /// The endpoints written down, or those of the workloads and Pods, all of its namespace, that it selects.
    func members(_ workloads: [IstioWorkload], _ pods: [ManifestLowering.Pod]) -> [Service.Member] {
        guard let selector else { return endpoints.compactMap { $0.member() } }
        let labels = LabelSelector(labels: selector)
        let entries = workloads.filter { labels.selects($0.labels) }
        let selected = pods.filter { labels.selects($0.labels) }
        if entries.isEmpty, selected.isEmpty {
            spec.unsupported(
                at: spec.position(of: "workloadSelector"),
                "no WorkloadEntry and no Pod of namespace \(namespace) has the labels of workloadSelector")
        }
        return entries.compactMap { $0.member() }
            + selected.compactMap { pod in
                pod.addresses.first.map {
                    Service.Member(host: .address($0), labels: pod.labels, isReady: pod.isReady)
                }
            }
    }

    /// How a host of the entry becomes addresses; nil, and reported, where it cannot.
    func resolution(isWildcard: Bool, _ members: [Service.Member], at host: ManifestText) -> Service.Resolution? {
        switch resolution {
        case .none:
            // Wherever the client was going can be nothing else.
            return addressOfNone == nil || selector != nil ? noResolution(members) : .fixed
        case .fixed:
            return .fixed
        case .dns, .dnsRoundRobin:
            // Where a selector means nobody, the host itself is not asked for instead.
            if selector != nil { return .fixed }
            guard isWildcard, members.isEmpty else { return .names }
            spec.error(
                host.position, "hosts",
                "resolution \(resolution.rawValue) cannot ask for wildcard \(quoted(host.value)); DYNAMIC_DNS can")
            return nil
        case .dynamicDNS:
            return isWildcard ? .clientsName : .names
        }
    }

    /// NONE with a workloadSelector is to its workloads.
    private func noResolution(_ members: [Service.Member]) -> Service.Resolution {
        members.isEmpty ? .originalDestination : .fixed
    }
}
