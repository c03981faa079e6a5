import WeirNet

/// A named set of local addresses that connections to upstreams are made from.
public struct SourcePool: Sendable, Equatable {
    /// What decides which address is next. Members of the destination's family only; ones that have no port left towards
    /// the destination, or cannot reach it while another can, are passed over.
    public enum Select: UInt8, Sendable, BitwiseCopyable, CaseIterable {
        /// The fewest ports in use or in TIME_WAIT towards the destination.
        case leastPorts
        /// In turn, per worker.
        case roundRobin
        /// The client's address: a client keeps its source.
        case clientHash
        /// The destination's address and port.
        case destinationHash
    }

    public static let addressCountMax = 64
    /// IFNAMSIZ, less the byte that ends the name.
    public static let interfaceByteCountMax = 15

    /// Unique.
    public var name: String
    /// 1...64 addresses of this machine, of one family or both; none where there is an `interface`: then the kernel chooses
    /// one of that.
    public var addresses: [IPAddress]
    public var select = Select.leastPorts
    /// Connections leave through this interface only (SO_BINDTODEVICE); nil: where the routes say.
    public var interface: String?
    /// The firewall mark of their packets (SO_MARK), for policy routing; 0: none.
    public var mark: UInt32 = 0

    public init(name: String, addresses: [IPAddress]) {
        self.name = name
        self.addresses = addresses
    }
}

extension SourcePool {
    func check(_ part: String, _ found: inout FaultList) {
        if name.isEmpty { found.add(part, "has no name") }
        if addresses.isEmpty, interface == nil { found.add(part, "has no address and no interface") }
        Self.check(addresses, part, &found)
        if let interface, !Self.isInterfaceName(interface) {
            found.add(part, "\"\(interface)\" cannot be an interface: 1...15 bytes without space, slash or colon")
        }
    }

    /// What holds for every list of source addresses.
    static func check(_ addresses: [IPAddress], _ part: String, _ found: inout FaultList) {
        if addresses.count > addressCountMax {
            found.add(part, "has \(addresses.count) source addresses; \(addressCountMax) are the most")
        }
        var seen: Set<IPAddress> = []
        for address in addresses {
            if !isUnicast(address.unmapped) { found.add(part, "\(address) cannot be connected from") }
            if !seen.insert(address.unmapped).inserted {
                found.add(part, "source address \(address) stands there twice")
            }
        }
    }

    private static func isUnicast(_ address: IPAddress) -> Bool {
        if address.isUnspecified { return false }
        // Multicast; for IPv4 what is reserved beyond it and broadcast as well.
        return address.family == .v4 ? address.byte(0) < 224 : address.byte(0) != 0xff
    }

    /// As the kernel checks them (dev_valid_name).
    public static func isInterfaceName(_ text: String) -> Bool {
        guard (1...interfaceByteCountMax).contains(text.utf8.count), text != ".", text != ".." else { return false }
        return text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7f && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
    }
}
