import WeirModel
import WeirNet

/// networking.istio.io, whichever version a document names: v1alpha3, v1beta1 and v1 have the same fields.
enum Istio {
    static let group = "networking.istio.io"
    /// The word that stands for the sidecars of all workloads where a gateway is named.
    static let mesh = "mesh"
    /// Whose DestinationRules and EnvoyFilters hold for the proxies of all namespaces.
    static let rootNamespace = "istio-system"
}

extension ManifestLowering {
    /// Adds what Istio's documents know of services to the catalogue; gives the workloads that are no Pods.
    func readIstioServices() -> [IstioWorkload] {
        let workloads = readWorkloadEntries()
        readServiceEntries(workloads)
        return workloads
    }

    /// Has DestinationRules say how their hosts are connected to, whoever routes there.
    func readIstioPolicies() -> IstioRules {
        let rules = readDestinationRules()
        clusters.policy = { host, service, client in
            rules.choice(host: host, service, client: client).map { choice in
                ClusterPolicy(
                    owner: choice.owner, subsetLabels: choice.labels(subset:),
                    apply: { choice.policy(port: $1, subset: $2).apply(to: &$0, service) })
            }
        }
        return rules
    }

    /// Adds the listeners and routes that Istio's documents ask for.
    func readIstioRoutes(_ workloads: [IstioWorkload], _ rules: IstioRules) {
        let gateways = readIstioGateways()
        var routes = IstioRoutes()
        readVirtualServices(gateways, workloads, rules, &routes)
        let served = gateways.filter { $0.value != nil }.keys.compactMap { $0.split(separator: "/").first }
        let others = manifests.all("Gateway", Self.gatewayGroup).map(\.namespace)
        readEnvoyFilters(Set(served.map(String.init) + others), rules, &routes)
        routes.finish(&listeners, findings)
        rules.reportStrangers()
    }

    /// The documents of a kind, the oldest first as Istio takes them, each with its `spec`; one without is an error.
    func istio(_ kind: String) -> [(manifest: Manifest, spec: ManifestFields)] {
        Manifest.oldestFirst(manifests.all(kind, Istio.group)).compactMap { manifest in
            manifest.spec().map { (manifest, $0) }
        }
    }

    /// Whether the document is meant for this process: `labels` select the workloads of proxies. Where
    /// `manifests.workload_labels` says nothing every document is.
    func isForThisWorkload(_ manifest: Manifest, _ labels: [String: String]) -> Bool {
        guard let own = settings.workloadLabels else { return true }
        guard !LabelSelector(labels: labels).selects(own) else { return true }
        manifest.fields.say(manifest.position, "selects other workloads than this one, and is passed over")
        manifest.fields.passOver()
        return false
    }

    /// What a host is called in full; said where Istio would take it as it stands.
    func qualified(_ host: ManifestText, _ fields: ManifestFields, namespace: String) -> String {
        let qualified = catalogue.qualified(host.value, namespace: namespace)
        if host.value.contains("."), qualified != host.value.lowercased() {
            fields.say(
                host.position,
                "\(quoted(host.value)) is taken for \(quoted(qualified)); Istio completes names without a dot only")
        }
        return qualified
    }

    /// Reads `exportTo`: only what is exported to everybody is what it says here.
    func readExportTo(_ fields: ManifestFields, _ what: String) {
        for scope in fields.texts("exportTo") where scope.value != "*" {
            fields.say(
                scope.position, "exportTo \(quoted(scope.value)): \(what) for the documents of all namespaces here")
        }
    }
}
