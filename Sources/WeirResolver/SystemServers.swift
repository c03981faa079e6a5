import CAres
import Glibc

/// The file that names the system's DNS servers, and whether it has changed.
package struct SystemServers: Sendable {
    package var path: String
    /// The port of every server: the file cannot say it.
    package var port: UInt16

    package init(path: String = "/etc/resolv.conf", port: UInt16 = 53) {
        self.path = path
        self.port = port
    }

    /// Two stamps of a file are equal where nobody wrote or replaced it in between.
    struct Stamp: Equatable {
        private var inode: UInt = 0
        private var byteCount = 0
        private var modifiedSeconds = 0
        private var modifiedNanoseconds = 0

        /// All zero where there is no such file.
        init(path: String) {
            var status = stat()
            guard unsafe stat(path, &status) == 0 else { return }
            inode = UInt(status.st_ino)
            byteCount = Int(status.st_size)
            modifiedSeconds = status.st_mtim.tv_sec
            modifiedNanoseconds = status.st_mtim.tv_nsec
        }
    }

    var stamp: Stamp { Stamp(path: path) }
}
