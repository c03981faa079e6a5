/// Namespaces: their labels select what is in them.
extension ManifestLowering {
    func readNamespaces() {
        for manifest in manifests.all("Namespace", "") {
            namespaces[manifest.name] = manifest.labels
            manifest.fields.passOver("spec")
        }
    }
}
