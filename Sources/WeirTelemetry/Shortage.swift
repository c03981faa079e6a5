/// What the proxy can run short of: the closed set of labels of `weir_shortages_total`. Each time that something was
/// refused, paused or lost for want of it counts once.
public enum Shortage: UInt8, CaseIterable, BitwiseCopyable, Sendable {
    /// As many sessions as may be open are open.
    case sessions
    /// Accept or connect found no descriptor.
    case descriptors
    /// The kernel had no memory for a connection, or most of what we may use is used.
    case memory
    /// A receive found no relay buffer, or bytes that had to be held back found no block.
    case buffers
    /// A connect found no source port towards its destination.
    case sourcePorts
    /// The kernel had more completions than the queue holds.
    case completions
    /// The ring to the log was full.
    case logRecords
    /// The resolver had more questions than it takes.
    case resolver
    /// More clients than the tables of the limits per client hold.
    case clientTable

    package var label: String {
        switch self {
        case .sessions: "sessions"
        case .descriptors: "descriptors"
        case .memory: "memory"
        case .buffers: "buffers"
        case .sourcePorts: "source_ports"
        case .completions: "completions"
        case .logRecords: "log_records"
        case .resolver: "resolver"
        case .clientTable: "client_table"
        }
    }
}
