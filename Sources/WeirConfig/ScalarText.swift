import WeirModel
import WeirNet

// The small texts that both formats share: durations, sizes, endpoints, blocks with ports.

/// Reads decimal digits only: no sign, no space.
func decimal(_ text: some StringProtocol) -> Int? {
    guard !text.isEmpty, text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
    return Int(text)
}

/// Reads `80` or `8000-8999`.
func portRange(_ text: some StringProtocol) -> ClosedRange<UInt16>? {
    let ends = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
    guard let low = decimal(ends[0]), let high = ends.count == 2 ? decimal(ends[1]) : low else { return nil }
    guard low >= 1, low <= high, high <= 65535 else { return nil }
    return UInt16(low)...UInt16(high)
}

/// Amounts with their units, `1h30m`; the largest is a hundred years. nil where a unit is unknown or missing.
func amounts(_ text: String, units: [String: Duration]) -> Duration? {
    var rest = Substring(text)
    var sum = Duration.zero
    guard !rest.isEmpty else { return nil }
    while !rest.isEmpty {
        let digits = rest.prefix { $0.isASCII && $0.isNumber }
        rest = rest.dropFirst(digits.count)
        let unit = rest.prefix { $0.isASCII && $0.isLetter }
        rest = rest.dropFirst(unit.count)
        guard let count = decimal(digits), count <= 3_155_760_000_000, let size = units[String(unit)] else {
            return nil
        }
        let (seconds, attoseconds) = size.components
        // Whole seconds first: a product in attoseconds overflows after nine seconds.
        let part =
            seconds > 0
            ? count.multipliedReportingOverflow(by: Int(seconds))
            : (partialValue: count / 1000, overflow: false)
        guard !part.overflow, part.partialValue <= 3_155_760_000 else { return nil }
        sum += .seconds(part.partialValue)
        if attoseconds > 0 { sum += .milliseconds(count % 1000) }
        guard sum <= .seconds(3_155_760_000) else { return nil }
    }
    return sum
}

extension Endpoint {
    /// Reads `a.b.c.d:port`, `[v6]:port` or `name:port`.
    init?(_ text: String) {
        if let address = SocketAddress(text) {
            self.init(host: .address(address.ip), port: address.port)
        } else {
            guard let colon = text.lastIndex(of: ":"), let port = decimal(text[text.index(after: colon)...]) else {
                return nil
            }
            guard (0...65535).contains(port), let name = try? ServerName(String(text[..<colon])) else { return nil }
            self.init(host: .name(name), port: UInt16(port))
        }
        if port == 0 { return nil }
    }
}

extension RateLimit {
    /// Reads `500/s`, `30/m` and `1000/h`.
    init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        let periods: [Substring: Duration] = ["s": .seconds(1), "m": .seconds(60), "h": .seconds(3600)]
        guard parts.count == 2, let count = decimal(parts[0]), Self.countRange.contains(count),
            let period = periods[parts[1]]
        else { return nil }
        self.init(count, per: period)
    }
}

extension DestinationPolicy.Exemption {
    /// Reads `10.0.0.0/8`, `10.0.0.0/8:443`, `10.0.0.0/8:8000-8999`, `fd00::/8` and `[fd00::/8]:443`.
    init?(_ text: String) {
        if let block = CIDR(text) {
            self.init(block)
            return
        }
        guard let colon = text.lastIndex(of: ":"), let ports = portRange(text[text.index(after: colon)...]) else {
            return nil
        }
        var host = text[..<colon]
        let bracketed = host.hasPrefix("[") && host.hasSuffix("]")
        if bracketed { host = host.dropFirst().dropLast() }
        // Without brackets the last group of an IPv6 address would be taken for a port.
        guard let block = CIDR(String(host)), bracketed == (block.base.family == .v6) else { return nil }
        self.init(block, ports: ports)
    }
}

extension ServerName.Refusal {
    /// What is wrong with the name, for a message.
    var explanation: String {
        switch self {
        case .empty: "the name is empty"
        case .tooLong: "the name is longer than 253 bytes, or a label of it than 63"
        case .emptyLabel: "a label is empty"
        case .forbiddenByte: "a name has only letters, digits, `-`, `_` and `.`"
        case .addressLiteral: "an address is no server name"
        }
    }
}
