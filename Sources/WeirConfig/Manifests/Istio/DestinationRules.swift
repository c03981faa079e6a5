import WeirModel
import WeirNet

extension ManifestLowering {
    func readDestinationRules() -> IstioRules {
        let rules = IstioRules(catalogue)
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
            rules.add(IstioRules.Rule(manifest, spec, own: settings.workloadLabels), host: name)
        }
        return rules
    }
}

/// What DestinationRules say, by host and by the namespace that says it.
final class IstioRules {
    struct Rule {
        let manifest: Manifest
        let policy: TrafficPolicy?
        let subsets: [String: (labels: [String: String], policy: TrafficPolicy?)]

        init(_ manifest: Manifest, _ spec: ManifestFields, own: [String: String]?) {
            self.manifest = manifest
            policy = spec.fields("trafficPolicy").map { TrafficPolicy($0, own: own) }
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

    /// The rules that hold where documents of one namespace lead to one host: all of one namespace.
    struct Choice {
        /// The client's namespace where it alone has these rules; nil: they hold for all.
        let owner: String?
        fileprivate let rules: [Rule]

        func policy(port: UInt16, subset: String) -> TrafficPolicy {
            let policy = rules.lazy.compactMap(\.policy).first ?? TrafficPolicy()
            let narrower = rules.lazy.compactMap { $0.subsets[subset] }.first?.policy
            return policy.merged(with: narrower, port: port)
        }

        /// What selects the members of a subset; nil: no rule knows it.
        func labels(subset: String) -> [String: String]? {
            rules.lazy.compactMap { $0.subsets[subset]?.labels }.first
        }
    }

    private let catalogue: ServiceCatalogue
    /// By host, then by namespace; the oldest first.
    private var rules: [String: [String: [Rule]]] = [:]
    /// Those that had a say somewhere.
    private var used: Set<ObjectIdentifier> = []
    /// Those that had none, and the first host that they were in question for.
    private var strangers: [ObjectIdentifier: (manifest: Manifest, host: String)] = [:]

    init(_ catalogue: ServiceCatalogue) { self.catalogue = catalogue }

    func add(_ rule: Rule, host: String) {
        let namespace = rule.manifest.namespace
        rules[host, default: [:]][namespace, default: []].append(rule)
        guard let all = rules[host]?[namespace], all.count > 1 else { return }
        let first = all.first { $0.policy != nil }
        rule.manifest.fields.say(
            rule.manifest.position,
            "there are \(all.count) DestinationRules for \(quoted(host)): their subsets add up"
                + (first.map { ", and the trafficPolicy is that of \($0.manifest.title)" } ?? "")
        )
    }

    /// What holds for `host` where a document of namespace `client` leads to it; nil: nobody says anything.
    ///
    /// As in Istio the client's namespace is asked first, then that of the host's service, then the root namespace, each for
    /// the host itself and then for the narrowest wildcard that means it. No other namespace has a say.
    func choice(host: String, _ service: Service?, client: String) -> Choice? {
        let wider = (try? ServerNamePattern(host))?.wider.map(\.text) ?? []
        let found = ([host] + wider).compactMap { rules[$0] }
        if found.isEmpty { return nil }
        let home = service?.namespace ?? namespace(ofService: host)
        let asked = [client, home, Istio.rootNamespace].compactMap { $0 }
        for (namespace, rules) in found.lazy.joined() {
            for rule in rules {
                let id = ObjectIdentifier(rule.manifest)
                if asked.contains(namespace) {
                    used.insert(id)
                } else if strangers[id] == nil {
                    strangers[id] = (rule.manifest, host)
                }
            }
        }
        for namespace in asked {
            guard let rules = found.lazy.compactMap({ $0[namespace] }).first else { continue }
            let isEverybodys = namespace == home || namespace == Istio.rootNamespace
            return Choice(owner: isEverybodys ? nil : namespace, rules: rules)
        }
        return nil
    }

    /// Says which rules were in question for a host and hold for nobody.
    func reportStrangers() {
        for (manifest, host) in strangers.filter({ !used.contains($0.key) }).values.sorted(by: {
            $0.manifest.path < $1.manifest.path
        }) {
            manifest.fields.unsupported(
                at: manifest.position,
                "namespace \(manifest.namespace) is neither that of who leads to \(quoted(host)), nor that of its service, "
                    + "nor \(Istio.rootNamespace): it is not used")
        }
    }

    /// The namespace in the name of a service of the cluster that nobody describes.
    private func namespace(ofService host: String) -> String? {
        guard catalogue.isClusterLocal(host) else { return nil }
        return host.split(separator: ".", omittingEmptySubsequences: false).dropFirst().first.map(String.init)
    }
}
