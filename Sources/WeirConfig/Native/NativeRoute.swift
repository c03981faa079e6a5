import WeirModel
import WeirNet

/// The `routes` of a listener.
extension NativeReader {
    /// `index` counts the listener's routes from zero; it names a route that has no name.
    func readRoute(_ node: YAMLNode, _ index: Int, into listener: inout Listener) {
        guard let section = section(node, NativeSchema.route, misplaced: ["source"]) else { return }
        if let source = section["source"] {
            findings.error(source.position, "`source` stands in the route's `to.server_name`, or in the cluster")
        }
        let name = section["name"].flatMap { text($0, "a name") } ?? "route-\(index + 1)"
        let match = section["match"].map(routeMatch) ?? RouteMatch()
        let action: RouteAction?
        switch (section["to"], section["deny"]) {
        case (let to?, nil): action = target(to)
        case (nil, let deny?): action = denial(deny)
        case (nil, nil):
            if case .mapping(let entries) = node.content, !entries.contains(where: { ["to", "deny"].contains($0.key) })
            {
                findings.error(node.position, "a route says where `to` connect, or `deny`; this one has neither")
            }
            return
        case (_?, let deny?):
            return findings.error(deny.position, "a route has either `to` or `deny`, not both")
        }
        let position = (section["to"] ?? section["name"])?.position ?? node.position
        guard draft.declare(route: name, of: listener.name, at: position), let action else { return }
        var route = Route(name: name, match: match, action: action)
        if let node = section["limits"] { route.limits = routeLimits(node) }
        if let node = section["on_removed"] {
            if section["name"] == nil {
                findings.error(
                    node.position,
                    "`on_removed` needs a `name`: without one a route is known by its place in the list, which changes with it"
                )
            }
            if let value = liveSessions(node) { route.onRemoved = value }
        }
        listener.routes.append(route)
    }

    /// The same keys for a route and for a listener.
    func routeLimits(_ node: YAMLNode) -> RouteLimits {
        var limits = RouteLimits()
        guard let section = section(node, NativeSchema.listenerLimits) else { return limits }
        limits.connections = section["connections"].flatMap { integer($0, 1...100_000_000) }
        limits.rate = rate(section)
        guard let node = section["per_client"],
            let perClient = self.section(node, NativeSchema.clientLimits)
        else { return limits }
        limits.connectionsPerClient = perClient["connections"].flatMap { integer($0, 1...1_000_000) }
        limits.ratePerClient = rate(perClient)
        return limits
    }

    private func routeMatch(_ node: YAMLNode) -> RouteMatch {
        var match = RouteMatch()
        guard let section = section(node, NativeSchema.match) else { return match }
        // An empty list would match everything, the opposite of what it says.
        if let names = section["server_names"] { match.serverNames = constraint(names, "server names", serverName) }
        if let clients = section["clients"] { match.clients = constraint(clients, "blocks of addresses", block) }
        if let alpn = section["alpn"] { match.alpn = constraint(alpn, "protocol names", protocolName) }
        let what = "blocks of addresses"
        if let node = section["destinations"] { match.destinations = constraint(node, what, block) }
        if let node = section["except_destinations"] { match.exceptDestinations = items(node, of: what, block) ?? [] }
        if let node = section["destination_ports"] { match.destinationPorts = constraint(node, "ports", ports) }
        return match
    }

    /// `443` or `8000-8999`.
    private func ports(_ node: YAMLNode) -> ClosedRange<UInt16>? {
        guard case .scalar(let text, _) = node.content, let range = portRange(text) else {
            expected("a port 1...65535, or a range such as 8000-8999", node)
            return nil
        }
        return range
    }

    func constraint<Value>(_ node: YAMLNode, _ what: String, _ read: (YAMLNode) -> Value?) -> [Value] {
        if node.isEmptyCollection { expected("at least one of the \(what); leave the key out to match all", node) }
        return items(node, of: what, read) ?? []
    }

    func serverName(_ node: YAMLNode) -> ServerNamePattern? {
        guard let text = text(node, "a server name, *.suffix or *") else { return nil }
        do {
            return try ServerNamePattern(text)
        } catch {
            findings.error(
                node.position, "\(quoted(text)) is not a server name, *.suffix or *: \(error.explanation)")
            return nil
        }
    }

    private func protocolName(_ node: YAMLNode) -> String? {
        guard case .scalar(let text, _) = node.content, (1...255).contains(text.utf8.count) else {
            expected("a protocol name of 1...255 bytes such as h2", node)
            return nil
        }
        return text
    }

    private func target(_ node: YAMLNode) -> RouteAction? {
        guard let to = section(node, NativeSchema.target) else { return nil }
        let given = NativeSchema.target.names.compactMap { key in to[key].map { (key: key, value: $0) } }
        guard let first = given.first else {
            if node.isEmptyCollection {
                expected(NativeSchema.target.names.map { "`\($0)`" }.joined(separator: " or "), node)
            }
            return nil
        }
        if given.count > 1 {
            findings.error(
                given[1].value.position, "a route goes to either `\(first.key)` or `\(given[1].key)`, not both")
            return nil
        }
        switch first.key {
        case "cluster": return text(first.value, "the name of a cluster").map { .cluster($0) }
        case "clusters": return split(first.value)
        case "server_name": return dynamicForward(first.value).map { .forward($0) }
        default:
            let isProxy = first.key == "proxy_destination"
            let shape = isProxy ? NativeSchema.proxyDestination : NativeSchema.originalDestination
            guard let section = section(first.value, shape) else { return nil }
            let options = upstreamOptions(section)
            return isProxy ? .proxyDestination(options) : .originalDestination(options)
        }
    }

    /// `[ { name: a, weight: 80 }, { name: b, weight: 20 } ]`.
    private func split(_ node: YAMLNode) -> RouteAction? {
        if node.isEmptyCollection {
            expected("at least one cluster such as { name: a, weight: 80 }", node)
            return nil
        }
        return items(node, of: "clusters such as { name: a, weight: 80 }", clusterShare).map { .split($0) }
    }

    private func clusterShare(_ node: YAMLNode) -> ClusterShare? {
        guard let section = section(node, NativeSchema.clusterShare) else { return nil }
        guard let name = section["name"] else {
            findings.error(node.position, "an entry of to.clusters has no `name`")
            return nil
        }
        let weight = section["weight"].map { integer($0, ClusterShare.weightRange) } ?? 1
        guard let name = text(name, "the name of a cluster"), let weight else { return nil }
        return ClusterShare(cluster: name, weight: weight)
    }

    private func dynamicForward(_ node: YAMLNode) -> DynamicForward? {
        guard let section = section(node, NativeSchema.serverName) else { return nil }
        guard let portNode = section["port"] else {
            findings.error(node.position, "to.server_name has no `port`: a number, or listener")
            return nil
        }
        let options = upstreamOptions(section)
        if case .scalar("listener", _) = portNode.content { return DynamicForward(port: .listener, upstream: options) }
        guard case .scalar(let text, _) = portNode.content, let port = decimal(text), (1...65535).contains(port) else {
            expected("a port 1...65535, or listener", portNode)
            return nil
        }
        return DynamicForward(port: .fixed(UInt16(port)), upstream: options)
    }

    private func denial(_ node: YAMLNode) -> RouteAction? {
        let choices: [(String, Denial)] = [
            ("unrecognized_name", .unrecognizedName), ("access_denied", .accessDenied), ("reset", .reset),
            ("close", .close),
        ]
        return word(node, choices).map { .deny($0) }
    }
}
