import WeirModel
import WeirNet

extension ManifestLowering {
    func readDestinationRules() -> IstioRules {
        var rules = IstioRules()
        for (manifest, spec) in istio("DestinationRule") {
            let selector = spec.fields("workloadSelector")?.labels("matchLabels") ?? [:]
            guard isForThisWorkload(manifest, selector) else { continue }
            guard let host = spec.text("host") else {
                spec.error(spec.position, "host", "a DestinationRule has a host")
                continue
            }
            let isWildcard = host.value.hasPrefix("*")
            let name =
                isWildcard ? host.value.lowercased() : qualified(host, spec, namespace: manifest.namespace)
            readExportTo(spec, "it holds")
            var rule = IstioRules.Rule(manifest, spec, own: settings.workloadLabels)
            rule.isAtHome = catalogue.services[name]?.namespace == manifest.namespace
            rules.add(rule, host: name)
        }
        return rules
    }
}

/// What DestinationRules say, by host.
struct IstioRules {
    struct Rule {
        let manifest: Manifest
        let policy: TrafficPolicy
        let subsets: [String: (labels: [String: String], policy: TrafficPolicy?)]
        /// Whether it is in the namespace of the host's service.
        var isAtHome = false

        init(_ manifest: Manifest, _ spec: ManifestFields, own: [String: String]?) {
            self.manifest = manifest
            policy = spec.fields("trafficPolicy").map { TrafficPolicy($0, own: own) } ?? TrafficPolicy()
            var subsets: [String: (labels: [String: String], policy: TrafficPolicy?)] = [:]
            for subset in spec.list("subsets") {
                guard let name = subset.text("name")?.value else {
                    subset.error(subset.position, "name", "a subset has a name")
                    continue
                }
                subsets[name] = (
                    subset.labels("labels"), subset.fields("trafficPolicy").map { TrafficPolicy($0, own: own) }
                )
            }
            self.subsets = subsets
        }
    }

    private var rules: [String: [Rule]] = [:]

    /// Adds a rule; those of the namespace that the host's service is in go before others.
    mutating func add(_ rule: Rule, host: String) {
        var all = rules[host] ?? []
        all.insert(rule, at: rule.isAtHome ? all.prefix(while: \.isAtHome).count : all.count)
        rules[host] = all
        guard all.count > 1 else { return }
        rule.manifest.fields.say(
            rule.manifest.position,
            "there are \(all.count) DestinationRules for \(quoted(host)): their subsets add up, "
                + "and the trafficPolicy is that of \(all[0].manifest.title)"
        )
    }

    /// What holds for a cluster; nil: nobody says anything.
    func policy(host: String, port: UInt16, subset: String) -> TrafficPolicy? {
        guard let found = all(host), let first = found.first else { return nil }
        let narrower = found.lazy.compactMap { $0.subsets[subset] }.first?.policy
        return first.policy.merged(with: narrower, port: port)
    }

    /// What selects the members of a subset; nil: no rule knows it.
    func labels(host: String, subset: String) -> [String: String]? {
        all(host)?.lazy.compactMap { $0.subsets[subset]?.labels }.first
    }

    /// The rules for the host itself, else those for the narrowest wildcard that means it.
    private func all(_ host: String) -> [Rule]? {
        if let own = rules[host] { return own }
        guard let pattern = try? ServerNamePattern(host) else { return nil }
        return pattern.wider.lazy.compactMap { rules[$0.text] }.first
    }

    /// `outbound|443|v1|host` is a cluster of `host`.
    static func host(ofCluster name: String) -> String {
        let parts = name.split(separator: "|", omittingEmptySubsequences: false)
        return parts.count > 3 ? String(parts[3]) : name
    }
}
