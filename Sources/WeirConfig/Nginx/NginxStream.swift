import WeirModel
import WeirNet

/// Lowers a `stream` block into listeners and clusters.
///
/// Two passes, because nginx lets a directive of `stream` stand behind the servers that inherit it.
struct NginxStream {
    private let draft: ConfigurationDraft
    private let values: NginxValues
    private var findings: Findings { draft.findings }
    private var scope = NginxScope()
    private var zones: Set<String> = []
    private var maps: [String: NginxMap] = [:]
    private var upstreams: [String: NginxUpstream] = [:]
    private var upstreamOrder: [String] = []
    private var clusters: NginxClusters

    init(_ draft: ConfigurationDraft) {
        self.draft = draft
        values = NginxValues(findings: draft.findings)
        clusters = NginxClusters(draft)
    }

    consuming func read(_ stream: NginxDirective) {
        let directives = (stream.block ?? []).filter { NginxVocabulary.admits($0, at: .stream, findings) }
        for directive in directives where directive.name == "limit_conn_zone" { readZone(directive) }
        for directive in directives where directive.name == "upstream" { readUpstream(directive) }
        readMaps(directives.filter { $0.name == "map" }, used: variablesOfTargets(directives))
        let elsewhere: Set<String> = ["limit_conn_zone", "upstream", "map", "server"]
        for directive in directives where !elsewhere.contains(directive.name) {
            scope.read(directive, values, zones: zones)
        }
        for directive in directives where directive.name == "server" { readServer(directive) }
        clusters.noticeUnused(upstreamOrder.compactMap { upstreams[$0] })
    }

    private mutating func readZone(_ directive: NginxDirective) {
        let (key, zone) = (directive.arguments[0], directive.arguments[1])
        if !["$binary_remote_addr", "$remote_addr"].contains(key.text) {
            findings.error(
                key.position, "connections are counted per `$binary_remote_addr` only, not per \(quoted(key.text))")
        }
        guard let (name, value) = values.parameter(zone), name == "zone" else {
            return values.expected("zone=name:size", zone)
        }
        let label = String(value.text.prefix { $0 != ":" })
        if !zones.insert(label).inserted {
            findings.error(value.position, "zone \(quoted(label)) is defined twice")
        }
    }

    private mutating func readUpstream(_ directive: NginxDirective) {
        let upstream = NginxUpstream(directive, values)
        let key = upstream.name.lowercased()
        if let first = upstreams[key] {
            return findings.error(
                upstream.position, "upstream \(quoted(upstream.name)) repeats line \(first.position.line)")
        }
        upstreams[key] = upstream
        upstreamOrder.append(key)
    }

    /// The variables in every `proxy_pass`.
    private func variablesOfTargets(_ directives: [NginxDirective]) -> Set<String> {
        var variables: Set<String> = []
        for server in directives where server.name == "server" {
            for child in server.block ?? [] where child.name == "proxy_pass" {
                for word in child.arguments { variables.formUnion(NginxTemplate(word.text)?.variables ?? []) }
            }
        }
        return variables
    }

    /// Reads the maps that a target needs, directly or through other maps; the rest serve logs and are noticed.
    private mutating func readMaps(_ directives: [NginxDirective], used targets: Set<String>) {
        var byVariable: [String: NginxDirective] = [:]
        for directive in directives {
            let variable = directive.arguments[1]
            guard let parts = NginxTemplate(variable.text)?.parts, parts.count == 1, case .variable(let name) = parts[0]
            else {
                values.expected("a variable such as $name", variable)
                continue
            }
            if let first = byVariable[name] {
                findings.error(variable.position, "\"$\(name)\" is already defined in line \(first.position.line)")
            } else {
                byVariable[name] = directive
            }
        }
        var pending = Array(targets)
        while let name = pending.popLast() {
            guard maps[name] == nil, let directive = byVariable[name] else { continue }
            guard let map = NginxMap(directive, values) else { continue }
            maps[name] = map
            pending += map.variables
            if case .text(let source) = map.source { pending += source.variables }
        }
        for (name, directive) in byVariable.sorted(by: { $0.key < $1.key }) where maps[name] == nil {
            findings.notice(directive.position, "\"map\" of \"$\(name)\" has no effect here: no `proxy_pass` uses it")
        }
    }

