import WeirModel

/// Where each part of a configuration was written: listeners, routes, clusters, source pools, policies, and the sections that
/// stand once. Beside the model, which knows of no files.
package struct Provenance: Sendable {
    /// By the words of `ConfigurationFault.part`.
    private var positions: [String: SourcePosition] = [:]

    package init() {}

    subscript(part: String) -> SourcePosition? {
        get { positions[part] }
        set { positions[part] = newValue }
    }

    /// `file:line:column` of `part`, in the words of `ConfigurationFault.part` or of the functions below; nil where it is
    /// written nowhere.
    package func place(of part: String) -> String? { positions[part]?.description }

    package static func part(listener name: String) -> String { "listener \"\(name)\"" }
    package static func part(listener: String, route: String) -> String {
        "\(part(listener: listener)), route \"\(route)\""
    }
    package static func part(cluster name: String) -> String { "cluster \"\(name)\"" }
    package static func part(source name: String) -> String { "source \"\(name)\"" }
    package static func part(policy name: String) -> String { "policy \"\(name)\"" }
}
