import WeirModel
import WeirNet

/// What manifests leave open and native YAML says for them, in its section `manifests`.
struct ManifestSettings {
    /// The host of the listeners that manifests ask for; nil: all addresses.
    var address: IPAddress?
    /// Who may connect to them.
    var clients = ClientPolicy.privateNetworks
    /// The labels of the workload that this process is; only what selects them is served. nil: everything is.
    var workloadLabels: [String: String]?
    /// The DNS domain of the cluster.
    var clusterDomain = "cluster.local"
    /// The name of the node that this process runs on, among the Node documents.
    var node: String?
    /// Where the gateways of an egress group listen; nil: this process is the gateway.
    var gatewayPort: UInt16?

    /// Listeners of native YAML that serve what manifests ask for at a port, by that port.
    var listeners: [UInt16: [(index: Int, position: SourcePosition)]] = [:]
}
