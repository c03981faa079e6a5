import WeirModel
import WeirNet

/// CiliumEgressNATPolicy (v2alpha1, also with the `egressGroups` of Cilium Enterprise) and CiliumEgressGatewayPolicy (v2):
/// whose connections to which destinations leave from which address, or by which gateways.
///
/// A policy opens no listener: Cilium catches connections in the kernel, here they come to a listener of native YAML.
extension ManifestLowering {
    func readCiliumPolicies() {
        var table = CiliumEgressTable()
        let workloads = CiliumWorkloads(self)
        let kinds = ["CiliumEgressNATPolicy", "CiliumEgressGatewayPolicy"]
        for manifest in Manifest.oldestFirst(kinds.flatMap { manifests.all($0, "cilium.io") }) {
            guard let spec = manifest.spec() else { continue }
            let isNAT = manifest.kind == kinds[0]
            let clients = workloads.addresses(selectedBy: spec.list(isNAT ? "egress" : "selectors"))
            let gateways = isNAT ? ciliumGroups(spec) : ciliumGateways(spec)
            // A pod keeps its gateway, where the policy is one of gateways.
            lower(manifest, spec, clients, gateways, isSticky: !isNAT, into: &table)
        }
        table.reportTies()
        for entry in table.longestFirst { draft.add(entry.policy, at: entry.position) }
    }

    private func ciliumGroups(_ spec: ManifestFields) -> [CiliumGateway] {
        let groups = spec.list("egressGroups").map { CiliumGateway($0) }
        guard let address = spec.address("egressSourceIP") else { return groups }
        if groups.isEmpty { return [CiliumGateway(egressAddress: address)] }
        spec.unsupported("egressSourceIP", "has no effect beside `egressGroups`")
        return groups
    }

    private func ciliumGateways(_ spec: ManifestFields) -> [CiliumGateway] {
        let several = spec.list("egressGateways").map { CiliumGateway($0) }
        guard let one = spec.fields("egressGateway").map({ CiliumGateway($0) }) else { return several }
        // As Cilium has it: the list, where there is one, holds.
        if several.isEmpty { return [one] }
        spec.unsupported("egressGateway", "has no effect beside `egressGateways`")
        return several
    }

    private func lower(
        _ manifest: Manifest, _ spec: ManifestFields, _ clients: [CIDR], _ gateways: [CiliumGateway],
        isSticky: Bool, into table: inout CiliumEgressTable
    ) {
        let destinations = spec.blocks("destinationCIDRs")
        let excluded = spec.blocks("excludedCIDRs")
        guard !destinations.isEmpty else {
            if !spec.has("destinationCIDRs") { spec.error(spec.position, "destinationCIDRs", "is missing") }
            return
        }
        guard !gateways.isEmpty else {
            return spec.error(spec.position, "", "it says neither an egress address nor a gateway")
        }
        // Without clients it would hold for all.
        guard !clients.isEmpty else {
            return spec.say(
                manifest.position,
                "no pod, and no entry of `client_labels`, is selected: the policy has no effect yet")
        }
        let name = "\(manifest.kind)/\(manifest.name)"
        let action =
            settings.gatewayPort.map { port in gatewayCluster(name, gateways, port, isSticky, manifest, spec) }
            ?? sourcePool(name, gateways, isSticky, manifest, spec)
        table.add(
            .init(name: name, clients: clients, position: manifest.position, spec: spec),
            to: destinations, excluding: excluded, action)
    }

