/// A block of addresses: all that share the first `prefixLength` bits with `base`.
public struct CIDR: Hashable, Sendable, BitwiseCopyable {
    /// The lowest address of the block; bits behind the prefix are zero.
    public let base: IPAddress
    /// 0...32 for IPv4, 0...128 for IPv6.
    public let prefixLength: Int

    /// Bits of `address` behind the prefix are cleared. Traps where the length does not fit the family.
    public init(_ address: IPAddress, prefixLength: Int) {
        precondition(prefixLength >= 0 && prefixLength <= address.bitCount)
        self.prefixLength = prefixLength
        let (high, low) = Self.mask(address.family, prefixLength)
        base =
            address.family == .v4
            ? IPAddress(v4: UInt32(address.low & low))
            : IPAddress(v6High: address.high & high, low: address.low & low)
    }

    /// Reads `address/length`, the length without leading zeros, or an address alone as a block of one.
    public init?(_ text: String) {
        guard let slash = text.firstIndex(of: "/") else {
            guard let ip = IPAddress(text) else { return nil }
            self.init(ip, prefixLength: ip.bitCount)
            return
        }
        let digits = text[text.index(after: slash)...]
        guard let ip = IPAddress(String(text[..<slash])) else { return nil }
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }), let length = Int(digits) else {
            return nil
        }
        guard length <= ip.bitCount, digits == String(length) else { return nil }
        self.init(ip, prefixLength: length)
    }

    /// True where `address` has this block's family and prefix. Mapped IPv4 is not unmapped here: do that once, early.
    public func contains(_ address: IPAddress) -> Bool {
        guard address.family == base.family else { return false }
        let (high, low) = Self.mask(base.family, prefixLength)
        return address.high & high == base.high && address.low & low == base.low
    }

    /// A block of mapped addresses (inside `::ffff:0:0/96`) as the IPv4 block it stands for, else the block itself.
    public var unmapped: CIDR {
        guard prefixLength >= 96, base.unmapped.family == .v4, base.family == .v6 else { return self }
        return CIDR(base.unmapped, prefixLength: prefixLength - 96)
    }

    private static func mask(_ family: IPAddress.Family, _ length: Int) -> (UInt64, UInt64) {
        if family == .v4 { return (0, length == 0 ? 0 : (~0 << UInt64(32 - length)) & 0xffff_ffff) }
        return (
            length == 0 ? 0 : ~0 << UInt64(64 - min(length, 64)),
            length <= 64 ? 0 : ~0 << UInt64(128 - length)
        )
    }
}

extension CIDR: CustomStringConvertible {
    public var description: String { "\(base)/\(prefixLength)" }
}
