import Glibc
import Testing

/// What this process has open and running, as far as a proxy may have opened or started it. Other tests change it too:
/// look from a process of one's own (an exit test).
struct ProcessState: Equatable {
    /// Descriptors by number, with what they lead to.
    var descriptors: [Int: String]
    /// Names of the threads that belong to a proxy.
    var threads: [String]

    static var now: ProcessState {
        var descriptors: [Int: String] = [:]
        for number in names(in: "/proc/self/fd").compactMap({ Int($0) }) {
            // The descriptor that the directory was read through is gone by now.
            if let target = target(ofLink: "/proc/self/fd/\(number)") { descriptors[number] = target }
        }
        // The Swift runtime's event loop opens what it needs when it needs it: an epoll, which a proxy never uses, and
        // what is in it.
        for (number, target) in descriptors where target == "anon_inode:[eventpoll]" {
            for line in text(ofFile: "/proc/self/fdinfo/\(number)").split(separator: "\n") where line.hasPrefix("tfd:")
            {
                if let member = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) {
                    descriptors[member] = nil
                }
            }
            descriptors[number] = nil
        }
        descriptors = descriptors.filter { $0.value != "anon_inode:[timerfd]" }
        // The thread sanitizer asks a process of its own for names, through pipes, as soon as it has to suppress something.
        if unsafe getenv("TSAN_OPTIONS") != nil { descriptors = descriptors.filter { !$0.value.hasPrefix("pipe:") } }
        let threads = names(in: "/proc/self/task").map { text(ofFile: "/proc/self/task/\($0)/comm") }
        return ProcessState(descriptors: descriptors, threads: threads.filter { $0.hasPrefix("weir-") }.sorted())
    }

    /// What is open that was not in `before`.
    func opened(since before: ProcessState) -> [String] {
        descriptors.filter { before.descriptors[$0.key] != $0.value }.values.sorted()
    }

    /// Records an issue that says what has been opened or started since and is there still. (An exit test hands on
    /// only words.) A thread that was joined may be listed for a moment longer.
    func expectNothingNew(_ what: String = "", sourceLocation: SourceLocation = #_sourceLocation) {
        var now = ProcessState.now
        for _ in 0..<1000 where now.threads.count > threads.count {
            usleep(1000)
            now = .now
        }
        let opened = now.opened(since: self)
        if opened.isEmpty && now.threads == threads { return }
        Issue.record("\(what) opened \(opened), threads \(now.threads)", sourceLocation: sourceLocation)
    }

    private static func names(in directory: String) -> [String] {
        guard let stream = unsafe opendir(directory) else { return [] }
        defer { unsafe _ = closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            names.append(
                unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                    unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
                })
        }
        return names
    }

    private static func target(ofLink path: String) -> String? {
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe readlink(path, $0.baseAddress!, $0.count) }
        return count < 0 ? nil : String(decoding: bytes[..<count], as: UTF8.self)
    }

    private static func text(ofFile path: String) -> String {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
        return count < 0 ? "" : String(decoding: bytes[..<count], as: UTF8.self)
    }
}
