import Glibc

/// A line for people. They go to standard error: standard output carries the access log and what a command was asked
/// to print, and nothing else.
package func say(_ line: String) { write(line + "\n", to: STDERR_FILENO) }

/// In one call where possible, so that lines of several threads do not mix. What a closed pipe refuses is lost.
package func write(_ text: String, to descriptor: CInt) {
    let bytes = Array(text.utf8)
    var start = 0
    while start < bytes.count {
        let count = unsafe bytes.withUnsafeBytes {
            unsafe Glibc.write(descriptor, $0.baseAddress! + start, $0.count - start)
        }
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { return }
        start += count
    }
}
