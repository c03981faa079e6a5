import Glibc

/// A thread of the operating system with every signal blocked: signals are for the thread that waits for them, and a
/// write to a closed pipe is then an EPIPE and nothing more.
struct LogThread: Sendable {
    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    private let handle: pthread_t

    init(_ run: @escaping @Sendable () -> Void) throws(SystemFile.Failure) {
        var all = sigset_t()
        var before = sigset_t()
        unsafe sigfillset(&all)
        // The new thread inherits the mask.
        unsafe pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
        // The thread takes the body over; where there is no thread, it is taken back.
        let body = unsafe Unmanaged.passRetained(Body(run))
        var handle = pthread_t()
        let code = unsafe pthread_create(
            &handle, nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                let body = unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
                LogThread.nameCurrent()
                body.run()
                return nil
            }, body.toOpaque())
        guard code == 0 else {
            unsafe body.release()
            throw SystemFile.Failure(code: code)
        }
        self.handle = handle
    }

    /// Waits for its end. Once.
    func join() { pthread_join(handle, nil) }

    /// pthread_setname_np is hidden without _GNU_SOURCE; the file behind it is not. Without /proc there is no name.
    private static func nameCurrent() {
        let descriptor = unsafe open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        _ = try? SystemFile.write(descriptor, Array("weir-log".utf8), 0..<8)
        close(descriptor)
    }
}
