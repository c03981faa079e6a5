import Glibc

/// Wakes one thread that waits, from any other. A wake before the wait is not lost.
struct WakePipe: ~Copyable {
    private let readEnd: Int32
    private let writeEnd: Int32

    init() throws(SystemFile.Failure) {
        var ends: InlineArray<2, Int32> = [-1, -1]
        var span = ends.mutableSpan
        let code = unsafe span.withUnsafeMutableBufferPointer { unsafe pipe($0.baseAddress) }
        guard code == 0 else { throw SystemFile.Failure(code: errno) }
        readEnd = ends[0]
        writeEnd = ends[1]
        for end in [readEnd, writeEnd] {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
    }

    deinit {
        close(readEnd)
        close(writeEnd)
    }

    func signal() {
        // A pipe that is full wakes as well as one that was just written to.
        _ = try? SystemFile.write(writeEnd, [0], 0..<1)
    }

    /// Returns after a signal, which it takes, or after `milliseconds`.
    func wait(milliseconds: Int32) {
        guard SystemFile.wait(readEnd, for: Int32(POLLIN), milliseconds: milliseconds) else { return }
        SystemFile.drain(readEnd)
    }
}
