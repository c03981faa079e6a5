import Glibc

/// The file calls that telemetry needs, one function each. An interrupted call is made again; any other failure is the
/// caller's to judge, as an errno.
enum SystemFile {
    struct Failure: Error {
        /// An errno.
        let code: Int32
    }

    /// Opens for appending and makes the file, mode 0640, where there is none. Never waits: a FIFO that nobody reads
    /// fails with ENXIO, and writes to one that is full with EAGAIN.
    static func openForAppending(_ path: String) throws(Failure) -> Int32 {
        while true {
            let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o640)
            if descriptor >= 0 { return descriptor }
            if errno != EINTR { throw Failure(code: errno) }
        }
    }

    /// True where a write goes to storage and so takes its time, but does not wait for a reader.
    static func isRegular(_ descriptor: Int32) -> Bool {
        var status = stat()
        return unsafe fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    /// Bytes taken, which may be fewer than `range.count`.
    static func write(_ descriptor: Int32, _ bytes: [UInt8], _ range: Range<Int>) throws(Failure) -> Int {
        precondition(range.upperBound <= bytes.count)
        while true {
            let count = unsafe bytes.withUnsafeBytes { buffer in
                unsafe Glibc.write(descriptor, UnsafeRawBufferPointer(rebasing: buffer[range]).baseAddress, range.count)
            }
            if count >= 0 { return count }
            if errno != EINTR { throw Failure(code: errno) }
        }
    }

    /// The first `byteCountMax` bytes; nil where the file cannot be read.
    static func read(_ path: String, byteCountMax: Int = 65536) -> [UInt8]? {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: byteCountMax)
        var count = 0
        while count < byteCountMax {
            let more = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe Glibc.read(
                    descriptor, UnsafeMutableRawBufferPointer(rebasing: buffer[count...]).baseAddress,
                    byteCountMax - count)
            }
            if more < 0 && errno == EINTR { continue }
            guard more > 0 else { break }
            count += more
        }
        return Array(bytes[..<count])
    }

    /// Takes what waits in a non-blocking pipe.
    static func drain(_ descriptor: Int32) {
        var bytes = [UInt8](repeating: 0, count: 64)
        while true {
            let count = unsafe bytes.withUnsafeMutableBytes { unsafe Glibc.read(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            if count < bytes.count { return }
        }
    }

    /// Waits until `descriptor` is ready for `events` (or broken), at most `milliseconds`. True where it is.
    static func wait(_ descriptor: Int32, for events: Int32, milliseconds: Int32) -> Bool {
        var item = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        return unsafe poll(&item, 1, milliseconds) > 0
    }
}
