import WeirModel
import WeirNet

/// Who serves a service, gathered from the documents that list its endpoints.
struct ServiceMembers {
    /// One endpoint, as one document has it.
    struct Listed {
        var member: Service.Member
        /// It takes what is begun although it is about to end.
        var isServingToTheEnd = false
    }

    /// Of the first document.
    var position: SourcePosition
    private var listed: [Listed] = []
    private var indices: [Endpoint.Host: [Int]] = [:]

    init(position: SourcePosition) { self.position = position }

    /// Adds an endpoint; one that another document has too gets the ports of both.
    mutating func add(_ new: Listed) {
        let same = indices[new.member.host]?.first { index in
            let old = listed[index].member
            return old.isReady == new.member.isReady
                && old.ports.allSatisfy { new.member.ports[$0.key, default: $0.value] == $0.value }
        }
        guard let same else {
            indices[new.member.host, default: []].append(listed.count)
            return listed.append(new)
        }
        listed[same].member.ports.merge(new.member.ports) { old, _ in old }
    }

    /// Of a service with two families only the first of them that there is: the same pods serve both.
    ///
    /// Where nobody is ready, those that are about to end and still serve are, as for kube-proxy.
    func members(family: String?, takesUnready: Bool) -> [Service.Member] {
        let ofFamily = listed.filter { family == nil || $0.member.family == nil || $0.member.family == family }
        var chosen = ofFamily.isEmpty ? listed : ofFamily
        if takesUnready {
            for index in chosen.indices { chosen[index].member.isReady = true }
        } else if !chosen.contains(where: \.member.isReady) {
            for index in chosen.indices { chosen[index].member.isReady = chosen[index].isServingToTheEnd }
        }
        return chosen.map(\.member)
    }
}

extension Service.Member {
    /// nil for a name.
    fileprivate var family: String? {
        guard case .address(let address) = host else { return nil }
        return address.family.name
    }
}

/// Pods and nodes by what other documents know them by.
struct WorkloadIndex {
    private(set) var podsByNamespace: [String: [ManifestLowering.Pod]] = [:]
    /// By namespace and name.
    private var podsByName: [String: ManifestLowering.Pod] = [:]
    private var podsByAddress: [IPAddress: ManifestLowering.Pod] = [:]
    private var nodeLabels: [String: [String: String]] = [:]

    init(_ pods: [ManifestLowering.Pod], _ nodes: [ManifestLowering.Node]) {
        podsByNamespace = Dictionary(grouping: pods, by: \.namespace)
        for pod in pods {
            podsByName["\(pod.namespace)/\(pod.name)"] = pod
            for address in pod.addresses where podsByAddress[address] == nil { podsByAddress[address] = pod }
        }
        for node in nodes { nodeLabels[node.name] = node.labels }
    }

    /// The pod that stands behind an endpoint.
    func pod(_ target: ManifestFields?, _ namespace: String, _ host: Endpoint.Host) -> ManifestLowering.Pod? {
        let kind = target?.text("kind")?.value
        let name = target?.text("name")?.value
        let namespace = target?.text("namespace")?.value ?? namespace
        target?.passOver()
        if kind == "Pod", let name, let pod = podsByName["\(namespace)/\(name)"] { return pod }
        guard case .address(let address) = host, let pod = podsByAddress[address] else { return nil }
        // Pods on their node's network share its address.
        return pod.namespace == namespace ? pod : nil
    }

    /// A member's labels with those of its place, as far as the labels of its node and the zone that was written say:
    /// what Istio's `failoverPriority` compares.
    func labels(_ own: [String: String], node: String, zone: String? = nil) -> [String: String] {
        var place: [String: String] = [:]
        for key in [Self.region, Self.zone] { place[key] = nodeLabels[node]?[key] }
        if let zone { place[Self.zone] = zone }
        return own.merging(place) { own, _ in own }
    }

    private static let region = "topology.kubernetes.io/region"
    private static let zone = "topology.kubernetes.io/zone"
}
