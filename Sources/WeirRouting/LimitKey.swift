import WeirMemory
import WeirModel
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

extension RateBound {
    /// The bound that `limit` means; none for nil.
    package init(_ limit: RateLimit?) {
        guard let limit else {
            self = .none
            return
        }
        // Rounded up, so that a rate is never passed. A million a second, the most, is a whole number of nanoseconds.
        let (count, period) = (UInt64(limit.count), limit.period.clampedNanoseconds)
        self.init(interval: max((period + count - 1) / count, 1), burst: limit.burst)
    }
}
