import CWeir
import Glibc

/// A thread of the operating system with every signal blocked: signals are for the thread that waits for them, and a
/// write to a closed pipe is then an EPIPE and nothing more. Not a Swift task: an io_uring ring belongs to one thread
/// for its whole life.
package struct SystemThread: Sendable {
    package struct Failure: Error, Sendable {
        /// An errno.
        package let code: Int32

        package init(code: Int32) { self.code = code }
    }

    private final class Body: Sendable {
        let name: String
        let run: @Sendable () -> Void

        init(_ name: String, _ run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    private let handle: pthread_t

    /// Starts `run` on a new thread. `name` is what ps, top and gdb show: at most 15 bytes count.
    package init(name: String, _ run: @escaping @Sendable () -> Void) throws(Failure) {
        var all = sigset_t()
        var before = sigset_t()
        unsafe sigfillset(&all)
        // The new thread inherits the mask, so no signal can reach it before it blocks them itself.
        unsafe pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { unsafe _ = pthread_sigmask(SIG_SETMASK, &before, nil) }
        // The thread takes the body over; where there is no thread, it is taken back.
        let body = unsafe Unmanaged.passRetained(Body(name, run))
        var handle = pthread_t()
        let code = unsafe pthread_create(
            &handle, nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                let body = unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
                unsafe cweir_thread_name(body.name)
                body.run()
                return nil
            }, body.toOpaque())
        guard code == 0 else {
            unsafe body.release()
            throw Failure(code: code)
        }
        self.handle = handle
    }

    /// Nobody will wait for it: what the system keeps of it goes when it ends. Instead of `join()`.
    package func detach() { pthread_detach(handle) }

    /// Waits for its end. Once.
    package func join() { pthread_join(handle, nil) }
}
