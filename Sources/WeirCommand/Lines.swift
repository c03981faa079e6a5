import Glibc
import Synchronization
import Weir

/// A line for people. They go to standard error: standard output carries the access log and what a command was asked
/// to print, and nothing else. A reader that has stalled holds nobody up: what finds no room within 100 ms is lost, and
/// what comes then is lost at once, until there is room.
package func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    // One line at a time: the room that one thread has found, another must not take.
    isReaderStalled.withLock { isStalled in
        var rest = bytes[...]
        while !rest.isEmpty {
            guard hasRoom(STDERR_FILENO, withinMilliseconds: isStalled ? 0 : 100) else {
                isStalled = true
                return
            }
            isStalled = false
            // As much as a pipe with room takes without waiting.
            let part = rest.prefix(Int(PIPE_BUF))
            guard write(part, to: STDERR_FILENO) else { return }
            rest = rest.dropFirst(part.count)
        }
    }
}

private let isReaderStalled = Mutex(false)

/// Waits for the reader, however long it takes. In one call where possible, so that lines of several threads do not
/// mix. What a closed pipe refuses is lost.
package func write(_ text: String, to descriptor: CInt) {
    _ = write(Array(text.utf8)[...], to: descriptor)
}

/// False: refused.
private func write(_ bytes: ArraySlice<UInt8>, to descriptor: CInt) -> Bool {
    var rest = bytes
    while !rest.isEmpty {
        let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress!, $0.count) }
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { return false }
        rest = rest.dropFirst(count)
    }
    return true
}

/// True also where writing will fail.
private func hasRoom(_ descriptor: CInt, withinMilliseconds milliseconds: CInt) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    while true {
        let count = unsafe poll(&entry, 1, milliseconds)
        if count >= 0 { return count > 0 }
        guard errno == EINTR else { return false }
    }
}
