import CWeir
import Glibc

/// Wakes the resolver's thread: made before the ports, whose `wakeResolver` raises it.
package final class ResolverSignal: Sendable {
    /// Readable once raised.
    let descriptor: CInt

    package init() throws(ResolverFault) {
        descriptor = cweir_eventfd()
        guard descriptor >= 0 else { throw .noDescriptor(code: errno) }
    }

    deinit { close(descriptor) }

    /// Safe from any thread, also when no resolver runs.
    package func raise() { cweir_eventfd_signal(descriptor) }

    /// Returns once it is raised, and clears it.
    func wait() {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        while unsafe poll(&entry, 1, -1) < 1 {}
        clear()
    }

    func clear() { cweir_eventfd_drain(descriptor) }
}

/// Why a resolver cannot start; each with an `errno`.
package enum ResolverFault: Error, Equatable {
    case noDescriptor(code: CInt)
    case noThread(code: CInt)
}
