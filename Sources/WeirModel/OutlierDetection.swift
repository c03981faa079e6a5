/// Passive health: an endpoint whose connects fail is ejected from the choice for a time. Envoy's and Istio's outlier detection
/// for what a proxy sees that does not decrypt; the names are theirs.
public struct OutlierDetection: Sendable, Equatable {
    /// Failures in a row after which an endpoint is ejected, at the very failure: connects that fail or time out, and connections
    /// that end before their first byte. 0: never.
    public var consecutiveLocalOriginFailures = 5
    /// An endpoint that stays good for so long is forgiven one of its ejections: the next is that much shorter.
    public var interval: Duration = .seconds(10)
    /// The n-th ejection lasts n times this, `ejectionTimeMax` at most.
    public var baseEjectionTime: Duration = .seconds(30)
    public var ejectionTimeMax: Duration = .seconds(300)
    /// Of the cluster's endpoints, ejected at once; one may always be. 0...100.
    public var ejectionPercentMax = 10
    /// Where fewer of the cluster's endpoints than this are good, all of them serve, the bad ones too (Envoy's panic). 0: only
    /// where none is left. 0...100.
    public var minHealthPercent = 0

    public init() {}
}
