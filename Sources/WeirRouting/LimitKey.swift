import WeirMemory
import WeirNet

extension IPAddress {
    /// What a limit per client counts by: an IPv4 address, also a mapped one, or the /64 of an IPv6 address, which is
    /// the least that one client has to itself.
    package var limitKey: ConnectionCounter.Client {
        let address = unmapped
        // The second word keeps the families apart.
        return address.family == .v4 ? .init(high: address.low, low: 4) : .init(high: address.high, low: 6)
    }
}
