/// How many new sessions in how much time: a bucket that holds `burst` and gains `count` in every `period`, evenly.
public struct RateLimit: Sendable, Equatable {
    /// 1...1,000,000.
    public var count: Int
    /// 1 ms...1 d.
    public var period: Duration
    /// How many may come at once after a quiet time: 1...1,000,000.
    public var burst: Int

    /// `burst` is `count` where nothing is said.
    public init(_ count: Int, per period: Duration = .seconds(1), burst: Int? = nil) {
        self.count = count
        self.period = period
        self.burst = burst ?? count
    }

    public static let countRange = 1...1_000_000
    static let periodRange: ClosedRange<Duration> = .milliseconds(1) ... .seconds(86400)
}

extension RateLimit? {
    func check(_ part: String, _ name: String, _ found: inout FaultList) {
        guard let limit = self else { return }
        let range = RateLimit.countRange
        if !range.contains(limit.count) || !RateLimit.periodRange.contains(limit.period) {
            found.add(part, "\(name), \(limit.count) in \(limit.period), is not 1...\(range.upperBound) in 1 ms...1 d")
        }
        if !range.contains(limit.burst) {
            found.add(part, "\(name), a burst of \(limit.burst), is not 1...\(range.upperBound)")
        }
    }
}
