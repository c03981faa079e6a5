import CWeir
import Glibc

/// Notices when files may have changed, by watching the directories they are in: a file that is replaced by a rename,
/// as editors do, or through a link beside it, as Kubernetes volumes do, never changes itself.
package struct DirectoryWatch: ~Copyable {
    /// Readable when something happened; -1 where the system has no more inotify instances.
    package let descriptor: CInt
    private var watched: Set<CInt> = []

    package init() { descriptor = cweir_inotify() }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Watches the directories of these files, and of what they are links to. True where one of them was not watched
    /// before, so that a change may have been missed since the files were read.
    package mutating func cover(_ files: [String]) -> Bool {
        var isNew = false
        for directory in Set(files.flatMap { [Self.directory(of: $0), Self.directory(of: Self.resolved($0))] }) {
            let watch = unsafe cweir_inotify_watch(descriptor, directory)
            if watch >= 0, watched.insert(watch).inserted { isNew = true }
        }
        return isNew
    }

    package func drain() { cweir_inotify_drain(descriptor) }

    package static func directory(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// The path without links; unchanged where there is no such file.
    private static func resolved(_ path: String) -> String {
        guard let real = unsafe realpath(path, nil) else { return path }
        defer { unsafe free(real) }
        return unsafe String(cString: real)
    }
}