    /// This process is one of many: it hands connections to the gateways' nodes.
    private func gatewayCluster(
        _ name: String, _ gateways: [CiliumGateway], _ port: UInt16, _ isSticky: Bool, _ manifest: Manifest,
        _ spec: ManifestFields
    ) -> Policy.Action {
        var cluster = Cluster(name: name, endpoints: [])
        var activeCountMax: Int?
        var seen: Set<IPAddress> = []
        for gateway in gateways {
            guard let selector = gateway.nodes else {
                spec.unsupported(
                    at: gateway.position ?? spec.position, "without `nodeSelector` no gateway can be found")
                continue
            }
            for node in nodes where selector.selects(node.labels) {
                guard let address = node.addresses.first, seen.insert(address).inserted else { continue }
                cluster.endpoints.append(Endpoint(host: .address(address), port: port))
            }
            if let most = gateway.nodeCountMax { activeCountMax = (activeCountMax ?? 0) + most }
        }
        if cluster.endpoints.isEmpty {
            // To leave directly would be to leave from an address that nobody meant.
            spec.unsupported(
                at: manifest.position, "no Node document has the labels of its gateways: what it selects is refused")
            var nobody = Endpoint(host: .address(.v4Loopback), port: port)
            nobody.isDown = true
            cluster.endpoints = [nobody]
        }
        // A cap for one group only would hold for the others as well.
        if gateways.allSatisfy({ $0.nodeCountMax != nil }) { cluster.activeCountMax = activeCountMax }
        cluster.balance = isSticky ? .sourceHash : .roundRobin
        cluster.upstream.sendProxy = SendProxy(.v2)
        if cluster.endpoints.contains(where: { !$0.isDown }) { cluster.healthCheck = .ofGateways }
        draft.add(cluster, at: manifest.position)
        return .gateways(name)
    }

    /// This process is the gateway: connections leave from here. What the policy has no source for is left to the route, and
    /// not to a policy with shorter destinations.
    private func sourcePool(
        _ name: String, _ gateways: [CiliumGateway], _ isSticky: Bool, _ manifest: Manifest, _ spec: ManifestFields
    ) -> Policy.Action {
        let ours = gateways.filter { isOurs($0) }
        guard !ours.isEmpty else {
            spec.say(
                manifest.position,
                "node \(quoted(settings.node ?? "")) is none of its gateways: what it selects leaves as its route says")
            return .route
        }
        var pool = SourcePool(name: name, addresses: [])
        for address in ours.compactMap(\.egressAddress) where !pool.addresses.contains(address) {
            pool.addresses.append(address)
        }
        pool.select = isSticky ? .clientHash : .roundRobin
        let interfaces = ours.compactMap(\.interface)
        if let first = interfaces.first {
            pool.interface = first.value
            for other in interfaces where other.value != first.value {
                spec.unsupported(at: other.position, "one process leaves by one interface, \(quoted(first.value))")
            }
        }
        if pool.addresses.isEmpty, pool.interface == nil {
            // As Cilium does it: the interface of the default route, which is the kernel's choice.
            spec.say(
                manifest.position, "neither address nor interface is said: what it selects leaves as its route says")
            return .route
        }
        for gateway in ours where gateway.nodeCountMax != nil {
            spec.say(
                gateway.position ?? spec.position,
                "maxGatewayNodes has an effect where connections are handed on (`manifests.gateway_port`), not at a gateway"
            )
        }
        draft.add(pool, at: manifest.position)
        return .source(name)
    }

    /// Whether this process is on one of the gateway's nodes; without a name for ours it stands for all.
    private func isOurs(_ gateway: CiliumGateway) -> Bool {
        guard let name = settings.node, let selector = gateway.nodes else { return true }
        return nodeLabels[name].map(selector.selects) ?? false
    }
}

/// The blocks of all policies. Of those that have the client and the destination the longest decides, whichever policy it
/// is of, as in Cilium's map; the age does between equals.
private struct CiliumEgressTable {
    /// The policy that blocks are of.
    struct Owner {
        var name: String
        var clients: [CIDR]
        var position: SourcePosition
        var spec: ManifestFields
    }

    struct Entry {
        var policy: Policy
        var prefixLength: Int
        var position: SourcePosition
    }

    private var entries: [Entry] = []
    private var owners: [Owner] = []
    /// Every block, and who has it, the oldest first.
    private var blocks: [CIDR] = []
    private var claims: [CIDR: [(owner: Int, action: Policy.Action)]] = [:]

