/// Which references from one namespace into another the owner of the other has granted.
struct ReferenceGrants {
    private struct Grant {
        var namespace: String
        /// `group kind namespace`.
        var from: Set<String>
        /// `group kind`, with the name behind it where only that is granted.
        var to: Set<String>
    }

    private var grants: [Grant] = []

    init(_ manifests: [Manifest]) {
        for manifest in manifests {
            let spec = manifest.fields.fields("spec")
            let from = (spec?.list("from") ?? []).map { entry in
                "\(entry.text("group")?.value ?? "") \(entry.text("kind")?.value ?? "") "
                    + (entry.text("namespace")?.value ?? "")
            }
            let to = (spec?.list("to") ?? []).map { entry in
                "\(entry.text("group")?.value ?? "") \(entry.text("kind")?.value ?? "")"
                    + (entry.text("name").map { " \($0.value)" } ?? "")
            }
            grants.append(Grant(namespace: manifest.namespace, from: Set(from), to: Set(to)))
        }
    }

    /// Whether `route` may lead to this service.
    func grant(_ route: Manifest, service name: String, in namespace: String) -> Bool {
        if route.namespace == namespace { return true }
        let from = "\(route.group) \(route.kind) \(route.namespace)"
        return grants.contains { grant in
            grant.namespace == namespace && grant.from.contains(from)
                && (grant.to.contains(" Service") || grant.to.contains(" Service \(name)"))
        }
    }
}
