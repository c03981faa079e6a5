import WeirModel

/// Where each part of a configuration was written: listeners, routes, clusters, source pools, policies, and the sections that
/// stand once. Beside the model, which knows of no files.
package struct Provenance: Sendable {
    /// All but routes, by the words of `ConfigurationFault.part`.
    private var positions: [String: SourcePosition] = [:]
    /// Routes by listener and name: they come by the thousand, and most are never asked about by their words.
    private var routes: [String: [String: SourcePosition]] = [:]

    package init() {}

    subscript(part: String) -> SourcePosition? {
        get { positions[part] }
        set { positions[part] = newValue }
    }

    subscript(listener listener: String, route route: String) -> SourcePosition? {
        get { routes[listener]?[route] }
        set { routes[listener, default: [:]][route] = newValue }
    }

    /// Routes by the words of `ConfigurationFault.part`.
    var routesByPart: [String: SourcePosition] {
        var found: [String: SourcePosition] = [:]
        for (listener, routes) in routes {
            for (route, position) in routes { found[Self.part(listener: listener, route: route)] = position }
        }
        return found
    }

    /// `file:line:column` of `part`, in the words of the functions below; nil where it is written nowhere.
    package func place(of part: String) -> String? { positions[part]?.description }

    /// The same of a route.
    package func place(ofRoute route: String, listener: String) -> String? { routes[listener]?[route]?.description }

    package static func part(listener name: String) -> String { "listener \"\(name)\"" }
    package static func part(listener: String, route: String) -> String {
        "\(part(listener: listener)), route \"\(route)\""
    }
    package static func part(cluster name: String) -> String { "cluster \"\(name)\"" }
    package static func part(source name: String) -> String { "source \"\(name)\"" }
    package static func part(policy name: String) -> String { "policy \"\(name)\"" }
}
