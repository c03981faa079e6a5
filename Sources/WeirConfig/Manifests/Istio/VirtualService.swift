import WeirModel
import WeirNet

/// A VirtualService: for which hosts, and at which gateways.
struct VirtualService {
    let manifest: Manifest
    let spec: ManifestFields
    /// As written, names of services in short included.
    let hostNames: [String]
    let hosts: [ServerNamePattern]
    let gateways: [ManifestText]

    /// nil, and reported, where it has no hosts.
    init?(_ manifest: Manifest, _ spec: ManifestFields, _ lowering: ManifestLowering) {
        self.manifest = manifest
        self.spec = spec
        let written = spec.texts("hosts")
        hostNames = written.map(\.value)
        hosts = written.compactMap { text in
            // Mesh services may be addresses; they match no name.
            if CIDR(text.value) != nil { return nil }
            let isWildcard = text.value.hasPrefix("*")
            let name = isWildcard ? text.value : lowering.qualified(text, spec, namespace: manifest.namespace)
            return spec.pattern(ManifestText(value: name, position: text.position), "hosts")
        }
        let gateways = spec.texts("gateways")
        self.gateways = gateways.isEmpty ? [ManifestText(value: Istio.mesh, position: spec.position)] : gateways
        lowering.readExportTo(spec, "it holds")
        if written.isEmpty {
            spec.error(spec.position, "hosts", "a VirtualService has at least one host")
            return nil
        }
    }

    /// A rule of `tls` or `tcp`.
    struct Rule {
        enum Kind: String {
            case tls
            case tcp
        }

        let kind: Kind
        let index: Int
        let fields: ManifestFields
    }

    /// Who connects from where, as far as documents say.
    struct Source {
        let namespace: String
        let labels: [String: String]
        let addresses: [IPAddress]
    }

    /// Everybody of whom documents say where they connect from.
    struct Sources {
        private let all: [Source]
        private let byNamespace: [String: [Source]]

        init(_ all: [Source]) {
            self.all = all
            byNamespace = Dictionary(grouping: all, by: \.namespace)
        }

        /// Those of a namespace; nil: of all.
        func of(_ namespace: String?) -> [Source] { namespace.map { byNamespace[$0] ?? [] } ?? all }
    }

    /// A destination and its weight.
    struct Share {
        let fields: ManifestFields
        let host: ManifestText
        let port: UInt16?
        let subset: String
        let weight: Int
        /// Whether every connection of its rule has a server name.
        var isBehindHello: Bool

        /// nil, and reported, where it names no host.
        init?(_ fields: ManifestFields, behindHello: Bool) {
            guard let destination = fields.fields("destination"), let host = destination.text("host") else {
                fields.error(fields.position, "destination", "a destination has a host")
                return nil
            }
            self.fields = fields
            self.host = host
            port = destination.fields("port")?.port("number")
            subset = destination.text("subset")?.value ?? ""
            weight = fields.integer("weight", ClusterShare.weightRange) ?? 0
            isBehindHello = behindHello
        }

        /// What documents name that want connections refused: no service is called so.
        var isBlackHole: Bool { host.value == "localhost" || host.value.hasSuffix(".localhost") }
    }

    /// Where a route leads, and what bounds it.
    struct Target {
        var action: RouteAction
        var limits = RouteLimits()
    }

    /// What connections a rule takes.
    struct Condition {
        let port: UInt16?
        /// Of `tls`: not empty.
        var names: [ServerNamePattern] = []
        var destinations: [CIDR] = []
        var clients: [CIDR] = []
        /// nil: those of the VirtualService.
        var gateways: [ManifestText]?
        let position: SourcePosition
    }
}

extension VirtualService.Condition {
    /// nil, and reported, where nobody can meet it; without fields everybody does.
    init?(
        _ fields: ManifestFields?, _ kind: VirtualService.Rule.Kind, _ service: VirtualService,
        _ sources: VirtualService.Sources
    ) {
        port = fields?.port("port")
        position = fields?.position ?? service.spec.position
        guard let fields else { return }
        let gateways = fields.texts("gateways")
        if !gateways.isEmpty { self.gateways = gateways }
        destinations = fields.blocks("destinationSubnets")
        // What is no block was reported; without it the match would mean everything.
        if fields.has("destinationSubnets"), destinations.isEmpty { return nil }
        if fields.has("port"), port == nil { return nil }
        if kind == .tls {
            names = Self.names(fields, service)
            if names.isEmpty { return nil }
        }
        guard let clients = Self.clients(fields, sources) else { return nil }
        self.clients = clients
    }

    private static func names(_ fields: ManifestFields, _ service: VirtualService) -> [ServerNamePattern] {
        let written = fields.texts("sniHosts")
        if written.isEmpty { fields.error(fields.position, "sniHosts", "a match of `tls` names at least one host") }
        return written.compactMap { text in
            guard let pattern = fields.pattern(text, "sniHosts") else { return nil }
            guard service.hosts.contains(where: { $0.covers(pattern) }) else {
                fields.error(
                    text.position, "sniHosts", "\(quoted(text.value)) is in none of the VirtualService's hosts")
                return nil
            }
            return pattern
        }
    }

    /// The addresses of whom the match is for; empty: for everybody; nil, and reported: nobody's are known.
    private static func clients(_ fields: ManifestFields, _ sources: VirtualService.Sources) -> [CIDR]? {
        let labels = fields.labels("sourceLabels")
        let namespace = fields.text("sourceNamespace")?.value
        var subnets: [CIDR] = []
        if let text = fields.text("sourceSubnet") {
            guard let block = fields.block(text, "sourceSubnet") else { return nil }
            subnets = [block]
        }
        if labels.isEmpty, namespace == nil { return subnets }
        let selector = LabelSelector(labels: labels)
        var addresses = sources.of(namespace).filter { selector.selects($0.labels) }.flatMap(\.addresses)
        if !subnets.isEmpty { addresses = addresses.filter { subnets[0].contains($0) } }
        if addresses.isEmpty {
            let key = labels.isEmpty ? "sourceNamespace" : "sourceLabels"
            fields.unsupported(
                key, "no Pod or WorkloadEntry that it means has an address here: the match takes no connection")
            return nil
        }
        var seen: Set<IPAddress> = []
        return addresses.filter { seen.insert($0).inserted }.map { CIDR($0, prefixLength: $0.bitCount) }
    }
}
