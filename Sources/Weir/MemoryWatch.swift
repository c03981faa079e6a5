import Glibc
import WeirUring

/// Says when most of the memory is used that we may use (T-13): above the high mark, until below the low one.
package struct MemoryWatch: Sendable {
    private let groups: ControlGroups
    private let meminfo: @Sendable () -> String?
    /// Above the high mark.
    package private(set) var isShort = false

    // Percent. A group is all ours, and its end is the end; a machine has others on it, who may be told to give way.
    private static let groupMarks = (high: UInt64(95), low: UInt64(90))
    private static let machineMarks = (high: UInt64(98), low: UInt64(96))

    package init(
        groups: ControlGroups = .here(),
        meminfo: @escaping @Sendable () -> String? = { HostFacts.text(ofFile: "/proc/meminfo") }
    ) {
        self.groups = groups
        self.meminfo = meminfo
    }

    /// Looks again.
    package mutating func look() {
        if let group = groups.memoryLimit {
            judge(group.used, of: group.byteCount, Self.groupMarks)
        } else if let (used, total) = machine() {
            judge(used, of: total, Self.machineMarks)
        }
    }

    private mutating func judge(_ used: UInt64, of total: UInt64, _ marks: (high: UInt64, low: UInt64)) {
        isShort = used / 100 * 100 >= total / 100 * (isShort ? marks.low : marks.high)
    }

    private func machine() -> (used: UInt64, total: UInt64)? {
        var total: UInt64?
        var available: UInt64?
        for line in (meminfo() ?? "").split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count >= 2 else { continue }
            if fields[0] == "MemTotal:" { total = UInt64(fields[1]) }
            if fields[0] == "MemAvailable:" { available = UInt64(fields[1]) }
        }
        guard let total, let available, available <= total else { return nil }
        return (total - available, total)
    }
}
