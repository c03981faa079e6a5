/// One Kubernetes object as it was written: what names it, and a cursor over its fields.
///
/// Reading a field marks it as understood. `reportUnread()` says which nobody has read, so that nothing a manifest asks for
/// is passed over in silence.
final class Manifest {
    /// `networking.istio.io`; empty for the core group.
    let group: String
    let version: String
    let kind: String
    let name: String
    /// `default` where none is written, as kubectl takes it.
    let namespace: String
    let labels: [String: String]
    /// Values with their places; keys that nobody asks for ask nothing of a proxy.
    let annotations: [String: ManifestText]
    /// RFC 3339; empty where nothing is said.
    let createdAt: String
    let isBeingDeleted: Bool
    let fields: ManifestFields
    var position: SourcePosition { fields.position }

    /// `Gateway istio-system/blackhole`; `Node a` for what no namespace has.
    var title: String { Self.isOfTheCluster(kind) ? "\(kind) \(name)" : "\(kind) \(namespace)/\(name)" }
    /// `istio-system/blackhole`.
    var path: String { "\(namespace)/\(name)" }

    /// nil, and reported, where it has no `kind`, `apiVersion` or name.
    init?(_ node: YAMLNode, _ findings: Findings) {
        guard let fields = ManifestFields(node, of: nil, path: "", findings) else { return nil }
        guard let apiVersion = fields.text("apiVersion"), let kind = fields.text("kind") else {
            findings.error(node.position, "a manifest has `apiVersion` and `kind`")
            return nil
        }
        let parts = apiVersion.value.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        group = parts.count == 2 ? String(parts[0]) : ""
        version = String(parts[parts.count - 1])
        self.kind = kind.value
        let metadata = fields.fields("metadata")
        guard let name = metadata?.text("name")?.value else {
            findings.error(node.position, "\(kind.value): metadata.name is missing")
            return nil
        }
        self.name = name
        namespace = metadata?.text("namespace")?.value ?? "default"
        labels = metadata?.labels("labels") ?? [:]
        createdAt = metadata?.text("creationTimestamp")?.value ?? ""
        isBeingDeleted = metadata?.has("deletionTimestamp") ?? false
        var annotations = metadata?.texts(of: "annotations") ?? [:]
        // Beside `metadata` they are a slip that documents are full of; what is meant is plain.
        if let misplaced = fields.node("annotations") {
            fields.say(misplaced.position, "`annotations` stand in `metadata`; taken as if they did")
            annotations.merge(fields.texts(of: "annotations")) { first, _ in first }
        }
        self.annotations = annotations
        metadata?.passOver()
        fields.passOver("status")
        self.fields = fields
        fields.adopt(title: title)
    }

    private static func isOfTheCluster(_ kind: String) -> Bool {
        [
            "Node", "Namespace", "IngressClass", "GatewayClass", "CiliumEgressNATPolicy", "CiliumEgressGatewayPolicy",
        ].contains(kind)
    }

    /// Its `spec`; nil, and reported, where there is none.
    func spec() -> ManifestFields? {
        if !fields.has("spec") { fields.error(position, "spec", "is missing") }
        return fields.fields("spec")
    }

    /// Says of every field that was not read that it has no effect.
    func reportUnread() { fields.reportUnread() }

    /// Says that the document as a whole is not done.
    func unsupported(_ message: String) {
        fields.passOver()
        fields.unsupported(at: position, message)
    }
}

extension Manifest {
    /// By age, then by namespace and name: who comes first has what two of them ask for. `lastNameFirst`: of one age the last
    /// by namespace and name comes first.
    static func oldestFirst(_ manifests: [Manifest], lastNameFirst: Bool = false) -> [Manifest] {
        // Those that no cluster has made yet come last.
        manifests.sorted { a, b in
            let (aAge, bAge) = (a.createdAt.isEmpty ? "~" : a.createdAt, b.createdAt.isEmpty ? "~" : b.createdAt)
            if aAge != bAge { return aAge < bAge }
            return lastNameFirst ? a.path > b.path : a.path < b.path
        }
    }
}

/// A scalar and where it stands.
struct ManifestText {
    var value: String
    var position: SourcePosition
}