    mutating func add(
        _ owner: Owner, to destinations: [CIDR], excluding excluded: [CIDR], _ action: Policy.Action
    ) {
        owners.append(owner)
        // The exclusions are first: they hold where a block is in both lists.
        add(excluded, named: "\(owner.name)/excluded", .route)
        add(destinations, named: owner.name, action)
    }

    /// Adds a policy of the last owner for each length of `blocks`; it has the plain name where it is the only one.
    private mutating func add(_ blocks: [CIDR], named name: String, _ action: Policy.Action) {
        let owner = owners.count - 1
        for block in blocks.map(\.unmapped) {
            if claims[block] == nil { self.blocks.append(block) }
            claims[block, default: []].append((owner, action))
        }
        let byLength = Dictionary(grouping: blocks, by: \.unmapped.prefixLength)
        for (length, blocks) in byLength {
            var match = Policy.Match()
            match.clients = owners[owner].clients
            match.destinations = blocks
            let name = byLength.count == 1 ? name : "\(name)/\(length)"
            entries.append(
                Entry(
                    policy: Policy(name: name, match: match, action: action), prefixLength: length,
                    position: owners[owner].position))
        }
    }

    /// In the order in which they are to be asked.
    var longestFirst: [Entry] {
        entries.enumerated().sorted {
            ($1.element.prefixLength, $0.offset) < ($0.element.prefixLength, $1.offset)
        }.map(\.element)
    }

    /// Says, once for each policy, that an older one has a block of the same client: which of them holds is open in Cilium.
    func reportTies() {
        var ties: [Int: (older: Int, block: CIDR, client: CIDR)] = [:]
        for block in blocks {
            guard let claims = claims[block], claims.count > 1 else { continue }
            var holders: [CIDR: (owner: Int, action: Policy.Action)] = [:]
            for claim in claims {
                for client in owners[claim.owner].clients {
                    guard let holder = holders[client] else {
                        holders[client] = claim
                        continue
                    }
                    let decidesAlike = holder.owner == claim.owner || holder.action == claim.action
                    if !decidesAlike, ties[claim.owner] == nil { ties[claim.owner] = (holder.owner, block, client) }
                }
            }
        }
        for (index, tie) in ties.sorted(by: { $0.key < $1.key }) {
            owners[index].spec.say(
                owners[index].position,
                "\(owners[tie.older].name) has \(tie.block) for the client \(tie.client) as well: here that one decides, "
                    + "in Cilium either may")
        }
    }
}

/// A gateway, or a group of them, as a policy describes it.
private struct CiliumGateway {
    var nodes: LabelSelector?
    var egressAddress: IPAddress?
    var interface: ManifestText?
    var nodeCountMax: Int?
    var position: SourcePosition?

    init(egressAddress: IPAddress) { self.egressAddress = egressAddress }

    init(_ fields: ManifestFields) {
        position = fields.position
        let selector = fields.fields("nodeSelector")
        nodes = selector.map { LabelSelector($0) }
        // Where Cilium's own example has them by a slip.
        let places = [fields] + (selector.map { [$0] } ?? [])
        for place in places {
            if let address = place.address("egressIP") { egressAddress = address }
            if let text = place.text("interface") {
                if SourcePool.isInterfaceName(text.value) {
                    interface = text
                } else {
                    place.error(
                        text.position, "interface", "expected the name of an interface, found \(quoted(text.value))")
                }
            }
            if let count = place.integer("maxGatewayNodes", 1...1_000_000) { nodeCountMax = count }
        }
        if egressAddress != nil, interface != nil {
            fields.error(fields.position, "egressIP", "stands beside `interface`: a gateway has one of them")
        }
    }
}

extension HealthCheck {
    /// A gateway that is lost leaves within 1.5 s (S1-3).
    fileprivate static var ofGateways: HealthCheck {
        var check = HealthCheck(.tcp)
        check.interval = .milliseconds(500)
        check.timeout = .milliseconds(500)
        return check
    }
}
