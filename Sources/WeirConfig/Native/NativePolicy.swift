import WeirModel
import WeirNet

/// The `policies` section, and `client_labels`, the table that resolves their labels.
extension NativeReader {
    /// `index` counts the policies of the file from zero; it names one that has no name.
    func readPolicy(_ node: YAMLNode, _ index: Int) {
        guard let section = section(node, NativeSchema.policy) else { return }
        let name = section["name"].flatMap { text($0, "a name") } ?? "policy-\(index + 1)"
        let match = section["match"].map(policyMatch) ?? Policy.Match()
        let action: Policy.Action?
        switch (section["source"], section["gateways"], section["to"]) {
        case (let source?, nil, nil): action = text(source, "the name of a source").map { .source($0) }
        case (nil, let cluster?, nil): action = text(cluster, "the name of a cluster").map { .gateways($0) }
        case (nil, nil, let target?): action = word(target, [("route", .route)])
        case (nil, nil, nil):
            return findings.error(
                node.position, "a policy has a `source` to connect from, `gateways` to go through, or `to: route`")
        case (_, let cluster, let target):
            return findings.error(
                (target ?? cluster ?? node).position, "a policy has one of `source`, `gateways` and `to`")
        }
        guard let action else { return }
        let position = section["name"]?.position ?? node.position
        draft.add(Policy(name: name, match: match, action: action), at: position)
    }

    private func policyMatch(_ node: YAMLNode) -> Policy.Match {
        var match = Policy.Match()
        guard let section = section(node, NativeSchema.policyMatch) else { return match }
        let what = "blocks of addresses"
        if let node = section["clients"] { match.clients = constraint(node, what, block) }
        if let node = section["client_labels"] { match.clientLabels = labels(node) }
        if let node = section["server_names"] { match.serverNames = constraint(node, "server names", serverName) }
        if let node = section["destinations"] { match.destinations = constraint(node, what, block) }
        if let node = section["except_destinations"] { match.exceptDestinations = items(node, of: what, block) ?? [] }
        return match
    }

    func readClientLabels(_ node: YAMLNode) {
        guard let section = section(node, NativeSchema.clientLabels) else { return }
        guard let labelsNode = section["labels"], let addresses = section["addresses"] else {
            return findings.error(node.position, "an entry of client_labels has `labels` and `addresses`")
        }
        let blocks = items(addresses, of: "blocks of addresses", block) ?? []
        draft.configuration.clientLabels.append(ClientLabels(labels(labelsNode), addresses: blocks))
    }

    /// `{ app: billing, namespace: prod }`.
    func labels(_ node: YAMLNode) -> [String: String] {
        guard case .mapping(let entries) = node.content, !entries.isEmpty else {
            expected("at least one label such as { app: billing }", node)
            return [:]
        }
        var labels: [String: String] = [:]
        for entry in entries {
            guard case .scalar(let value, _) = entry.value.content, !entry.value.isNull else {
                expected("the text of a label", entry.value)
                continue
            }
            labels[entry.key] = value
        }
        return labels
    }
}
