import WeirUring

/// The control groups (cgroups(7)) that this process is in, as far as they limit memory and processors: what a
/// container may use, whatever the machine has.
package struct ControlGroups: Sendable {
    private enum Version {
        case v1
        case v2
    }

    /// A group's directory. Limits of the groups around it hold as well.
    private struct Place {
        let path: String
        let version: Version
    }

    private var memory: [Place] = []
    private var processor: [Place] = []
    private let read: @Sendable (String) -> String?

    /// Of the calling process.
    package static func here() -> ControlGroups {
        let read = { @Sendable (path: String) in HostFacts.text(ofFile: path) }
        return ControlGroups(mounts: read("/proc/self/mounts") ?? "", membership: read("/proc/self/cgroup") ?? "", read)
    }

    /// `mounts` and `membership` as /proc/self/mounts and /proc/self/cgroup have them; `read` gives a file's text.
    package init(mounts: String, membership: String, _ read: @escaping @Sendable (String) -> String?) {
        self.read = read
        for line in mounts.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count >= 4 else { continue }
            let (root, options) = (String(fields[1]), fields[3].split(separator: ","))
            switch fields[2] {
            case "cgroup2":
                let places = Self.places(root, .v2, path: Self.path(in: membership, controller: nil))
                memory += places
                processor += places
            case "cgroup":
                if options.contains("memory") {
                    memory += Self.places(root, .v1, path: Self.path(in: membership, controller: "memory"))
                }
                if options.contains("cpu") {
                    processor += Self.places(root, .v1, path: Self.path(in: membership, controller: "cpu"))
                }
            default: break
            }
        }
    }

    /// `hierarchy:controllers:path`; hierarchy 0 without controllers is version 2.
    private static func path(in membership: String, controller: Substring?) -> Substring? {
        for line in membership.split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            if let controller {
                if fields[1].split(separator: ",").contains(controller) { return fields[2] }
            } else if fields[0] == "0", fields[1].isEmpty {
                return fields[2]
            }
        }
        return nil
    }

    /// The group's directory, those around it, and the root of the mount, which in a container is the group itself
    /// while the path may still be the host's.
    private static func places(_ root: String, _ version: Version, path: Substring?) -> [Place] {
        var places: [Place] = []
        var parts = (path ?? "").split(separator: "/")
        while !parts.isEmpty {
            places.append(Place(path: root + "/" + parts.joined(separator: "/"), version: version))
            parts.removeLast()
        }
        return places + [Place(path: root, version: version)]
    }

    /// The least limit on memory in bytes, and how much of it is used and cannot be had back, at this moment. nil:
    /// there is no limit.
    package var memoryLimit: (byteCount: UInt64, used: UInt64)? {
        var least: (limit: UInt64, place: Place)?
        for place in memory {
            let names = place.version == .v2 ? ["memory.max", "memory.high"] : ["memory.limit_in_bytes"]
            for name in names {
                // "max" is no number; version 1 says "none" by a number close to 2^63.
                guard let limit = number("\(place.path)/\(name)"), limit < 1 << 60 else { continue }
                if limit < least?.limit ?? .max { least = (limit, place) }
            }
        }
        return least.map { ($0.limit, used(in: $0.place)) }
    }

    /// Pages of files are not counted: the kernel drops them when memory is short.
    private func used(in place: Place) -> UInt64 {
        let isV2 = place.version == .v2
        let all = number("\(place.path)/\(isV2 ? "memory.current" : "memory.usage_in_bytes")") ?? 0
        let prefix = isV2 ? "" : "total_"
        var files: UInt64 = 0
        for line in (read("\(place.path)/memory.stat") ?? "").split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count == 2, let bytes = UInt64(fields[1]) else { continue }
            if fields[0] == "\(prefix)inactive_file" || fields[0] == "\(prefix)active_file" { files += bytes }
        }
        return all > files ? all - files : 0
    }

    /// How many processors' time there is, rounded up; nil: there is no limit.
    package var processorLimit: Int? {
        var least: Int?
        for place in processor {
            let quota: UInt64?
            let period: UInt64?
            switch place.version {
            case .v2:
                let fields = (read("\(place.path)/cpu.max") ?? "").split { $0 == " " || $0 == "\n" }
                quota = fields.first.flatMap { UInt64($0) }
                period = fields.count > 1 ? UInt64(fields[1]) : nil
            case .v1:
                // -1 where there is none.
                quota = number("\(place.path)/cpu.cfs_quota_us")
                period = number("\(place.path)/cpu.cfs_period_us")
            }
            guard let quota, let period, period > 0 else { continue }
            least = min(least ?? .max, max(Int(clamping: (quota + period - 1) / period), 1))
        }
        return least
    }

    private func number(_ path: String) -> UInt64? {
        read(path).flatMap { UInt64($0.prefix { $0 != "\n" }) }
    }
}
