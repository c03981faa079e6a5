import WeirModel
import WeirNet

/// The configuration as it grows file by file, and where each of its parts was written.
final class ConfigurationDraft {
    var configuration = Configuration()
    let findings: Findings
    /// Every file read so far, includes too: what a reload has to watch.
    var files: [String] = []
    /// By the words that `ConfigurationFault.part` uses.
    private var positions: [String: SourcePosition] = [:]
    private var clusterIndices: [String: Int] = [:]

    init(_ findings: Findings) { self.findings = findings }

    /// Adds a cluster; one whose name is taken is reported at both places and left out.
    func add(_ cluster: Cluster, at position: SourcePosition) {
        guard declare(Self.part(cluster: cluster.name), at: position) else { return }
        clusterIndices[cluster.name] = configuration.clusters.count
        configuration.clusters.append(cluster)
    }

    /// Adds a listener; one whose name is taken is reported at both places and left out.
    func add(_ listener: Listener, at position: SourcePosition) {
        if declare(Self.part(listener: listener.name), at: position) { configuration.listeners.append(listener) }
    }

    /// Records where `part` stands; false, and reported, where it stands somewhere already.
    func declare(_ part: String, at position: SourcePosition) -> Bool {
        if let first = positions[part] {
            findings.error(position, "\(part) is already defined at \(first)")
            return false
        }
        positions[part] = position
        return true
    }

    /// Records where `part` stands, over what was known before.
    func locate(_ part: String, at position: SourcePosition) { positions[part] = position }

    func cluster(named name: String) -> Cluster? { clusterIndices[name].map { configuration.clusters[$0] } }

    static func part(cluster name: String) -> String { "cluster \"\(name)\"" }
    static func part(listener name: String) -> String { "listener \"\(name)\"" }
    static func part(listener: String, route: String) -> String { "\(part(listener: listener)), route \"\(route)\"" }

    /// Reports what no single value shows: contradictions between parts, and open proxies.
    func finish(_ files: [String]) {
        for fault in configuration.faults() {
            // What is missing may be what an error was reported for.
            if findings.hasErrors, fault.message.hasPrefix("has no ") { continue }
            let listenerPart = fault.part.split(separator: ", route ").first.map(String.init) ?? fault.part
            let position = positions[fault.part] ?? positions[listenerPart]
            findings.error(position ?? .whole(files.last ?? ""), fault.description)
        }
        if configuration.listeners.isEmpty, !findings.hasErrors {
            findings.error(
                .whole(files.last ?? ""), "nothing is listened on: a configuration has at least one listener")
        }
        for listener in configuration.listeners where listener.clients.reachesPublicAddresses {
            let position = positions[Self.part(listener: listener.name)] ?? .whole(files.last ?? "")
            reportOpenProxy(listener, at: position)
        }
    }

    /// T-01: whoever opens a dynamic forward to the world says so twice, and is told.
    private func reportOpenProxy(_ listener: Listener, at position: SourcePosition) {
        var isOpen = false
        for route in listener.routes {
            guard case .forward = route.action, route.match.clients.isEmpty else { continue }
            if route.match.serverNames.isEmpty {
                let part = Self.part(listener: listener.name, route: route.name)
                findings.error(
                    positions[part] ?? position,
                    "\(part) would forward public clients to any name: say so with `match: { server_names: [\"*\"] }`, "
                        + "or list the names")
            } else if route.match.serverNames.contains(.any) {
                isOpen = true
            }
        }
        if isOpen {
            findings.warning(
                position,
                "\(Self.part(listener: listener.name)) on \(listener.address) is an open proxy: "
                    + "any client reaches any public name through it")
        }
    }
}

extension ClientPolicy {
    /// Whether so much of the public address space may connect that the listener counts as open to the world.
    var reachesPublicAddresses: Bool {
        if otherwiseAllow { return true }
        return rules.contains { rule in
            let isPrivate = ClientPolicy.privateNetworks.rules.contains {
                $0.block.contains(rule.block.base) && $0.block.prefixLength <= rule.block.prefixLength
            }
            return rule.allow && !isPrivate && rule.block.prefixLength < (rule.block.base.family == .v4 ? 8 : 16)
        }
    }
}
