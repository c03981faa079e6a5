import WeirNet

/// Hashes that are the same in every process and on every machine, so that gateways beside each other send a client to the same
/// endpoint. Not for tables that a peer could fill: nobody keeps him from choosing his address.
package enum StableHash {
    package static func of(_ text: String, seed: UInt64) -> UInt64 {
        // FNV-1a over the bytes, then mixed.
        mixed(text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 } ^ mixed(seed))
    }

    package static func of(_ number: UInt64) -> UInt64 { mixed(number) }

    /// IPv4-mapped addresses hash as IPv4.
    package static func of(_ address: IPAddress) -> UInt64 {
        let address = address.unmapped
        return mixed(address.low ^ mixed(address.high &+ (address.family == .v6 ? 1 : 0)))
    }

    /// The address and the port.
    package static func of(_ address: SocketAddress) -> UInt64 { joined(of(address.ip), UInt64(address.port)) }

    /// One of two; the order counts.
    package static func joined(_ first: UInt64, _ second: UInt64) -> UInt64 { mixed(first ^ mixed(second)) }

    /// The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    private static func mixed(_ value: UInt64) -> UInt64 {
        var bits = value &+ 0x9e37_79b9_7f4a_7c15
        bits = (bits ^ bits >> 30) &* 0xbf58_476d_1ce4_e5b9
        bits = (bits ^ bits >> 27) &* 0x94d0_49bb_1331_11eb
        return bits ^ bits >> 31
    }
}
