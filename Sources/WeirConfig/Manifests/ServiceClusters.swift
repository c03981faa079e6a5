import WeirModel
import WeirNet

/// Makes clusters of the services that routes lead to, each once, called as Envoy calls them:
/// `outbound|443|v1|kube-apiserver.shoot.svc.cluster.local`.
struct ServiceClusters {
    /// What a traffic policy makes of a cluster; Istio's DestinationRules are one.
    typealias Policy = (_ cluster: inout Cluster, _ service: Service?, _ port: UInt16, _ subset: String) -> Void

    /// What is known of services once all of them have been read.
    var catalogue: ServiceCatalogue
    private let draft: ConfigurationDraft
    /// Labels of the subset's members, or nil where no rule knows the subset.
    var subsetLabels: (_ host: String, _ namespace: String, _ subset: String) -> [String: String]? = { _, _, _ in nil }
    var policy: Policy = { _, _, _, _ in }
    private var made: [String: String] = [:]

    init(_ catalogue: ServiceCatalogue, _ draft: ConfigurationDraft) {
        self.catalogue = catalogue
        self.draft = draft
    }

    /// What a route to the service does; nil, and reported through `report`, where that cannot be done.
    ///
    /// `usesVirtualAddress`: to the service's own address, not to its members. `variant` names a cluster of its own for
    /// who asks for other settings than the rest, which `adjust` makes.
    mutating func action(
        host: String, namespace: String, port: UInt16, subset: String = "", usesVirtualAddress: Bool = false,
        variant: String = "", at position: SourcePosition, adjust: (_ cluster: inout Cluster) -> Void = { _ in },
        report: (String) -> Void
    ) -> RouteAction? {
        let qualified = catalogue.qualified(host, namespace: namespace)
        let service = catalogue.services[qualified]
        switch service?.resolution {
        case .clientsName:
            report("\(quoted(host)) is whatever name the client asks for: this is not supported")
            return nil
        case .originalDestination:
            report("\(quoted(host)) has resolution NONE, to wherever the client was going: this is not supported")
            return nil
        case .fixed, .names, nil:
            break
        }
        var servicePort = service?.port(port)
        // One that only stands for another name need not list its ports.
        if servicePort == nil, service?.externalName != nil {
            servicePort = Service.Port(number: port, name: "", transport: "TCP")
        }
        if service != nil, servicePort == nil {
            report("service \(quoted(qualified)) has no port \(port)")
            return nil
        }
        let name =
            "outbound|\(port)|\(subset)|\(qualified)" + (usesVirtualAddress ? "|virtual" : "")
            + (variant.isEmpty ? "" : "|\(variant)")
        if made[name] != nil { return .cluster(name) }
        var cluster = Cluster(name: name, endpoints: [])
        if let service, let servicePort {
            guard let endpoints = endpoints(service, servicePort, subset, usesVirtualAddress, report) else {
                return nil
            }
            cluster.endpoints = endpoints
            if service.keepsClients { cluster.balance = .sourceHash }
        } else {
            guard let name = try? ServerName(qualified) else {
                report("\(quoted(host)) is no host")
                return nil
            }
            cluster.endpoints = [Endpoint(host: .name(name), port: port)]
            draft.findings.notice(
                position, "no document describes \(quoted(qualified)): it is asked of the name servers")
        }
        cluster.privateNames = service?.isInternal ?? catalogue.isClusterLocal(qualified)
        policy(&cluster, service, port, subset)
        adjust(&cluster)
        made[name] = name
        draft.add(cluster, at: service?.position ?? position)
        return .cluster(name)
    }

    /// A cluster of which nobody ever serves: the share of sessions that are to be refused.
    mutating func nobody(_ variant: String, at position: SourcePosition) -> String {
        let name = "nobody|\(variant)"
        guard made.updateValue(name, forKey: name) == nil else { return name }
        // Never connected to.
        var endpoint = Endpoint(host: .address(.v4Loopback), port: 1)
        endpoint.isDown = true
        draft.add(Cluster(name: name, endpoints: [endpoint]), at: position)
        return name
    }

    private func endpoints(
        _ service: Service, _ port: Service.Port, _ subset: String, _ usesVirtualAddress: Bool,
        _ report: (String) -> Void
    ) -> [Endpoint]? {
        if let name = service.externalName { return [Endpoint(host: .name(name), port: port.number)] }
        if usesVirtualAddress {
            if service.virtualAddress == nil, service.isInternal, !service.isHeadless,
                let name = try? ServerName(service.host)
            {
                return [Endpoint(host: .name(name), port: port.number)]
            }
            guard let address = service.virtualAddress else {
                report("service \(quoted(service.host)) has no address of its own (clusterIP)")
                return nil
            }
            return [Endpoint(host: .address(address), port: port.number)]
        }
        var members = service.members
        if !subset.isEmpty {
            guard let labels = subsetLabels(service.host, service.namespace, subset) else {
                report("no DestinationRule describes subset \(quoted(subset)) of \(quoted(service.host))")
                return nil
            }
            if members.isEmpty, !labels.isEmpty {
                report(
                    "nobody describes the members of \(quoted(service.host)), of which subset \(quoted(subset)) selects"
                )
                return nil
            }
            let selector = LabelSelector(labels: labels)
            members = members.filter { selector.selects($0.labels) }
        }
        // Where nobody is ready there are endpoints all the same, so that the reason of a refusal says so.
        let noneIsReady = !members.contains(where: \.isReady)
        let endpoints = members.filter { $0.isReady || noneIsReady }.compactMap { member -> Endpoint? in
            let own = member.ports[port.name]
            if member.servesItsPortsOnly, own == nil { return nil }
            var endpoint = Endpoint(host: member.host, port: own ?? port.target ?? port.number)
            endpoint.weight = member.weight
            endpoint.isDown = !member.isReady
            return endpoint
        }
        if !endpoints.isEmpty { return endpoints }
        if service.members.isEmpty, service.resolution == .names, let name = try? ServerName(service.host) {
            return [Endpoint(host: .name(name), port: port.target ?? port.number)]
        }
        if service.members.isEmpty, let address = service.virtualAddress {
            return [Endpoint(host: .address(address), port: port.number)]
        }
        report("nobody serves port \(port.number) of \(quoted(service.host))")
        return nil
    }
}
