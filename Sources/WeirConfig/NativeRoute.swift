import WeirModel
import WeirNet

/// The `routes` of a listener.
extension NativeReader {
    /// `index` counts the listener's routes from zero; it names a route that has no name.
    func readRoute(_ node: YAMLNode, _ index: Int, into listener: inout Listener) {
        let keys = ["name", "match", "to", "deny"]
        guard let section = section(node, "a route", keys: keys, later: ["source"]) else { return }
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
        let part = ConfigurationDraft.part(listener: listener.name, route: name)
        let position = (section["to"] ?? section["name"])?.position ?? node.position
        guard draft.declare(part, at: position), let action else { return }
        listener.routes.append(Route(name: name, match: match, action: action))
    }

    private func routeMatch(_ node: YAMLNode) -> RouteMatch {
        var match = RouteMatch()
        guard let section = section(node, "match", keys: ["server_names", "clients", "alpn"]) else { return match }
        // An empty list would match everything, the opposite of what it says.
        if let names = section["server_names"] { match.serverNames = constraint(names, "server names", serverName) }
        if let clients = section["clients"] { match.clients = constraint(clients, "blocks of addresses", block) }
        if let alpn = section["alpn"] { match.alpn = constraint(alpn, "protocol names", protocolName) }
        return match
    }

    private func constraint<Value>(_ node: YAMLNode, _ what: String, _ read: (YAMLNode) -> Value?) -> [Value] {
        if node.isEmptyCollection { expected("at least one of the \(what); leave the key out to match all", node) }
        return items(node, of: what, read) ?? []
    }

    private func serverName(_ node: YAMLNode) -> ServerNamePattern? {
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
        let keys = ["cluster", "server_name"]
        guard let to = section(node, "to", keys: keys, later: ["original_destination"]) else { return nil }
        switch (to["cluster"], to["server_name"]) {
        case (let cluster?, nil):
            return text(cluster, "the name of a cluster").map { .cluster($0) }
        case (nil, let forward?):
            return dynamicForward(forward).map { .forward($0) }
        case (nil, nil):
            if node.isEmptyCollection { expected("`cluster` or `server_name`", node) }
            return nil
        case (_?, let forward?):
            findings.error(forward.position, "a route goes to either a `cluster` or the `server_name`, not both")
            return nil
        }
    }

    private func dynamicForward(_ node: YAMLNode) -> DynamicForward? {
        let keys = ["port", "connect", "send_proxy", "source_addresses"]
        guard let section = section(node, "to.server_name", keys: keys) else { return nil }
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
