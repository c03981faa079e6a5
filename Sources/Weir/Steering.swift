import CWeir
import WeirModel

/// Connections go to the worker of the CPU that received them: every worker is bound to a CPU, and the kernel chooses
/// among the listening sockets of an address by the CPU that it runs on (SO_ATTACH_REUSEPORT_CBPF, Linux 4.5). Packets,
/// interrupts and memory of a connection then stay with one core, where the network card spreads them over all.
struct Steering: Sendable {
    /// CPU `n` of those that this process may use belongs to worker `n % workerCount`.
    private let processors: [Int32]
    private let workerCount: Int

    /// nil: the kernel spreads connections by a hash of their addresses, and workers run where it likes.
    static func chosen(by configuration: Configuration, workerCount: Int) throws(Proxy.StartFailure) -> Steering? {
        guard configuration.steering == .cpu else { return nil }
        var processors = [Int32](repeating: 0, count: 4096)
        let count = unsafe processors.withUnsafeMutableBufferPointer {
            unsafe cweir_allowed_processors($0.baseAddress, Int32($0.count))
        }
        guard workerCount <= Int(count) else {
            throw .system(
                what: "steer by CPU: there are \(workerCount) workers, and \(count) CPUs that this process may use",
                code: 0)
        }
        return Steering(processors: Array(processors.prefix(Int(count))), workerCount: workerCount)
    }

    /// Binds the calling thread to the CPU of `worker`. Where the kernel refuses, it runs where it did.
    func bind(worker: Int) { _ = cweir_bind_thread(processors[worker]) }

    /// Steers the listening sockets that share the address of `descriptor`: as many as workers, in their order. 0 or an
    /// errno.
    func attach(to descriptor: Int32) -> Int32 {
        unsafe processors.withUnsafeBufferPointer {
            unsafe -cweir_steer_by_processor(descriptor, $0.baseAddress, Int32($0.count), Int32(workerCount))
        }
    }

    /// Leaves it to the kernel again.
    static func detach(from descriptor: Int32) { cweir_steer_by_hash(descriptor) }
}
