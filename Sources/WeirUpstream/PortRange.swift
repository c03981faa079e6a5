/// The ports that the kernel chooses from for a connect, as its settings say.
package struct PortRange: Sendable, Equatable {
    package let low: Int
    package let high: Int
    /// Ports inside the range that are kept back.
    package let reservedCount: Int

    /// net.ipv4.ip_local_port_range of a machine where nobody has changed it.
    package static let standard = PortRange(localRange: "32768 60999", reserved: "")!

    /// `localRange`: the text of net.ipv4.ip_local_port_range, two ports; `reserved`: of ip_local_reserved_ports, ports and
    /// ranges such as `8080,9148-9150`, in any order. nil where either is not that.
    package init?(localRange: String, reserved: String) {
        let ends = localRange.split(whereSeparator: \.isWhitespace).map(Self.port)
        guard ends.count == 2, let low = ends[0], let high = ends[1], low > 0, low <= high else { return nil }
        var isReserved = Array(repeating: false, count: 65536)
        for item in reserved.split(whereSeparator: { $0.isWhitespace || $0 == "," }) {
            let ends = item.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map(Self.port)
            guard let first = ends[0], let last = ends.last ?? first, first <= last else { return nil }
            for port in first...last { isReserved[port] = true }
        }
        self.low = low
        self.high = high
        reservedCount = isReserved[low...high].count { $0 }
    }

    /// Ports towards one destination from one address; at least 1, so that there is something to count against.
    package var portCount: Int { max(1, high - low + 1 - reservedCount) }

    private static func port(_ text: Substring) -> Int? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
        return UInt16(text).map { Int($0) }
    }
}
