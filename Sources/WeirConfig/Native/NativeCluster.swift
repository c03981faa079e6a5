import WeirModel
import WeirNet

/// The `clusters` section, and how connections to an upstream are made.
extension NativeReader {
    func readCluster(_ node: YAMLNode) {
        guard let section = section(node, NativeSchema.cluster) else { return }
        guard let nameNode = section["name"] else { return findings.error(node.position, "a cluster has no `name`") }
        guard let name = text(nameNode, "a name") else { return }
        var cluster = Cluster(name: name, endpoints: [])
        if let endpoints = section["endpoints"] {
            cluster.endpoints = items(endpoints, of: "endpoints", endpoint) ?? []
            // Said here unless each one was reported already.
            if endpoints.isEmptyCollection { expected("at least one endpoint", endpoints) }
        } else {
            findings.error(node.position, "cluster \(quoted(name)) has no `endpoints`")
        }
        readChoice(section, into: &cluster)
        cluster.upstream = upstreamOptions(section)
        if let value = section["private_names"].flatMap({ word($0, [("allow", true), ("deny", false)]) }) {
            cluster.privateNames = value
        }
        if let node = section["health_check"] { cluster.healthCheck = healthCheck(node) }
        draft.add(cluster, at: nameNode.position)
    }

    private func endpoint(_ node: YAMLNode) -> Endpoint? {
        let form = "an endpoint such as 10.0.0.1:443, name.example:443 or \"[fd00::1]:443\""
        if case .scalar(let text, _) = node.content {
            guard let endpoint = Endpoint(text) else {
                expected(form, node)
                return nil
            }
            return endpoint
        }
        guard let section = section(node, NativeSchema.endpoint) else { return nil }
        guard let address = section["address"] else {
            findings.error(node.position, "an endpoint has no `address`")
            return nil
        }
        guard case .scalar(let text, _) = address.content, var endpoint = Endpoint(text) else {
            expected(form, address)
            return nil
        }
        if let value = section["weight"].flatMap({ integer($0, 1...65535) }) { endpoint.weight = value }
        if let value = section["priority"].flatMap({ integer($0, 0...255) }) { endpoint.priority = value }
        if let value = section["down"].flatMap(boolean) { endpoint.isDown = value }
        if let value = section["max_fails"].flatMap({ integer($0, 0...65535) }) { endpoint.maxFails = value }
        if let value = section["fail_timeout"].flatMap({ duration($0) }) { endpoint.failTimeout = value }
        if let value = section["max_connections"].flatMap({ integer($0, 1...100_000_000) }) {
            endpoint.connectionsMax = value
        }
        return endpoint
    }

    /// Reads `connect`, `send_proxy`, `source` and `source_addresses` of a cluster or a dynamic forward.
    func upstreamOptions(_ section: NativeSection) -> UpstreamOptions {
        var options = UpstreamOptions()
        if let node = section["connect"], let connect = self.section(node, NativeSchema.connect) {
            if let value = connect["timeout"].flatMap({ duration($0) }) {
                options.connectTimeout = value
                // The default of the whole must not cut short the one attempt that was asked for.
                options.connectTotal = max(options.connectTotal, value)
            }
            if let value = connect["attempts"].flatMap({ integer($0, 1...8) }) { options.attempts = value }
            if let value = connect["total"].flatMap({ duration($0) }) { options.connectTotal = value }
            if let value = connect["retry_early_close"].flatMap(boolean) { options.retriesEarlyClose = value }
            if let node = connect["keepalive"] { options.keepalive = keepalive(node) }
        }
        if let node = section["send_proxy"] { options.sendProxy = sendProxy(node) }
        readSource(section, into: &options)
        return options
    }

    private func keepalive(_ node: YAMLNode) -> TCPKeepalive? {
        guard let section = section(node, NativeSchema.keepalive) else { return nil }
        var keepalive = TCPKeepalive()
        if let value = section["idle"].flatMap(keepaliveTime) { keepalive.idle = value }
        if let value = section["interval"].flatMap(keepaliveTime) { keepalive.interval = value }
        if let value = section["probes"].flatMap({ integer($0, TCPKeepalive.probesRange) }) { keepalive.probes = value }
        return keepalive
    }

