import WeirModel
import WeirNet

/// What a traffic policy makes of the clusters of a host; Istio's DestinationRules are one.
struct ClusterPolicy {
    /// The namespace whose routes alone it holds for; nil: it is everybody's.
    var owner: String?
    /// Labels of a subset's members; nil: there is no such subset.
    var subsetLabels: (_ subset: String) -> [String: String]?
    var apply: (_ cluster: inout Cluster, _ port: UInt16, _ subset: String) -> Void
}

/// Makes clusters of the services that routes lead to, each once, called as Envoy calls them:
/// `outbound|443|v1|kube-apiserver.shoot.svc.cluster.local`.
struct ServiceClusters {
    /// What is known of services once all of them have been read.
    var catalogue: ServiceCatalogue
    private let draft: ConfigurationDraft
    /// What holds for a host, by its full name, where a document of namespace `client` leads to it; nil: nothing does.
    var policy: (_ host: String, _ service: Service?, _ client: String) -> ClusterPolicy? = { _, _, _ in nil }
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
        let policy = self.policy(qualified, service, namespace)
        let name =
            "outbound|\(port)|\(subset)|\(qualified)" + (policy?.owner.map { "|Namespace/\($0)" } ?? "")
            + (usesVirtualAddress ? "|virtual" : "")
            + (variant.isEmpty ? "" : "|\(variant)")
        if made[name] != nil { return .cluster(name) }
        var cluster = Cluster(name: name, endpoints: [])
        if let service, let servicePort {
            guard let endpoints = endpoints(service, servicePort, subset, policy, usesVirtualAddress, report)
            else { return nil }
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
        policy?.apply(&cluster, port, subset)
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
        _ service: Service, _ port: Service.Port, _ subset: String, _ policy: ClusterPolicy?,
        _ usesVirtualAddress: Bool, _ report: (String) -> Void
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
            guard let labels = policy?.subsetLabels(subset) else {
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
