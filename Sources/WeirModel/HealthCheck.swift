import WeirNet

/// How the endpoints of a cluster are asked, again and again, whether they serve.
///
/// An endpoint counts as healthy until its first check has ended; that one decides at once. From then on `fall` failures
/// in a row make it unhealthy and `rise` successes in a row healthy, so one that goes silent is found out after
/// `fall` × `interval` + `timeout` at the latest (and a jitter).
public struct HealthCheck: Sendable, Equatable {
    /// What a check does once it has connected. Where the cluster sends a PROXY header, each kind sends one first that says
    /// LOCAL (v2) or UNKNOWN (v1): no client stands behind it.
    public enum Kind: String, Sendable, Equatable, CaseIterable {
        /// Nothing: a connection that opens is enough.
        case tcp
        /// Sends the PROXY header (v2 where the cluster sends none) and waits whether the endpoint parts from it: for a tenth
        /// of the timeout, twice as long as the connect took where that is more. Silence, or bytes, is success.
        case proxy
        /// Sends a ClientHello; a whole ServerHello is success. Nothing is verified.
        case tls
        /// Sends a GET (HTTP/1.1); a status in `expected` is success.
        case http
    }

    public var kind: Kind
    /// From the start of a check to that of the next: 10 ms...1 d.
    public var interval: Duration = .seconds(1)
    /// One check, name and connect included. Above zero, not above `interval`: a check would be due before the last had ended.
    public var timeout: Duration = .seconds(1)
    /// Failures in a row that make an endpoint unhealthy: 1...100.
    public var fall = 2
    /// Successes in a row that make it healthy: 1...100.
    public var rise = 2
    /// How much of the interval, in percent, a check may be late by, drawn for each anew: 0...50.
    public var jitter = 10
    /// nil: the endpoint's.
    public var port: UInt16?
    /// SNI of `tls`, host of `http`; nil: the endpoint's name. An endpoint that is an address has no SNI then.
    public var serverName: ServerName?
    /// `http`: begins with `/`, visible ASCII, at most 1024 bytes.
    public var path = "/"
    /// `http`: statuses that are successes, each range in 100...599. Not empty.
    public var expected: [ClosedRange<Int>] = [200...399]

    public init(_ kind: Kind) { self.kind = kind }

    public static let intervalRange: ClosedRange<Duration> = .milliseconds(10) ... .seconds(86400)
    public static let countRange = 1...100
    public static let jitterRange = 0...50
    public static let statusRange = 100...599
    public static let pathByteCountMax = 1024

    /// Whether `text` may be a `path`.
    public static func isPath(_ text: String) -> Bool {
        text.hasPrefix("/") && text.utf8.count <= pathByteCountMax
            && text.utf8.allSatisfy { (0x21...0x7e).contains($0) }
    }
}

extension HealthCheck {
    func check(_ part: String, _ found: inout FaultList) {
        if !Self.intervalRange.contains(interval) {
            found.add(part, "the health check's interval of \(interval) is not 10 ms...1 d")
        }
        found.addUnlessPositive(timeout, part, "health check's timeout")
        if timeout > interval {
            found.add(part, "the health check's timeout of \(timeout) is longer than its interval of \(interval)")
        }
        for (name, count) in [("fall", fall), ("rise", rise)] where !Self.countRange.contains(count) {
            found.add(part, "the health check's \(name), \(count), is not in 1...100")
        }
        if !Self.jitterRange.contains(jitter) {
            found.add(part, "the health check's jitter, \(jitter), is not in 0...50")
        }
        if port == 0 { found.add(part, "the health check's port 0 cannot be connected to") }
        if !Self.isPath(path) {
            found.add(part, "the health check's path is not a `/` and at most 1023 visible ASCII characters")
        }
        if expected.isEmpty { found.add(part, "the health check expects no status") }
        for range in expected where range.lowerBound < 100 || range.upperBound > 599 {
            let text = "\(range.lowerBound)-\(range.upperBound)"
            found.add(part, "the health check expects \(text), which is not in 100...599")
        }
    }
}
