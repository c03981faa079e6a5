/// The manifests of all files, collected while these are read: which file one stands in means nothing.
struct ManifestSet {
    private(set) var all: [Manifest] = []
    private var positions: [String: SourcePosition] = [:]
    /// Kinds that ask nothing of a proxy, and where the first of each stands.
    private var passedOver: [(kind: String, first: SourcePosition, count: Int)] = []

    var isEmpty: Bool { all.isEmpty }

    func all(_ kind: String, _ group: String) -> [Manifest] { all.filter { $0.kind == kind && $0.group == group } }

    /// Whether it is a manifest and no native configuration.
    static func isManifest(_ root: YAMLNode) -> Bool {
        guard case .mapping(let entries) = root.content else { return false }
        return entries.contains { $0.key == "apiVersion" }
    }

    /// Takes a document up; a list of objects (`kubectl get -o yaml`) as its items.
    mutating func add(_ root: YAMLNode, _ findings: Findings) {
        if let items = Self.items(of: root) {
            for item in items { add(item, findings) }
            return
        }
        guard let manifest = Manifest(root, findings) else { return }
        switch ManifestKind.reading(of: manifest.kind, in: manifest.group) {
        case .known:
            let key = "\(manifest.group) \(manifest.title)"
            if let first = positions[key] {
                return findings.error(manifest.position, "\(manifest.title) is already defined at \(first)")
            }
            positions[key] = manifest.position
            all.append(manifest)
        case .unknown:
            manifest.unsupported("this kind of \(manifest.group) is not supported; the document has no effect")
        case .foreign:
            if let index = passedOver.firstIndex(where: { $0.kind == manifest.kind }) {
                passedOver[index].count += 1
            } else {
                passedOver.append((manifest.kind, manifest.position, 1))
            }
        }
    }

    /// Says which kinds were passed over, each once.
    func reportPassedOver(_ findings: Findings) {
        for (kind, first, count) in passedOver {
            let documents = count == 1 ? "this document" : "\(count) documents, this the first of them,"
            findings.notice(first, "\(kind) asks nothing of a proxy: \(documents) passed over")
        }
    }

    private static func items(of root: YAMLNode) -> [YAMLNode]? {
        guard case .mapping(let entries) = root.content,
            let kind = entries.first(where: { $0.key == "kind" }), case .scalar(let word, _) = kind.value.content,
            word.hasSuffix("List"), let list = entries.first(where: { $0.key == "items" }),
            case .sequence(let items) = list.value.content
        else { return nil }
        return items
    }
}

/// What is made of a kind of object.
enum ManifestKind {
    case known
    /// Of a group that is about proxies, but not read.
    case unknown
    /// Not about proxies at all.
    case foreign

    private static let kinds: [String: Set<String>] = [
        "": ["Service", "Endpoints", "Pod", "Node", "Namespace", "ConfigMap"],
        "discovery.k8s.io": ["EndpointSlice"],
        "networking.k8s.io": ["Ingress", "IngressClass"],
        "extensions": ["Ingress"],
        "gateway.networking.k8s.io": [
            "Gateway", "GatewayClass", "TLSRoute", "TCPRoute", "UDPRoute", "ReferenceGrant",
        ],
        "networking.istio.io": [
            "Gateway", "VirtualService", "ServiceEntry", "WorkloadEntry", "DestinationRule", "EnvoyFilter",
        ],
        "cilium.io": ["CiliumEgressNATPolicy", "CiliumEgressGatewayPolicy"],
    ]
    /// Groups whose other kinds may well be meant for a proxy.
    private static let groupsAboutProxies: Set<String> = [
        "networking.k8s.io", "gateway.networking.k8s.io", "networking.istio.io", "security.istio.io", "cilium.io",
        "traefik.io", "k8s.nginx.org", "configuration.konghq.com",
    ]

    static func reading(of kind: String, in group: String) -> ManifestKind {
        if kinds[group]?.contains(kind) ?? false { return .known }
        return groupsAboutProxies.contains(group) ? .unknown : .foreign
    }
}
