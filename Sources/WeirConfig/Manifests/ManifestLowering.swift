import WeirModel
import WeirNet

/// Makes one configuration of all manifests together: first what there is (pods, nodes, services), then what is to be
/// done with it (routes, policies), and the listeners last.
///
/// What each kind means stands in an extension in the folder of the project that the kind comes from.
final class ManifestLowering {
    let draft: ConfigurationDraft
    let settings: ManifestSettings
    let manifests: ManifestSet
    /// Labels of the namespaces; without a document one has its name only.
    var namespaces: [String: [String: String]] = [:]
    var pods: [Pod] = []
    var nodes: [Node] = []
    /// By name; to be asked once the nodes have been read.
    lazy var nodeLabels = Dictionary(nodes.map { ($0.name, $0.labels) }, uniquingKeysWith: { first, _ in first })
    var catalogue: ServiceCatalogue
    var clusters: ServiceClusters
    var listeners: ManifestListeners

    var findings: Findings { draft.findings }

    /// A workload: its labels select it, its addresses are where its connections come from and go to.
    struct Pod {
        var name: String
        var namespace: String
        var labels: [String: String]
        var addresses: [IPAddress]
        /// By name: its containers' ports.
        var ports: [String: UInt16]
        /// The name of its node; empty where nothing is said.
        var node: String
        /// It is on the network of its node: what comes from its address may be anything on that.
        var hasNodesAddress = false
        var isReady: Bool
    }

    struct Node {
        var name: String
        var labels: [String: String]
        /// Internal ones first.
        var addresses: [IPAddress]
    }

    init(_ manifests: ManifestSet, _ settings: ManifestSettings, into draft: ConfigurationDraft) {
        self.draft = draft
        self.settings = settings
        self.manifests = manifests
        catalogue = ServiceCatalogue(clusterDomain: settings.clusterDomain)
        clusters = ServiceClusters(catalogue, draft)
        listeners = ManifestListeners(address: settings.address)
    }

    /// Adds everything to the draft.
    func run() {
        readNamespaces()
        readNodes()
        readPods()
        readServices()
        let workloads = readIstioServices()
        // From here on what there is, is known.
        clusters.catalogue = catalogue
        let rules = readIstioPolicies()
        listeners.reader = .streamServices
        lowerConfigMaps()
        listeners.reader = .ingress
        lowerIngresses()
        listeners.reader = .gatewayAPI
        lowerGatewayAPI()
        listeners.reader = .istio
        readIstioRoutes(workloads, rules)
        readCiliumPolicies()
        listeners.finish(draft, settings)
        for manifest in manifests.all { manifest.reportUnread() }
        manifests.reportPassedOver(findings)
    }

    /// The labels that a namespace is selected by.
    func labels(ofNamespace name: String) -> [String: String] {
        var labels = namespaces[name] ?? [:]
        labels["kubernetes.io/metadata.name"] = name
        return labels
    }
}
