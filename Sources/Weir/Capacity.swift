import CWeir
import WeirMemory
import WeirModel
import WeirSockets

/// What the machine, the process's limits and its control groups leave to us.
package struct MachineLimits: Sendable {
    package var descriptorCount: Int
    package var memoryByteCount: Int
    /// The memory limit is a control group's: whoever passes it is killed.
    package var isMemoryOfGroup: Bool
    package var processorCount: Int
    /// Bytes of pipes that the kernel gives an unprivileged user (fs.pipe-user-pages-soft).
    package var pipeByteCount: Int

    package init(
        descriptorCount: Int, memoryByteCount: Int, isMemoryOfGroup: Bool, processorCount: Int,
        pipeByteCount: Int = Self.pipeByteCountMax
    ) {
        self.pipeByteCount = pipeByteCount
        self.descriptorCount = descriptorCount
        self.memoryByteCount = memoryByteCount
        self.isMemoryOfGroup = isMemoryOfGroup
        self.processorCount = processorCount
    }

    /// What the kernel's own default comes to: 64 MiB.
    package static let pipeByteCountMax = 1 << 26

    /// Of the calling process. Raises its soft limit on descriptors to the hard one.
    package static func current(_ groups: ControlGroups = .here()) -> MachineLimits {
        let descriptors = cweir_raise_descriptor_limit()
        let machine = cweir_memory_byte_count()
        let group = groups.memoryLimit?.byteCount ?? .max
        let processors = Int(cweir_processor_count())
        return MachineLimits(
            descriptorCount: descriptors < 0 ? 1024 : Int(clamping: descriptors),
            memoryByteCount: Int(clamping: min(machine, group)),
            isMemoryOfGroup: group < machine,
            processorCount: min(processors, groups.processorLimit ?? processors),
            pipeByteCount: min(HostFacts.pipeByteCountMax ?? .max, pipeByteCountMax))
    }
}

/// How large everything is made, found once at start from what the machine allows (T-12, T-13): no session is accepted
/// that could not be served.
package struct Capacity: Sendable, CustomStringConvertible {
    package enum Bound: Sendable {
        case configuration
        case descriptors
        case memory
    }

    /// Sessions at once over all workers, and what it is that allows no more.
    package let sessionCountMax: Int
    package let bound: Bound
    /// Buffers and blocks of one worker.
    package let largeBufferCount: Int
    package let blockCount: Int
    package let workerCount: Int
    /// What one worker may have for directions that move in bulk: pipes, bytes of these, and large buffers.
    package let pipeCountMax: Int
    package let pipeByteCountMax: Int
    package let bulkBufferCountMax: Int
    package let machine: MachineLimits
    private let configuredCount: Int?

    /// Descriptors that are not sessions': log, resolver sockets, rings, the admin endpoint's connections, and whatever
    /// the embedding program has open. An eighth of few, so that a small limit still serves somebody.
    private static let descriptorReserve = 64...256
    /// Pipes of all workers, two descriptors each; with many workers two pipes for each. A process that has fewer than so many descriptors has none.
    private static let pipeCountOfAllMax = 64
    private static let descriptorsForPipes = 1024

    /// What a session costs where it is worst, one direction stalled: our own and the kernel's structures (12 KiB), a
    /// relay buffer (16 KiB), what the kernel holds for two sockets (`SocketBudget`).
    private static let sessionByteCount = 65536
    /// Few enough for any machine that runs at all.
    private static let sessionCountMin = 16

    package init(_ configuration: Configuration, _ machine: MachineLimits = .current()) {
        self.machine = machine
        workerCount = configuration.workerCount ?? machine.processorCount
        configuredCount = configuration.limits.connections
        let listening = configuration.listeners.count * workerCount
        let range = Self.descriptorReserve
        let hasPipes = configuration.splice != .off && machine.descriptorCount >= Self.descriptorsForPipes
        let pipeCount = min(machine.descriptorCount / 64, max(Self.pipeCountOfAllMax, 2 * workerCount))
        pipeCountMax = hasPipes ? pipeCount / workerCount : 0
        let reserve =
            min(max(machine.descriptorCount / 8, range.lowerBound), range.upperBound) + listening
            + 2 * pipeCountMax * workerCount
        // A session has two sockets.
        let byDescriptors = max((machine.descriptorCount - reserve) / 2, Self.sessionCountMin)
        let byMemory = max(machine.memoryByteCount / Self.sessionByteCount, Self.sessionCountMin)
        sessionCountMax = min(configuration.limits.connections ?? .max, byDescriptors, byMemory)
        if sessionCountMax == configuration.limits.connections {
            bound = .configuration
        } else {
            bound = sessionCountMax == byDescriptors ? .descriptors : .memory
        }
        // Every worker has room for all sessions, because the kernel may spread them unevenly; memory is touched only
        // when it is used. A buffer for each direction of every session where memory allows, so that no direction can
        // keep another from its one; else three eighths of the memory, which at 64 KiB per session and an even spread
        // are three buffers for every two sessions. Buffer numbers are 16 bits wide in the ring.
        let memory = configuration.limits.bufferByteCount ?? machine.memoryByteCount / 8 * 3
        let buffersByMemory = memory / workerCount / BufferPool.largeByteCount
        largeBufferCount = min(max(min(sessionCountMax * 2, buffersByMemory), 64), 65536)
        blockCount = sessionCountMax * 2 + 1024
        // A stalled direction can fill its pipe.
        pipeByteCountMax = min(machine.memoryByteCount / 16, machine.pipeByteCount) / workerCount
        let bulkMemory = machine.memoryByteCount / (hasPipes ? 64 : 16) / workerCount
        bulkBufferCountMax = min(bulkMemory / CarrierPool.bufferByteCount, hasPipes ? 16 : 64)
    }

    /// One worker's. `areSocketsBlocking`: the driver's.
    func carriers(areSocketsBlocking: Bool) -> CarrierPool {
        CarrierPool(
            pipeBudget: pipeByteCountMax, pipeCountMax: pipeCountMax, bufferCountMax: bulkBufferCountMax,
            areSocketsBlocking: areSocketsBlocking)
    }

    /// See `SocketBudget`; nil where the kernel looks after its own memory.
    var unsentByteCountMax: Int32? { machine.isMemoryOfGroup ? SocketBudget.unsentByteCountMax : nil }

    /// What start says: `at most 9872 sessions, bound by descriptors (descriptors 20000, memory …); …`.
    package var description: String {
        let source = machine.isMemoryOfGroup ? "of the control group" : "of the machine"
        let memory = "memory \(machine.memoryByteCount >> 20) MiB \(source)"
        let buffers = (largeBufferCount * workerCount * BufferPool.largeByteCount) >> 20
        return "at most \(sessionCountMax) sessions, bound by \(boundText) "
            + "(descriptors \(machine.descriptorCount), \(memory)); relay buffers up to \(buffers) MiB"
    }

    private var boundText: String {
        switch bound {
        case .configuration: "limits.connections"
        case .descriptors: "descriptors"
        case .memory: "memory"
        }
    }

    /// What the configuration asks for and cannot have.
    package var warning: String? {
        guard let configuredCount, configuredCount > sessionCountMax else { return nil }
        let remedy = bound == .descriptors ? "raise LimitNOFILE (ulimit -Hn)" : "give it more memory"
        return "limits.connections asks for \(configuredCount) sessions; \(boundText) allow"
            + "\(bound == .memory ? "s" : "") \(sessionCountMax): \(remedy)"
    }
}
