import WeirModel
import WeirNet

/// A workload outside of Kubernetes, or an endpoint that a ServiceEntry lists: both are written alike.
struct IstioWorkload {
    var namespace: String
    var labels: [String: String]
    /// nil: it cannot be reached, which was reported.
    var host: Endpoint.Host?
    /// By name of the service's port.
    var ports: [String: UInt16]
    var weight: Int

    func member() -> Service.Member? {
        host.map { Service.Member(host: $0, ports: ports, labels: labels, weight: weight) }
    }
}

extension ManifestLowering {
    func readWorkloadEntries() -> [IstioWorkload] {
        istio("WorkloadEntry").map { manifest, spec in
            var workload = IstioWorkload(spec, namespace: manifest.namespace)
            // As in Istio both select, and the object's own labels go first.
            workload.labels.merge(manifest.labels) { $1 }
            return workload
        }
    }
}

extension IstioWorkload {
    /// Reads the fields that WorkloadEntries and endpoints of ServiceEntries share.
    init(_ fields: ManifestFields, namespace: String) {
        self.namespace = namespace
        labels = fields.labels("labels")
        ports = Self.ports(fields)
        fields.passOver("locality")
        // As in Istio, 0 says nothing.
        weight = max(1, fields.integer("weight", 0...65535) ?? 1)
        host = Self.host(fields)
        if fields.has("network"), let network = fields.text("network"), !network.value.isEmpty {
            fields.say(
                network.position, "network \(quoted(network.value)): taken as one that is reached without a gateway")
        }
        // Whom mutual TLS would see, which is not decrypted.
        fields.passOver("serviceAccount")
    }

    private static func ports(_ fields: ManifestFields) -> [String: UInt16] {
        guard let section = fields.fields("ports") else { return [:] }
        var ports: [String: UInt16] = [:]
        for name in section.keys { ports[name] = section.port(name) }
        return ports
    }

    private static func host(_ fields: ManifestFields) -> Endpoint.Host? {
        guard let text = fields.text("address"), !text.value.isEmpty else {
            fields.unsupported(at: fields.position, "has no address, which only its network's gateway could reach")
            return nil
        }
        if text.value.hasPrefix("unix:") {
            fields.unsupported("address", "Unix-domain sockets are not supported")
            return nil
        }
        if let address = IPAddress(text.value) { return .address(address) }
        if let name = try? ServerName(text.value) { return .name(name) }
        fields.error(text.position, "address", "expected an address or a host, found \(quoted(text.value))")
        return nil
    }
}