    // MARK: Servers

    private mutating func readServer(_ server: NginxDirective) {
        var own = NginxScope()
        var listens: [NginxListen] = []
        var proxyPass: NginxDirective?
        for directive in server.block ?? [] where NginxVocabulary.admits(directive, at: .server, findings) {
            switch directive.name {
            case "listen":
                if let listen = NginxListen(directive, values) { listens.append(listen) }
            case "proxy_pass":
                if let first = proxyPass {
                    findings.error(directive.position, "\"proxy_pass\" repeats line \(first.position.line)")
                }
                proxyPass = directive
            default: own.read(directive, values, zones: zones)
            }
        }
        let block = server.block ?? []
        if !block.contains(where: { $0.name == "listen" }) {
            findings.error(server.position, "this server has no `listen`")
        }
        guard let proxyPass else {
            // A refused `return` or `pass` has been reported in its place.
            if !block.contains(where: { ["return", "pass", "proxy_pass"].contains($0.name) }) {
                findings.error(server.position, "this server has no `proxy_pass`")
            }
            return
        }
        let effective = own.over(scope)
        clusters.adoptGlobals(effective, proxyPass)
        addListeners(listens, effective, proxyPass)
    }

    private mutating func addListeners(_ listens: [NginxListen], _ scope: NginxScope, _ proxyPass: NginxDirective) {
        let target = proxyPass.arguments[0]
        let routing = NginxRouting(maps: maps, upstreams: upstreams, values: values)
        if scope.sslPreread != true, routing.asksHello(target) {
            return findings.error(
                target.position, "the target depends on the ClientHello: the server needs `ssl_preread on`")
        }
        var addresses: Set<String> = []
        for listen in listens {
            for address in listen.addresses {
                // `listen [::]:443 ipv6only=off` beside `listen 443` names one address twice.
                guard addresses.insert(address.description).inserted else { continue }
                var listener = NginxListener(address, listen, scope, values).listener
                guard let rules = routing.rules(target, port: address.port) else { return }
                for route in NginxRoutes(rules).routes {
                    let action = clusters.action(
                        route.target, upstreams, scope, listener: listener.name, at: route.position)
                    listener.routes.append(Route(name: route.name, match: route.match, action: action))
                    draft.locate(route: route.name, of: listener.name, at: route.position)
                }
                draft.add(listener, at: listen.position)
            }
        }
        noticeClients(scope, listens)
    }

    /// T-01: nginx lets everyone in where the file does not say; here that has to be asked for.
    private func noticeClients(_ scope: NginxScope, _ listens: [NginxListen]) {
        guard let listen = listens.first else { return }
        if scope.accessRules.isEmpty {
            findings.notice(
                listen.position,
                "only loopback and private addresses may connect: the file has no `allow`; "
                    + "`allow all;` lets everyone in")
        } else if !scope.accessRules.contains(where: { $0.block == .all }) {
            findings.notice(
                listen.position,
                "an address that no `allow` or `deny` names may connect from loopback and private "
                    + "networks only; `allow all;` or `deny all;` at the end says otherwise")
        }
    }
}

extension NginxRouting {
    /// Whether the target depends on what the ClientHello says.
    func asksHello(_ word: NginxWord) -> Bool {
        var seen: Set<String> = []
        var pending = NginxTemplate(word.text)?.variables ?? []
        while let name = pending.popLast() {
            if name.hasPrefix("ssl_preread_") { return true }
            guard seen.insert(name).inserted, let map = maps[name] else { continue }
            switch map.source {
            case .serverName, .alpn: return true
            case .text(let source): pending += source.variables
            }
            pending += map.variables
        }
        return false
    }
}
