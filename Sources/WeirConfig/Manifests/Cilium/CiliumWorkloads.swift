import WeirModel
import WeirNet

/// Whom the selectors of policies choose from: the pods and the entries of `client_labels`, by namespace. Policies may be
/// hundreds and pods thousands, so it is gathered once, and a rule looks only at namespaces that it can select.
struct CiliumWorkloads {
    private struct Workload {
        /// With the namespace and its labels, as Cilium has them.
        var labels: [String: String]
        var addresses: [CIDR]
        /// The labels of its node; nil where it is on none that is known.
        var node: [String: String]?
    }

    private struct Namespace {
        var labels: [String: String]
        /// The same, as labels of its workloads.
        var inherited: [String: String]
        var workloads: [Workload] = []
    }

    private var namespaces: [Namespace] = []
    /// By name; nil for entries of `client_labels` that say none.
    private var indices: [String?: Int] = [:]

    private static let namespaceKey = "io.kubernetes.pod.namespace"
    private static let namespaceLabelPrefix = "io.cilium.k8s.namespace.labels."

    init(_ lowering: ManifestLowering) {
        for pod in lowering.pods where !pod.hasNodesAddress {
            let addresses = pod.addresses.map { CIDR($0, prefixLength: $0.bitCount) }
            let node = lowering.nodeLabels[pod.node]
            add(Workload(labels: pod.labels, addresses: addresses, node: node), in: pod.namespace, lowering)
        }
        for entry in lowering.draft.configuration.clientLabels {
            let workload = Workload(labels: entry.labels, addresses: entry.addresses)
            add(workload, in: entry.labels[Self.namespaceKey], lowering)
        }
    }

    private mutating func add(_ workload: Workload, in name: String?, _ lowering: ManifestLowering) {
        let index = indices[name] ?? namespaces.count
        if index == namespaces.count {
            indices[name] = index
            let labels = name.map(lowering.labels(ofNamespace:)) ?? [:]
            var inherited: [String: String] = [:]
            for (key, value) in labels { inherited[Self.namespaceLabelPrefix + key] = value }
            if let name { inherited[Self.namespaceKey] = name }
            namespaces.append(Namespace(labels: labels, inherited: inherited))
        }
        var workload = workload
        workload.labels.merge(namespaces[index].inherited) { $1 }
        namespaces[index].workloads.append(workload)
    }

    /// The addresses of all that at least one of the rules selects.
    func addresses(selectedBy rules: [ManifestFields]) -> [CIDR] {
        var addresses: [CIDR] = []
        var seen: Set<CIDR> = []
        for rule in rules {
            for workload in selected(by: rule) {
                for block in workload.addresses where seen.insert(block).inserted { addresses.append(block) }
            }
        }
        return addresses
    }

    /// Whom a rule with `podSelector`, `namespaceSelector` and `nodeSelector` selects: all of them have to.
    private func selected(by rule: ManifestFields) -> [Workload] {
        var pods = rule.fields("podSelector").map { LabelSelector($0) }
        // A slip that Cilium's own example has: the labels beside the selector, which is empty.
        if pods?.isEmpty ?? true, rule.has("matchLabels") || rule.has("matchExpressions") {
            rule.say(rule.position(of: "matchLabels"), "stands beside `podSelector`; taken as if it stood in it")
            pods = LabelSelector(rule)
        }
        let ofNamespace = rule.fields("namespaceSelector").map { LabelSelector($0).withoutSource }
        let ofNode = rule.fields("nodeSelector").map { LabelSelector($0) }
        guard pods != nil || ofNamespace != nil || ofNode != nil else {
            rule.error(rule.position, "", "a rule has `podSelector`, `namespaceSelector` or `nodeSelector`")
            return []
        }
        let ofPod = pods?.withoutSource
        var candidates = namespaces[...]
        if let name = ofPod?.labels[Self.namespaceKey] {
            guard let index = indices[name] else { return [] }
            candidates = namespaces[index...index]
        }
        return candidates.filter { ofNamespace?.selects($0.labels) ?? true }.flatMap { namespace in
            namespace.workloads.filter { workload in
                (ofPod?.selects(workload.labels) ?? true)
                    && (ofNode.map { selector in workload.node.map(selector.selects) ?? false } ?? true)
            }
        }
    }
}

extension LabelSelector {
    /// With keys as Kubernetes writes them: `k8s:app` is Cilium's way to say where a label comes from.
    fileprivate var withoutSource: LabelSelector {
        func plain(_ key: String) -> String {
            for prefix in ["k8s:", "any:"] where key.hasPrefix(prefix) { return String(key.dropFirst(prefix.count)) }
            return key
        }
        var selector = self
        selector.labels = Dictionary(labels.map { (plain($0.key), $0.value) }, uniquingKeysWith: { $1 })
        for index in selector.expressions.indices { selector.expressions[index].key = plain(expressions[index].key) }
        return selector
    }
}
