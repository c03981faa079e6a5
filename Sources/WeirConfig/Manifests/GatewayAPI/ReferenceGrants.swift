/// Which references from one namespace into another the owner of the other has granted.
struct ReferenceGrants {
    /// By the namespace of the grant and `group kind namespace` of who may refer: `group kind` of what to, with the name
    /// behind it where only that is granted.
    private var grants: [String: [Set<String>]] = [:]

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
            let granted = Set(to)
            for from in Set(from) { grants["\(manifest.namespace) \(from)", default: []].append(granted) }
        }
    }

    /// Whether `route` may lead to this service.
    func grant(_ route: Manifest, service name: String, in namespace: String) -> Bool {
        if route.namespace == namespace { return true }
        let granted = grants["\(namespace) \(route.group) \(route.kind) \(route.namespace)"] ?? []
        return granted.contains { $0.contains(" Service") || $0.contains(" Service \(name)") }
    }
}
