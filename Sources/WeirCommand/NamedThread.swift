import CWeir
import Glibc
import Weir

/// Starts a thread that runs `body` and ends with it or with the process.
///
/// The closure's only reference travels through the C call and is taken back by the thread exactly once.
package func startThread(named name: String, _ body: @escaping @Sendable () -> Void) throws(CommandFailure) {
    final class Start {
        let name: String
        let body: @Sendable () -> Void
        init(_ name: String, _ body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    let start = unsafe Unmanaged.passRetained(Start(name, body))
    var thread = pthread_t()
    let code = unsafe pthread_create(
        &thread, nil,
        { raw in
            let start = unsafe Unmanaged<Start>.fromOpaque(raw!).takeRetainedValue()
            unsafe cweir_name_thread(start.name)
            start.body()
            return nil
        }, start.toOpaque())
    guard code == 0 else {
        unsafe start.release()
        throw CommandFailure(.runTime, ["weir: cannot start the thread \(name): \(systemMessage(code))"])
    }
    pthread_detach(thread)
}
