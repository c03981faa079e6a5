import WeirTelemetry

/// What is said about shortages: a line for each kind that was met since the last look, with the limit and the remedy.
/// Whoever asks once a second says each at most once a second; workers only count.
package struct ShortageWatch {
    private var seen = Array(repeating: UInt64(0), count: Shortage.allCases.count)

    package init() {}

    /// `count` gives the sum over all workers so far.
    package mutating func lines(_ capacity: Capacity, count: (Shortage) -> UInt64) -> [String] {
        var lines: [String] = []
        for kind in Shortage.allCases {
            let now = count(kind)
            let added = now &- seen[Int(kind.rawValue)]
            seen[Int(kind.rawValue)] = now
            guard added > 0 else { continue }
            let times = added == 1 ? "once" : "\(added) times"
            lines.append("short of \(kind.words), \(times): \(kind.explanation(capacity))")
        }
        return lines
    }
}

extension Shortage {
    fileprivate var words: String {
        switch self {
        case .sessions: "sessions"
        case .descriptors: "descriptors"
        case .memory: "memory"
        case .buffers: "relay buffers"
        case .sourcePorts: "source ports"
        case .completions: "completion queue entries"
        case .logRecords: "room for log records"
        case .resolver: "room for questions to the resolver"
        case .clientTable: "room for clients with limits"
        }
    }

    fileprivate func explanation(_ capacity: Capacity) -> String {
        let machine = capacity.machine
        switch self {
        case .sessions:
            let remedy =
                switch capacity.bound {
                case .configuration: "raise limits.connections"
                case .descriptors: "raise LimitNOFILE (ulimit -Hn), \(machine.descriptorCount) now"
                case .memory: "give it more memory, \(machine.memoryByteCount >> 20) MiB now"
                }
            return "clients beyond \(capacity.sessionCountMax) are reset; \(remedy)"
        case .descriptors:
            return
                "accepting pauses until some are free; raise LimitNOFILE (ulimit -Hn), or fs.file-max for the machine"
        case .memory:
            return "accepting pauses; give it more memory (\(machine.memoryByteCount >> 20) MiB now) "
                + "or lower limits.connections (\(capacity.sessionCountMax) now)"
        case .buffers:
            let megabytes = (capacity.largeBufferCount * capacity.workerCount) >> 6
            return "slow readers hold most of \(megabytes) MiB, others wait for theirs; raise limits.buffer_memory"
        case .sourcePorts:
            return "connects to one destination fail; widen net.ipv4.ip_local_port_range, or add addresses or endpoints"
        case .completions:
            return "accepting pauses while the kernel holds what did not fit; add workers"
        case .logRecords:
            return "the access log cannot follow and records are lost; write to a faster place, or log.access: off"
        case .resolver:
            return "names are asked for faster than name servers answer; look at resolver.servers"
        case .clientTable:
            return "limits per client are not exact for those that find no place; many addresses come at once"
        }
    }
}
