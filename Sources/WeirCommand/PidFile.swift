import Glibc
import Weir

/// A file with the number of the process that serves, for those who send signals.
package struct PidFile: Sendable {
    private let path: String
    private let descriptor: CInt

    /// Makes the file, as long as the process may, and gives it to who the process becomes: the one that takes over in
    /// an upgrade has no more rights than that.
    package init(_ path: String, owner: Privileges?) throws(CommandFailure) {
        self.path = path
        descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
        var isDone = descriptor >= 0
        if isDone, let owner, getuid() == 0 { isDone = fchown(descriptor, owner.user, owner.group) == 0 }
        guard isDone else { throw CommandFailure(.runTime, ["weir: \(path): \(systemMessage(errno))"]) }
    }

    /// From here on this process is the one.
    package func write() {
        let bytes = Array("\(getpid())\n".utf8)
        // In place, not by a rename: the process may not be allowed to change the directory.
        let count = unsafe pwrite(descriptor, bytes, bytes.count, 0)
        if count != bytes.count || ftruncate(descriptor, off_t(bytes.count)) != 0 {
            say("weir: \(path): \(systemMessage(errno))")
        }
    }

    /// Removes it, or empties it where it cannot be removed; leaves it alone once another process stands in it.
    package func remove() {
        var bytes = [UInt8](repeating: 0, count: 32)
        let count = unsafe pread(descriptor, &bytes, bytes.count, 0)
        guard count > 0, String(decoding: bytes[..<count], as: UTF8.self) == "\(getpid())\n" else { return }
        if unsafe unlink(path) != 0 { _ = ftruncate(descriptor, 0) }
    }
}
