import WeirMemory
import WeirModel
import WeirNet

/// Which rule refused an address. The raw value is stable within a process; `label` is the metric label.
package enum GuardRule: UInt8, BitwiseCopyable, Sendable, CaseIterable {
    // 0 is kept for "no rule" in tables.
    case unspecified = 1
    case loopback
    case `private`
    case linkLocal
    case metadata
    case cgnat
    case ietfProtocol
    case documentation
    case benchmarking
    case multicast
    case reserved
    case ipv4Compatible
    case nat64
    case sixToFour
    case teredo
    case ula
    case siteLocal
    case discard
    case ownListener
    case configuredDeny

    package var label: String {
        switch self {
        case .unspecified: "unspecified"
        case .loopback: "loopback"
        case .private: "private"
        case .linkLocal: "link_local"
        case .metadata: "metadata"
        case .cgnat: "cgnat"
        case .ietfProtocol: "ietf_protocol"
        case .documentation: "documentation"
        case .benchmarking: "benchmarking"
        case .multicast: "multicast"
        case .reserved: "reserved"
        case .ipv4Compatible: "ipv4_compatible"
        case .nat64: "nat64"
        case .sixToFour: "six_to_four"
        case .teredo: "teredo"
        case .ula: "ula"
        case .siteLocal: "site_local"
        case .discard: "discard"
        case .ownListener: "own_listener"
        case .configuredDeny: "configured_deny"
        }
    }
}

package enum GuardVerdict: Equatable, BitwiseCopyable, Sendable {
    case allowed
    case denied(GuardRule)
}

/// Decides whether an address that a name resolved to may be connected to: public addresses may, the rest of the
/// address space only where the configuration says so, our own listeners never.
///
/// Connect to the very address that was asked about; a second look at the name may answer another.
package struct DestinationGuard: BitwiseCopyable, Sendable {
    /// Steps of all tables below.
    var steps: FlatArray<AddressStep>
    /// Address to the raw value of its built-in rule, 0 for none.
    var classes: AddressTable
    /// 1 where the configuration names the block for every port.
    var allowedAnyPort: AddressTable
    var deniedAnyPort: AddressTable
    /// Blocks with a range of ports; few, so they are walked.
    var allowedPorts: FlatArray<PortBlock>
    var deniedPorts: FlatArray<PortBlock>
    var own: OwnAddresses

    struct PortBlock: BitwiseCopyable, Sendable {
        var block: CIDR
        var lowPort: UInt16
        var highPort: UInt16

        func contains(_ address: IPAddress, _ port: UInt16) -> Bool {
            port >= lowPort && port <= highPort && block.contains(address)
        }
    }

    /// The order of the rules: an own listener is refused always; an address that the configuration itself writes as
    /// an endpoint (`exemptLiteral`) is then good; a configured deny beats a configured allow, which beats the
    /// built-in classes. Mapped IPv4 is judged as IPv4; so is what an allowed 64:ff9b::/96 carries (RFC 6052 §2.1).
    /// `privateNames`: the classes of private and shared networks hold nobody back, unless NAT64 carries them.
    package func verdict(
        for destination: SocketAddress, exemptLiteral: Bool = false, privateNames: Bool = false
    ) -> GuardVerdict {
        let address = destination.ip.unmapped
        let verdict = verdict(
            address, destination.port, exemptLiteral: exemptLiteral, privateNames: privateNames)
        guard verdict == .allowed, let carried = address.carriedByNAT64 else { return verdict }
        return self.verdict(carried, destination.port, exemptLiteral: exemptLiteral, privateNames: false)
    }

    private func verdict(
        _ address: IPAddress, _ port: UInt16, exemptLiteral: Bool, privateNames: Bool
    ) -> GuardVerdict {
        if own.contains(address, port: port) { return .denied(.ownListener) }
        if exemptLiteral { return .allowed }
        if isListed(address, port, anyPort: deniedAnyPort, ports: deniedPorts) { return .denied(.configuredDeny) }
        guard let rule = GuardRule(rawValue: classes.value(of: address, in: steps)) else { return .allowed }
        if privateNames, rule == .private || rule == .ula || rule == .cgnat { return .allowed }
        return isListed(address, port, anyPort: allowedAnyPort, ports: allowedPorts) ? .allowed : .denied(rule)
    }

    private func isListed(
        _ address: IPAddress, _ port: UInt16, anyPort: AddressTable, ports: FlatArray<PortBlock>
    ) -> Bool {
        if anyPort.value(of: address, in: steps) != 0 { return true }
        for index in ports.indices where ports[index].contains(address, port) { return true }
        return false
    }
}

