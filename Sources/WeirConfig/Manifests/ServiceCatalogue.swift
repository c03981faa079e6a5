import WeirModel
import WeirNet

/// The services that manifests describe, by fully qualified host: those of Kubernetes and those that ServiceEntries add.
struct ServiceCatalogue {
    private(set) var services: [String: Service] = [:]
    let clusterDomain: String

    init(clusterDomain: String) { self.clusterDomain = clusterDomain }

    mutating func add(_ service: Service) { services[service.host] = service }

    /// What `host`, as a document in `namespace` writes it, is called in full: `web` and `web.prod` are services of the
    /// cluster, anything longer stands for itself.
    func qualified(_ host: String, namespace: String) -> String {
        let name = host.lowercased()
        let labels = name.split(separator: ".", omittingEmptySubsequences: false)
        let suffix = "svc.\(clusterDomain)"
        // Before anything else: nobody gets at it by calling a service of theirs so.
        if labels.count == 1 { return "\(name).\(namespace).\(suffix)" }
        if services[name] != nil { return name }
        switch labels.count {
        case 2:
            let candidate = "\(name).\(suffix)"
            return services[candidate] == nil ? name : candidate
        case 3 where labels[2] == "svc": return "\(name).\(clusterDomain)"
        default: return name
        }
    }

    func service(_ host: String, namespace: String) -> Service? { services[qualified(host, namespace: namespace)] }

    /// Whether the name belongs to a service of the cluster, described or not.
    func isClusterLocal(_ qualified: String) -> Bool { qualified.hasSuffix(".svc.\(clusterDomain)") }
}

/// A service: a name, its ports, and who serves them.
struct Service {
    enum Resolution {
        /// The members' addresses are written down.
        case fixed
        /// The members', or where there are none the host's, names are asked for.
        case names
        /// The very name that the client asks for is (wildcard hosts).
        case clientsName
        /// Wherever the client was going.
        case originalDestination
    }

    struct Port {
        var number: UInt16
        var name: String
        /// Upper case: `TCP`, `TLS`, `HTTPS`, `HTTP`, `UDP`.
        var transport: String
        /// Members that have no port of this name of their own serve it here; nil: at `number`.
        var target: UInt16?
        /// What the document calls the members' port, a number or a name; empty where nothing is said.
        var targetText = ""
    }

    struct Member {
        var host: Endpoint.Host
        /// By name of the service's port: where this member serves it.
        var ports: [String: UInt16] = [:]
        /// Whether `ports` are all that it serves.
        var servesItsPortsOnly = false
        var labels: [String: String] = [:]
        var weight = 1
        var isReady = true
    }

    /// Fully qualified, lower case; may begin with `*.`.
    var host: String
    var namespace: String
    var resolution: Resolution
    var ports: [Port]
    var members: [Member] = []
    /// One address that stands for all members (ClusterIP); nil: none.
    var virtualAddress: IPAddress?
    /// It has no address of its own: its name leads to its members.
    var isHeadless = false
    /// Each client keeps its member (sessionAffinity).
    var keepsClients = false
    /// A name that stands for the service (ExternalName); nil: none.
    var externalName: ServerName?
    /// Whether its names and addresses belong to the cluster, so that private ones are to be expected.
    var isInternal: Bool
    var position: SourcePosition

    func port(_ number: UInt16) -> Port? { ports.first { $0.number == number } }
    func port(named name: String) -> Port? { ports.first { $0.name == name } }
}
