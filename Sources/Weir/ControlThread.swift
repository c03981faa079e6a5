import CWeir
import Glibc
import Synchronization
import WeirMemory

/// The thread for what happens rarely and outside any request: freeing snapshots once every worker has left them, and
/// noticing that the machine's addresses have changed.
final class ControlThread: Sendable {
    private final class Shared: Sendable {
        let isStopping = Atomic<Bool>(false)
        let bell: Int32
        let addressWatch: Int32

        init() {
            bell = cweir_eventfd()
            // Without netlink (some sandboxes) addresses are read again at every reload only.
            addressWatch = cweir_address_watch()
        }

        deinit {
            if bell >= 0 { close(bell) }
            if addressWatch >= 0 { close(addressWatch) }
        }
    }

    private let shared: Shared
    private let thread: SystemThread

    /// How often `tick` runs: often enough that memory which runs out is noticed before it is gone.
    static let tickMilliseconds: Int32 = 200

    /// `addressesChanged` runs after a change has settled.
    init(
        tick: @escaping @Sendable () -> Void, addressesChanged: @escaping @Sendable () -> Void
    ) throws(SystemThread.Failure) {
        let shared = Shared()
        guard shared.bell >= 0 else { throw SystemThread.Failure(code: errno) }
        self.shared = shared
        thread = try SystemThread(name: "weir-control") {
            var descriptors = [
                pollfd(fd: shared.bell, events: Int16(POLLIN), revents: 0),
                pollfd(fd: shared.addressWatch, events: Int16(POLLIN), revents: 0),
            ]
            while !shared.isStopping.load(ordering: .acquiring) {
                _ = unsafe poll(&descriptors, 2, Self.tickMilliseconds)
                if shared.isStopping.load(ordering: .acquiring) { break }
                if descriptors[1].fd >= 0, descriptors[1].revents != 0 {
                    cweir_discard(shared.addressWatch)
                    addressesChanged()
                }
                tick()
            }
        }
    }

    /// Ends the thread and waits for it.
    func stop() {
        shared.isStopping.store(true, ordering: .releasing)
        cweir_eventfd_signal(shared.bell)
        thread.join()
    }
}
