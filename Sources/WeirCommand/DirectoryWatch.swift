import CWeir
import Glibc

/// Notices when files may have changed, by watching the directories that their names are looked up in: a file that is
/// replaced by a rename, as editors do, or through a link, as Kubernetes volumes do, never changes itself. A file that is
/// mounted by itself, as `docker run -v` does it, is watched as well: the directory hears nothing of what is written to it.
package struct DirectoryWatch: ~Copyable {
    /// What is of interest in a directory.
    private struct Interest {
        var names: Set<String> = []
        /// Whether every name is that is not hidden: the directory itself is what is read.
        var isListed = false

        mutating func add(_ other: Interest) {
            names.formUnion(other.names)
            isListed = isListed || other.isListed
        }

        func has(_ name: String) -> Bool { isListed && !name.hasPrefix(".") || names.contains(name) }
    }

    private struct Watched {
        var path: String
        var interest: Interest
    }

    /// Readable when something happened; -1 where the system has no more inotify instances.
    package let descriptor: CInt
    private var watched: [CInt: Watched] = [:]
    /// What could not be watched although it is there, and why, as an errno; ENOSPC: the system has no more watches.
    package private(set) var unwatched: [String: CInt] = [:]

    package init() { descriptor = cweir_inotify() }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Watches for changes to what these paths lead to, and to the names in these directories, and for no others any
    /// more. True where a directory was not watched before, so that a change may have been missed since it was read.
    package mutating func cover(files: [String], directories: [String] = []) -> Bool {
        guard descriptor >= 0 else { return false }
        var interests: [String: Interest] = [:]
        var trace = NameTrace()
        for path in files { trace.follow(path) }
        for path in directories {
            if let end = trace.follow(path) { interests[end, default: Interest()].isListed = true }
        }
        for (directory, names) in trace.names { interests[directory, default: Interest()].names = names }
        var next: [CInt: Watched] = [:]
        unwatched = [:]
        func add(_ watch: CInt, _ path: String, _ interest: Interest) {
            let code = errno
            if watch >= 0 {
                next[watch, default: Watched(path: path, interest: Interest())].interest.add(interest)
            } else if code != ENOENT, code != ENOTDIR {
                unwatched[path] = code
            }
        }
        for (directory, interest) in interests {
            add(unsafe cweir_inotify_watch(descriptor, directory), directory, interest)
        }
        for path in Set(files) where unsafe cweir_is_mount_root(path) != 0 {
            // Its events have no name.
            add(unsafe cweir_inotify_watch_file(descriptor, path), path, Interest(names: [""]))
        }
        for watch in watched.keys where next[watch] == nil { _ = cweir_inotify_unwatch(descriptor, watch) }
        let isNew = next.keys.contains { watched[$0] == nil }
        watched = next
        return isNew
    }

    /// Takes the events that are waiting; true where one of them may have changed what is watched.
    package mutating func drain() -> Bool {
        guard descriptor >= 0 else { return false }
        var isChanged = false
        // Not less than one event with the longest name.
        var bytes = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe bytes.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 else { return isChanged }
            var rest = bytes[..<count]
            while let event = FileEvent(takingFrom: &rest) {
                if matters(event) { isChanged = true }
            }
        }
    }

    private mutating func matters(_ event: FileEvent) -> Bool {
        if event.has(CWEIR_EVENT_LOST) { return true }
        guard let watched = watched[event.watch] else { return false }
        if event.has(CWEIR_EVENT_ENDED) {
            self.watched[event.watch] = nil
            return true
        }
        guard watched.interest.has(event.name) else { return false }
        guard event.has(CWEIR_EVENT_CREATED), !event.has(CWEIR_EVENT_DIRECTORY) else { return true }
        return !Self.isBeingWritten("\(watched.path)/\(event.name)")
    }

    /// Whether a file that has just appeared is one that somebody has opened to write it: there will be another event
    /// when it is closed, and what stands in it until then is not the whole.
    private static func isBeingWritten(_ path: String) -> Bool {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return false }
        return status.st_mode & S_IFMT == S_IFREG && status.st_nlink == 1
    }
}

/// One event of inotify(7).
private struct FileEvent {
    let watch: CInt
    private let mask: UInt32
    /// Empty where the watched directory itself is meant.
    let name: String

    /// nil where `bytes` holds no more.
    init?(takingFrom bytes: inout ArraySlice<UInt8>) {
        let headCount = 16
        guard bytes.count >= headCount else { return nil }
        let start = bytes.startIndex
        func word(_ index: Int) -> UInt32 {
            (0..<4).reduce(0) { $0 | UInt32(bytes[start + 4 * index + $1]) << (8 * UInt32($1)) }
        }
        watch = CInt(bitPattern: word(0))
        mask = word(1)
        let nameCount = Int(word(3))
        name = String(decoding: bytes.dropFirst(headCount).prefix(nameCount).prefix { $0 != 0 }, as: UTF8.self)
        bytes = bytes.dropFirst(headCount + nameCount)
    }

    func has(_ flag: some BinaryInteger) -> Bool { mask & UInt32(truncatingIfNeeded: flag) != 0 }
}
