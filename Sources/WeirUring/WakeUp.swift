import CWeir
import Glibc

/// What other threads end a wait with. Closed when the last who could signal is gone, so that a late signal never
/// reaches a descriptor that belongs to somebody else by then.
final class WakeUp: Sendable {
    let descriptor: Int32

    init() throws(UringDriver.SetupFailure) {
        let descriptor = cweir_eventfd()
        guard descriptor >= 0 else { throw UringDriver.SetupFailure(step: "eventfd", code: errno) }
        self.descriptor = descriptor
    }

    deinit { Glibc.close(descriptor) }

    func signal() { cweir_eventfd_signal(descriptor) }

    func drain() { cweir_eventfd_drain(descriptor) }
}
