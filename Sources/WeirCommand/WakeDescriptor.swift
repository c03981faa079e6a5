import CWeir
import Glibc
import Weir

/// Lets one thread wake another that waits in `wait(for:)`. Lives as long as the process.
package struct WakeDescriptor: Sendable {
    package let descriptor: CInt

    package init() throws(CommandFailure) {
        descriptor = cweir_eventfd()
        guard descriptor >= 0 else { throw CommandFailure(.runTime, ["weir: eventfd: \(systemMessage(errno))"]) }
    }

    package func signal() { cweir_eventfd_signal(descriptor) }
    package func drain() { cweir_eventfd_drain(descriptor) }
}

/// Waits until one of the descriptors is readable; false where `milliseconds` went by first (-1: never).
@discardableResult
package func wait(for descriptors: [CInt], milliseconds: CInt = -1) -> Bool {
    var entries = descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    while true {
        let count = unsafe poll(&entries, nfds_t(entries.count), milliseconds)
        if count >= 0 { return count > 0 }
        precondition(errno == EINTR, "poll: errno \(errno)")
    }
}
