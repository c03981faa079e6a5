import WeirModel
import WeirNet

/// Reads the native YAML format. One file per section of the format; this one has the top level and its small parts.
struct NativeReader {
    let draft: ConfigurationDraft
    var findings: Findings { draft.findings }

    init(_ draft: ConfigurationDraft) { self.draft = draft }

    /// A document that is no manifest.
    func read(_ document: YAMLDocument) {
        for problem in document.repeatedKeys { findings.error(problem.position, problem.message) }
        guard let root = document.root, !root.isNull else { return }
        guard let top = section(root, NativeSchema.configuration) else { return }
        for key in NativeSchema.configuration.names {
            if let node = top[key] { draft.locate(key, at: node.position) }
        }
        // Clusters and listeners are independent here: routes name clusters, and all names are checked at the end.
        if let node = top["sources"] { list(node, of: "sources")?.forEach(readSourcePool) }
        if let node = top["clusters"] { list(node, of: "clusters")?.forEach(readCluster) }
        if let node = top["client_labels"] { list(node, of: "client labels")?.forEach(readClientLabels) }
        if let node = top["policies"] {
            for (index, policy) in (list(node, of: "policies") ?? []).enumerated() { readPolicy(policy, index) }
        }
        if let node = top["listeners"] { list(node, of: "listeners")?.forEach(readListener) }
        if let node = top["destinations"] { readDestinations(node) }
        if let node = top["resolver"] { readResolver(node) }
        if let node = top["admin"] { readAdmin(node) }
        if let node = top["log"] { readLog(node) }
        if let node = top["workers"] { readWorkers(node) }
        if let node = top["steering"] {
            if let choice = word(node, SteeringChoice.allCases.map { ($0.rawValue, $0) }) {
                draft.configuration.steering = choice
            }
        }
        if let node = top["splice"] {
            if let choice = word(node, SpliceChoice.allCases.map { ($0.rawValue, $0) }) {
                draft.configuration.splice = choice
            }
        }
        if let node = top["congestion"] {
            if let choice = word(node, CongestionChoice.allCases.map { ($0.rawValue, $0) }) {
                draft.configuration.congestion = choice
            }
        }
        if let node = top["manifests"] { readManifests(node) }
        if let node = top["limits"] { readLimits(node) }
        if let node = top["shadow"] { readShadow(node) }
        if let node = top["drain"], let drain = section(node, NativeSchema.drain) {
            if let delay = drain["delay"].flatMap({ duration($0, zeroAllowed: true) }) {
                draft.configuration.drainDelay = delay
            }
            if let timeout = drain["timeout"].flatMap({ duration($0, zeroAllowed: true) }) {
                draft.configuration.drainTimeout = timeout
            }
        }
        if let node = top["upgrade"], let upgrade = section(node, NativeSchema.upgrade) {
            if let timeout = upgrade["timeout"].flatMap({ duration($0) }) {
                draft.configuration.upgradeTimeout = timeout
            }
        }
    }

    private func readDestinations(_ node: YAMLNode) {
        guard let destinations = section(node, NativeSchema.destinations) else { return }
        let what = "blocks such as 10.0.0.0/8 or 10.0.0.0/8:443"
        if let allow = destinations["allow"].flatMap({ items($0, of: what, exemption) }) {
            draft.configuration.destinations.allow = allow
        }
        if let deny = destinations["deny"].flatMap({ items($0, of: what, exemption) }) {
            draft.configuration.destinations.deny = deny
        }
    }

    private func exemption(_ node: YAMLNode) -> DestinationPolicy.Exemption? {
        guard case .scalar(let text, _) = node.content, let exemption = DestinationPolicy.Exemption(text) else {
            expected("a block such as 10.0.0.0/8, 10.0.0.0/8:443, 10.0.0.0/8:8000-8999 or \"[fd00::/8]:443\"", node)
            return nil
        }
        let host = text.hasPrefix("[") ? String(text.dropFirst()) : text
        warnAboutHostBits(host, exemption.block, node.position)
        return exemption
    }

