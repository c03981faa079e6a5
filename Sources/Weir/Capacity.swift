import CWeir
import WeirMemory
import WeirModel

/// What the machine's limits allow, found once at start (T-12): no session is accepted that could not be served.
struct Capacity {
    /// Sessions at once over all workers.
    let sessionCountMax: Int
    /// Buffers and blocks of one worker.
    let largeBufferCount: Int
    let blockCount: Int
    let workerCount: Int

    /// Descriptors that are not sessions': log, resolver sockets, rings, listeners, the admin endpoint's connections,
    /// and whatever the embedding program has open.
    private static let descriptorReserve = 256

    /// A session, its opening, two blocks and its places in tables, rounded up.
    private static let sessionByteCount = 12_288

    init(_ configuration: Configuration) {
        workerCount = configuration.workerCount ?? Int(cweir_processor_count())
        let descriptorLimit = cweir_raise_descriptor_limit()
        let listening = configuration.listeners.count * workerCount
        let descriptors = descriptorLimit < 0 ? 1024 : Int(clamping: descriptorLimit)
        // A session has two sockets.
        let affordable = max((descriptors - Self.descriptorReserve - listening) / 2, 16)
        // An eighth of the memory is for sessions and what they hold back, an eighth for buffers. Every worker has room
        // for all sessions, because the kernel may spread them unevenly; memory is touched only when it is used.
        let eighth = Int(clamping: cweir_memory_byte_count() / 8)
        let byMemory = max(eighth / workerCount / Self.sessionByteCount, 1024)
        sessionCountMax = min(configuration.limits.connections ?? affordable, affordable, byMemory)
        // A buffer for each direction of every session where memory allows, so that no direction can keep another from
        // its one. Buffer numbers are 16 bits wide in the ring.
        let memory = configuration.limits.bufferByteCount ?? eighth
        let buffersByMemory = memory / workerCount / BufferPool.largeByteCount
        largeBufferCount = min(max(min(sessionCountMax * 2, buffersByMemory), 64), 65536)
        blockCount = sessionCountMax * 2 + 1024
    }
}
