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

    /// The paths that `pattern` (glob(7)) names, sorted; empty where there are none.
    static func paths(matching pattern: String) -> [String] {
        var found = unsafe glob_t()
        defer { unsafe globfree(&found) }
        guard unsafe glob(pattern, 0, nil, &found) == 0 else { return [] }
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