extension IPAddress {
    /// The IPv4 address that the well-known NAT64 prefix would translate to.
    var carriedByNAT64: IPAddress? {
        guard family == .v6, high == 0x0064_ff9b_0000_0000, low >> 32 == 0 else { return nil }
        return IPAddress(v4: UInt32(truncatingIfNeeded: low))
    }
}

extension GuardRule {
    /// The built-in classes, first match first: the IANA special-purpose registries (RFC 6890), what carries IPv4
    /// inside IPv6, the clouds' metadata addresses, and all of IPv6 outside global unicast, 2000::/3.
    static let classes: [AddressTable.Rule] = {
        let v4: [(UInt8, UInt8, UInt8, UInt8, Int, GuardRule)] = [
            (169, 254, 169, 254, 32, .metadata),
            // Azure's wire server: a public address that answers inside its network only.
            (168, 63, 129, 16, 32, .metadata),
            // Alibaba Cloud's, among the shared addresses.
            (100, 100, 100, 200, 32, .metadata),
            (0, 0, 0, 0, 8, .unspecified),
            (10, 0, 0, 0, 8, .private),
            (100, 64, 0, 0, 10, .cgnat),
            (127, 0, 0, 0, 8, .loopback),
            (169, 254, 0, 0, 16, .linkLocal),
            (172, 16, 0, 0, 12, .private),
            (192, 0, 0, 0, 24, .ietfProtocol),
            (192, 0, 2, 0, 24, .documentation),
            // The relay anycast address of 6to4 (RFC 7526).
            (192, 88, 99, 0, 24, .sixToFour),
            (192, 168, 0, 0, 16, .private),
            (198, 18, 0, 0, 15, .benchmarking),
            (198, 51, 100, 0, 24, .documentation),
            (203, 0, 113, 0, 24, .documentation),
            (224, 0, 0, 0, 4, .multicast),
            (240, 0, 0, 0, 4, .reserved),
        ]
        let v6: [(UInt64, UInt64, Int, GuardRule?)] = [
            (0xfd00_0ec2_0000_0000, 0x23, 128, .metadata),
            (0xfd00_0ec2_0000_0000, 0x254, 128, .metadata),
            (0xfd20_00ce_0000_0000, 0x254, 128, .metadata),
            (0, 0, 128, .unspecified),
            (0, 1, 128, .loopback),
            (0, 0, 96, .ipv4Compatible),
            (0x0064_ff9b_0000_0000, 0, 96, .nat64),
            (0x0064_ff9b_0001_0000, 0, 48, .nat64),
            (0x0100_0000_0000_0000, 0, 64, .discard),
            (0x2001_0000_0000_0000, 0, 32, .teredo),
            (0x2001_0002_0000_0000, 0, 48, .benchmarking),
            (0x2001_0db8_0000_0000, 0, 32, .documentation),
            (0x2002_0000_0000_0000, 0, 16, .sixToFour),
            (0x3fff_0000_0000_0000, 0, 20, .documentation),
            (0xfc00_0000_0000_0000, 0, 7, .ula),
            (0xfe80_0000_0000_0000, 0, 10, .linkLocal),
            (0xfec0_0000_0000_0000, 0, 10, .siteLocal),
            (0xff00_0000_0000_0000, 0, 8, .multicast),
            (0x2000_0000_0000_0000, 0, 3, nil),
            (0, 0, 0, .reserved),
        ]
        return v4.map { AddressTable.Rule(CIDR(IPAddress($0, $1, $2, $3), prefixLength: $4), $5.rawValue) }
            + v6.map {
                AddressTable.Rule(CIDR(IPAddress(v6High: $0, low: $1), prefixLength: $2), $3?.rawValue ?? 0)
            }
    }()
}