    private func keepaliveTime(_ node: YAMLNode) -> Duration? {
        guard let value = duration(node) else { return nil }
        guard TCPKeepalive.timeRange.contains(value) else {
            expected("a time of 1s...32767s", node)
            return nil
        }
        return value
    }

    private func sendProxy(_ node: YAMLNode) -> SendProxy? {
        let versions: [(String, SendProxy.Version?)] = [("v1", .v1), ("v2", .v2), ("off", nil)]
        guard case .mapping = node.content else {
            guard case .scalar = node.content else {
                expected("v1, v2, off or a mapping with `version`", node)
                return nil
            }
            return word(node, versions).flatMap { $0 }.map { SendProxy($0) }
        }
        guard let section = section(node, NativeSchema.sendProxy) else { return nil }
        guard let versionNode = section["version"] else {
            findings.error(node.position, "send_proxy has no `version`: v1 or v2")
            return nil
        }
        guard let version = word(versionNode, [("v1", SendProxy.Version.v1), ("v2", .v2)]) else { return nil }
        var sendProxy = SendProxy(version)
        sendProxy.authority = section["authority"].flatMap(boolean) ?? false
        sendProxy.crc32c = section["crc32c"].flatMap(boolean) ?? false
        sendProxy.uniqueID = section["unique_id"].flatMap(boolean) ?? false
        sendProxy.alpn = section["alpn"].flatMap(boolean) ?? false
        if let node = section["forward_tlvs"] {
            let choices: [(String, SendProxy.ForwardedTLV)] = [
                ("authority", .authority), ("alpn", .alpn), ("unique_id", .uniqueID),
            ]
            sendProxy.forwardedTLVs = Set(items(node, of: "authority, alpn, unique_id", { word($0, choices) }) ?? [])
        }
        sendProxy.custom = section["custom"].map(customTLVs) ?? []
        sendProxy.padTo = section["pad_to"].flatMap { integer($0, 0...SendProxy.padToMax) } ?? 0
        if version == .v1, sendProxy.needsV2 {
            findings.error(node.position, "PROXY v1 carries addresses only: every other key of send_proxy needs v2")
            return nil
        }
        return sendProxy
    }

    /// `{ 0xE0: "text" }`.
    private func customTLVs(_ node: YAMLNode) -> [SendProxy.CustomTLV] {
        guard case .mapping(let entries) = node.content else {
            expected("a mapping such as { 0xE0: \"text\" }", node)
            return []
        }
        var tlvs: [SendProxy.CustomTLV] = []
        for entry in entries {
            guard let type = Self.customType(entry.key) else {
                findings.error(entry.position, "expected a type 0xE0...0xEF, found \(quoted(entry.key))")
                continue
            }
            // YAML compares keys as text, so 0xe0 beside 0xE0 gets as far as here.
            if tlvs.contains(where: { $0.type == type }) {
                findings.error(entry.position, "type \(quoted(entry.key)) stands here twice")
                continue
            }
            guard case .scalar(let text, _) = entry.value.content, !entry.value.isNull,
                (1...SendProxy.CustomTLV.byteCountMax).contains(text.utf8.count)
            else {
                expected("text of 1...\(SendProxy.CustomTLV.byteCountMax) bytes", entry.value)
                continue
            }
            tlvs.append(SendProxy.CustomTLV(type, text))
        }
        if entries.count > SendProxy.customCountMax {
            findings.error(node.position, "\(entries.count) custom TLVs; \(SendProxy.customCountMax) are the most")
            return []
        }
        return tlvs
    }

    private static func customType(_ text: String) -> UInt8? {
        guard text.hasPrefix("0x"), text.utf8.count == 4, let type = UInt8(text.dropFirst(2), radix: 16) else {
            return nil
        }
        return SendProxy.CustomTLV.typeRange.contains(type) ? type : nil
    }
}