    private func readResolver(_ node: YAMLNode) {
        guard let section = section(node, NativeSchema.resolver) else { return }
        var settings = draft.configuration.resolver
        if let servers = section["servers"] {
            if case .scalar("system", _) = servers.content {
                settings.servers = []
            } else if let listed = items(servers, of: "name servers, or system", nameServer) {
                settings.servers = listed
                if servers.isEmptyCollection { expected("at least one name server, or system", servers) }
            }
        }
        if let ttl = section["ttl"], let bounds = self.section(ttl, NativeSchema.ttl) {
            if let min = bounds["min"].flatMap({ duration($0, zeroAllowed: true) }) { settings.ttlMin = min }
            if let max = bounds["max"].flatMap({ duration($0) }) { settings.ttlMax = max }
            // The two may come from two files; they are compared when all are read.
            draft.locate("resolver", at: ttl.position)
        }
        if let value = section["negative"].flatMap({ duration($0, zeroAllowed: true) }) { settings.negativeTTL = value }
        if let value = section["stale"].flatMap({ duration($0, zeroAllowed: true) }) { settings.staleTTL = value }
        if let value = section["timeout"].flatMap({ duration($0) }) { settings.timeout = value }
        if let families = section["families"] {
            let choices: [(String, ResolverSettings.AddressFamilies)] = [
                ("both", .both), ("v4", .v4Only), ("v6", .v6Only),
            ]
            if let value = word(families, choices) { settings.families = value }
        }
        if let value = section["cache_entries"].flatMap({ integer($0, 1...10_000_000) }) {
            settings.cacheEntryCountMax = value
        }
        draft.configuration.resolver = settings
    }

    private func nameServer(_ node: YAMLNode) -> SocketAddress? {
        if case .scalar(let text, _) = node.content, let server = SocketAddress(nameServer: text) { return server }
        expected("a name server such as 10.0.0.53, 10.0.0.53:5353 or \"[fd00::53]:53\"", node)
        return nil
    }

    private func readAdmin(_ node: YAMLNode) {
        if case .scalar("off", _) = node.content {
            draft.configuration.admin = nil
            return
        }
        guard case .mapping = node.content else { return expected("a mapping with `address`, or off", node) }
        guard let admin = section(node, NativeSchema.admin) else { return }
        guard let address = admin["address"] else {
            return findings.error(node.position, "admin has no `address`; `admin: off` turns it off")
        }
        if let value = socketAddress(address) { draft.configuration.admin = AdminSettings(address: value) }
    }

    private func readLog(_ node: YAMLNode) {
        guard let log = section(node, NativeSchema.log) else { return }
        if let access = log["access"], let target = text(access, "stdout, off or the path of a file") {
            switch target {
            case "stdout": draft.configuration.log.access = .standardOutput
            case "off": draft.configuration.log.access = .none
            // A slash tells a path from a slip of the two words.
            case _ where target.contains("/"): draft.configuration.log.access = .file(target)
            default: expected("stdout, off or the path of a file", access)
            }
        }
        if let format = log["format"] { _ = word(format, [("json", ())], later: ["text"]) }
        if let events = log["events"] {
            for event in list(events, of: "events") ?? [] {
                _ = word(event, [("close", ())], later: ["open", "connect"])
            }
        }
    }

    private func readWorkers(_ node: YAMLNode) {
        if case .scalar("auto", _) = node.content {
            draft.configuration.workerCount = nil
        } else if case .scalar(let text, _) = node.content, let count = decimal(text), (1...256).contains(count) {
            draft.configuration.workerCount = count
        } else {
            expected("auto or a number 1...256", node)
        }
    }

    private func readShadow(_ node: YAMLNode) {
        guard let shadow = section(node, NativeSchema.shadow) else { return }
        guard let config = shadow["config"] else {
            return findings.error(node.position, "a shadow has no `config`: the files that it stands in")
        }
        guard let files = items(config, of: "paths", { text($0, "the path of a file or directory") }) else { return }
        guard !files.isEmpty else { return expected("at least one path", config) }
        var settings = ShadowSettings(files: files)
        if let sample = shadow["sample"] {
            guard case .scalar(let text, _) = sample.content, let limit = RateLimit(text) else {
                return expected("a rate such as 10/s or 30/m, of 1...\(RateLimit.countRange.upperBound)", sample)
            }
            settings.samples = limit
        }
        draft.configuration.shadow = settings
    }

    private func readLimits(_ node: YAMLNode) {
        guard let limits = section(node, NativeSchema.limits) else { return }
        if let value = limits["connections"].flatMap({ integer($0, 1...100_000_000) }) {
            draft.configuration.limits.connections = value
        }
        if let value = limits["buffer_memory"].flatMap({ byteCount($0, 1 << 20 ... .max) }) {
            draft.configuration.limits.bufferByteCount = value
        }
        if let value = rate(limits) { draft.configuration.limits.rate = value }
    }
}

extension SocketAddress {
    /// Reads a name server: an address, port 53 where none is given.
    init?(nameServer text: String) {
        if let address = SocketAddress(text) {
            guard address.port != 0 else { return nil }
            self = address
        } else if let ip = IPAddress(text) {
            self.init(ip, port: 53)
        } else if text.hasPrefix("["), text.hasSuffix("]"), let ip = IPAddress(String(text.dropFirst().dropLast())) {
            guard ip.family == .v6 else { return nil }
            self.init(ip, port: 53)
        } else {
            return nil
        }
    }
}
