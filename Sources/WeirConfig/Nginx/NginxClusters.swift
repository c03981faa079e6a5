import WeirModel
import WeirNet

/// Makes clusters of upstreams and of plain targets, and carries over what nginx says per server and Weir once.
///
/// A cluster has the connect settings of the server that uses it. Two servers that use one upstream with different
/// settings get a cluster each; the second is named for its listener.
struct NginxClusters {
    private let draft: ConfigurationDraft
    private var findings: Findings { draft.findings }
    private var known: [Use: String] = [:]
    private var usedTargets: Set<String> = []
    private var resolver: NginxScope.Resolver?
    private var accessLog: LogSettings.Target?

    private struct Use: Hashable {
        var target: String
        var options: String
    }

    init(_ draft: ConfigurationDraft) { self.draft = draft }

    mutating func action(
        _ target: NginxTarget, _ upstreams: [String: NginxUpstream], _ scope: NginxScope, listener: String,
        at position: SourcePosition
    ) -> RouteAction {
        switch target {
        case .refuse:
            return .deny(.close)
        case .serverName(.listener):
            return .forward(DynamicForward(port: .listener, upstream: scope.upstreamOptions))
        case .serverName(.fixed(let port)):
            return .forward(DynamicForward(port: .fixed(port), upstream: scope.upstreamOptions))
        case .cluster(let key):
            return .cluster(clusterName(key, upstreams[key], scope.upstreamOptions, listener, position))
        }
    }

    private mutating func clusterName(
        _ key: String, _ upstream: NginxUpstream?, _ options: UpstreamOptions, _ listener: String,
        _ target: SourcePosition
    ) -> String {
        let use = Use(target: key, options: "\(options)")
        if let name = known[use] { return name }
        var cluster = Cluster(name: upstream?.name ?? key, endpoints: upstream?.endpoints ?? [])
        if upstream == nil, let endpoint = Endpoint(key) { cluster.endpoints = [endpoint] }
        // nginx never rests the only server of a group.
        if cluster.endpoints.count == 1 { cluster.endpoints[0].maxFails = 0 }
        cluster.upstream = options
        cluster.balance = upstream?.balance ?? .roundRobin
        if let slowStart = upstream?.slowStart, slowStart > .zero { cluster.slowStart = slowStart }
        let isSecondUse = !usedTargets.insert(key).inserted
        if upstream == nil || isSecondUse {
            // Another file may have made the same cluster from the same target.
            if draft.cluster(named: cluster.name) == cluster {
                known[use] = cluster.name
                return cluster.name
            }
            cluster.name = unusedName(cluster.name, listener)
        }
        known[use] = cluster.name
        draft.add(cluster, at: upstream?.position ?? target)
        noticeGuard(cluster, upstream?.position ?? target)
        return cluster.name
    }

    private func unusedName(_ name: String, _ listener: String) -> String {
        guard draft.cluster(named: name) != nil else { return name }
        let label = "\(name)@\(listener)"
        var unused = label
        var number = 2
        while draft.cluster(named: unused) != nil {
            unused = "\(label)-\(number)"
            number += 1
        }
        return unused
    }

    /// T-02: what a name resolves to is checked here, which nginx does not do.
    private func noticeGuard(_ cluster: Cluster, _ position: SourcePosition) {
        let names = cluster.endpoints.compactMap { endpoint in
            if case .name(let name) = endpoint.host { return name.description }
            return nil
        }
        guard let name = names.first else { return }
        findings.notice(
            position,
            "\(quoted(name)) has to resolve to public addresses: private ones need `destinations.allow` "
                + "in a second, native file")
    }

    func noticeUnused(_ upstreams: [NginxUpstream]) {
        for upstream in upstreams where !usedTargets.contains(upstream.name.lowercased()) {
            findings.notice(upstream.position, "upstream \(quoted(upstream.name)) has no effect: no server uses it")
        }
    }

    // MARK: Settings that Weir has once

    /// Takes the name servers and the access log of a server; a second server has to agree.
    mutating func adoptGlobals(_ scope: NginxScope, _ proxyPass: NginxDirective) {
        if let found = scope.resolver {
            if let first = resolver {
                if (found.servers, found.valid, found.families) != (first.servers, first.valid, first.families) {
                    findings.error(
                        found.position, "another `resolver` than in line \(first.position.line): all servers share one")
                }
            } else {
                resolver = found
                draft.locate("resolver", at: found.position)
                draft.configuration.resolver.servers = found.servers
                draft.configuration.resolver.families = found.families
                if let valid = found.valid {
                    draft.configuration.resolver.ttlMin = valid
                    draft.configuration.resolver.ttlMax = valid
                }
            }
        } else if NginxTemplate(proxyPass.arguments[0].text)?.variables.isEmpty == false {
            findings.notice(proxyPass.position, "no `resolver`: names are asked of the system's name servers")
        }
        if let timeout = scope.resolverTimeout {
            draft.configuration.resolver.timeout = max(
                timeout, hasTimeout ? draft.configuration.resolver.timeout : .zero)
            hasTimeout = true
        }
        if let (target, position) = scope.accessLog {
            if let first = accessLog, first != target {
                findings.error(position, "another `access_log` than before: all servers share one")
            }
            accessLog = target
            draft.configuration.log.access = target
            draft.locate("log", at: position)
        }
    }

    /// Whether a server has set the resolver's timeout; the longest counts.
    private var hasTimeout = false
}
