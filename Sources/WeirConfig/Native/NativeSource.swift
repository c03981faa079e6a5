import WeirModel
import WeirNet

/// The `sources` section, and how clusters and routes name what they connect from.
extension NativeReader {
    func readSourcePool(_ node: YAMLNode) {
        guard let section = section(node, NativeSchema.source) else { return }
        guard let nameNode = section["name"] else { return findings.error(node.position, "a source has no `name`") }
        guard let name = text(nameNode, "a name") else { return }
        var pool = SourcePool(name: name, addresses: [])
        if let addresses = section["addresses"] {
            pool.addresses = sourceAddresses(addresses)
        } else if section["interface"] == nil {
            findings.error(node.position, "source \(quoted(name)) has neither `addresses` nor an `interface`")
        }
        if let select = section["select"] {
            let choices: [(String, SourcePool.Select)] = [
                ("least_ports", .leastPorts), ("round_robin", .roundRobin), ("client_hash", .clientHash),
                ("destination_hash", .destinationHash),
            ]
            if let value = word(select, choices) { pool.select = value }
        }
        pool.interface = section["interface"].flatMap(interfaceName)
        pool.mark = section["mark"].flatMap(packetMark) ?? 0
        draft.add(pool, at: nameNode.position)
    }

    /// `source` or `source_addresses` of a cluster or a dynamic forward.
    func readSource(_ section: NativeSection, into options: inout UpstreamOptions) {
        if section["source"] != nil, let addresses = section["source_addresses"] {
            return findings.error(addresses.position, "either `source`, a pool, or `source_addresses`, not both")
        }
        if let node = section["source"] { options.source = text(node, "the name of a source") }
        if let node = section["source_addresses"] { options.sourceAddresses = sourceAddresses(node) }
    }

    /// An empty list would mean any address, the opposite of what it says.
    private func sourceAddresses(_ node: YAMLNode) -> [IPAddress] {
        if node.isEmptyCollection { expected("at least one IP address", node) }
        return items(node, of: "IP addresses", address) ?? []
    }

    private func interfaceName(_ node: YAMLNode) -> String? {
        guard case .scalar(let text, _) = node.content, !node.isNull, SourcePool.isInterfaceName(text) else {
            expected("the name of an interface, of 1...\(SourcePool.interfaceByteCountMax) bytes", node)
            return nil
        }
        return text
    }

    /// Decimal, or hexadecimal behind `0x`, as ip-rule(8) takes it.
    private func packetMark(_ node: YAMLNode) -> UInt32? {
        guard case .scalar(let text, _) = node.content, let mark = Self.packetMark(text) else {
            expected("a mark 1...4294967295, or 0x1...0xffffffff", node)
            return nil
        }
        return mark
    }

    private static func packetMark(_ text: String) -> UInt32? {
        guard text.hasPrefix("0x") else {
            guard let mark = decimal(text), mark > 0 else { return nil }
            return UInt32(exactly: mark)
        }
        // A sign is no digit, though `UInt32` takes one.
        guard text.dropFirst(2).allSatisfy(\.isHexDigit) else { return nil }
        return UInt32(text.dropFirst(2), radix: 16).flatMap { $0 > 0 ? $0 : nil }
    }
}
