import CWeir
import Glibc

/// What ends a driver's wait from another thread.
///
/// Its descriptor is open as long as anybody holds it: a call that comes when the driver is gone must not reach another
/// descriptor of the process that got the same number.
package final class WakeEvent: Sendable {
    /// Readable once it was signalled, until it is drained.
    package let descriptor: Int32

    package init() throws(DriverSetupFailure) {
        descriptor = cweir_eventfd()
        guard descriptor >= 0 else { throw DriverSetupFailure(step: "eventfd", code: errno) }
    }

    deinit { close(descriptor) }

    /// Safe from any thread.
    package func signal() { cweir_eventfd_signal(descriptor) }

    package func drain() { cweir_eventfd_drain(descriptor) }
}
