import Glibc

/// The file system as a configuration needs it: whole files and `include` patterns. POSIX calls, no Foundation.
///
/// The few `unsafe` calls hand a path or a buffer to the C library for the length of one call.
struct ConfigFiles {
    /// Longer is no configuration.
    static let byteCountMax = 16 << 20

    enum ReadFailure: Error {
        case tooLong
        /// The system's words for it.
        case system(String)
    }

    /// The bytes of the file at `path`.
    static func read(_ path: String) -> Result<[UInt8], ReadFailure> {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return .failure(.system(lastError())) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = unsafe chunk.withUnsafeMutableBytes { buffer in
                unsafe Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            }
            if count == 0 { return .success(bytes) }
            if count < 0 {
                if errno == EINTR { continue }
                return .failure(.system(lastError()))
            }
            bytes += chunk[..<count]
            if bytes.count > byteCountMax { return .failure(.tooLong) }
        }
    }

    struct Entry {
        var path: String
        /// Or a link to one.
        var isDirectory: Bool
    }

    /// What is in a directory but for hidden names, sorted by bytes.
    static func entries(of directory: String) -> Result<[Entry], ReadFailure> {
        let descriptor = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return .failure(.system(lastError())) }
        close(descriptor)
        let start = directory == "/" ? "" : escaped(directory)
        return .success(
            paths(matching: "\(start)/*", flags: GLOB_MARK).map {
                $0.hasSuffix("/")
                    ? Entry(path: String($0.dropLast()), isDirectory: true)
                    : Entry(path: $0, isDirectory: false)
            })
    }

    static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// The path without links; unchanged where it leads nowhere.
    static func withoutLinks(_ path: String) -> String {
        guard let real = unsafe realpath(path, nil) else { return path }
        defer { unsafe free(real) }
        return unsafe String(cString: real)
    }

    /// Whether glob(7) does not take `text` for itself.
    static func isPattern(_ text: some StringProtocol) -> Bool { text.utf8.contains { "*?[".utf8.contains($0) } }

    /// The directories in which a new name may give `pattern` another path.
    static func directories(searchedBy pattern: String) -> [String] {
        let parts = pattern.split(separator: "/", omittingEmptySubsequences: false)
        var found: [String] = []
        for index in parts.indices where isPattern(parts[index]) {
            let start = parts[..<index].joined(separator: "/")
            let directory = index == 0 ? "." : start.isEmpty ? "/" : start
            found += isPattern(directory) ? paths(matching: directory) : [directory]
        }
        guard let last = parts.lastIndex(where: isPattern), last < parts.count - 1 else { return found }
        // What stands behind the last pattern may be missing in a directory that the pattern names.
        let rest = parts[(last + 1)..<(parts.count - 1)].map { "/\($0)" }.joined()
        return found + paths(matching: parts[...last].joined(separator: "/")).map { $0 + rest }
    }

    private static func escaped(_ path: String) -> String {
        path.unicodeScalars.reduce(into: "") { text, scalar in
            if "*?[\\".unicodeScalars.contains(scalar) { text += "\\" }
            text.unicodeScalars.append(scalar)
        }
    }

    /// The paths that `pattern` (glob(7)) names, sorted; empty where there are none. With `GLOB_MARK`, those of
    /// directories end with a slash.
    static func paths(matching pattern: String, flags: CInt = 0) -> [String] {
        var found = unsafe glob_t()
        defer { unsafe globfree(&found) }
        guard unsafe glob(pattern, flags, nil, &found) == 0 else { return [] }
        var paths: [String] = []
        for index in unsafe 0..<Int(found.gl_pathc) {
            if let path = unsafe found.gl_pathv[index] { paths.append(unsafe String(cString: path)) }
        }
        return paths
    }

    private static func lastError() -> String {
        guard let text = unsafe strerror(errno) else { return "error \(errno)" }
        return unsafe String(cString: text)
    }
}
