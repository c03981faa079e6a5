import Glibc

/// What the machine and the process around us allow, as far as it bears on the I/O driver.
package struct HostFacts: Sendable, Equatable {
    /// uname(2)'s release: `6.1.0-18-amd64`.
    package var kernelRelease = ""
    /// kernel.io_uring_disabled: 0 everyone may, 1 a group may, 2 nobody; nil before Linux 6.6, which lacks it.
    package var ioUringDisabled: Int?
    /// kernel.io_uring_group: who may at 1; -1: no group.
    package var ioUringGroup: Int?
    /// 0 off, 1 strict, 2 a filter, as in any container with a default profile; nil where unknown.
    package var seccompMode: Int?
    /// Bytes; `UInt64.max`: unlimited.
    package var lockedMemoryMax: UInt64 = .max
    /// RLIMIT_NOFILE: what holds now, and how far the process may raise it.
    package var descriptorCountMax: UInt64 = 0
    package var descriptorCountMaxHard: UInt64 = 0

    package init() {}

    /// The facts of the calling process.
    package static func here() -> HostFacts {
        var facts = HostFacts()
        facts.kernelRelease = text(ofFile: "/proc/sys/kernel/osrelease").map(firstLine) ?? "unknown"
        facts.ioUringDisabled = text(ofFile: "/proc/sys/kernel/io_uring_disabled").flatMap { Int(firstLine($0)) }
        facts.ioUringGroup = text(ofFile: "/proc/sys/kernel/io_uring_group").flatMap { Int(firstLine($0)) }
        facts.seccompMode = text(ofFile: "/proc/self/status").flatMap { field("Seccomp", ofStatus: $0) }.flatMap {
            Int($0)
        }
        facts.lockedMemoryMax = limit(__RLIMIT_MEMLOCK).soft
        (facts.descriptorCountMax, facts.descriptorCountMaxHard) = limit(RLIMIT_NOFILE)
        return facts
    }

    /// The value of one field of /proc/PID/status, without the space around it.
    package static func field(_ name: String, ofStatus text: String) -> String? {
        for line in text.split(separator: "\n") where line.hasPrefix("\(name):") {
            return String(line.dropFirst(name.count + 1).drop { $0 == "\t" || $0 == " " })
        }
        return nil
    }

    /// The first 64 KiB of a file under /proc; nil where it cannot be read.
    package static func text(ofFile path: String) -> String? {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
        guard count >= 0 else { return nil }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    private static func firstLine(_ text: String) -> String { String(text.prefix { $0 != "\n" }) }

    private static func limit(_ resource: __rlimit_resource) -> (soft: UInt64, hard: UInt64) {
        var limit = rlimit()
        guard unsafe getrlimit(CInt(resource.rawValue), &limit) == 0 else { return (0, 0) }
        return (UInt64(limit.rlim_cur), UInt64(limit.rlim_max))
    }
}

/// The system's words for an errno.
package func systemMessage(_ code: CInt) -> String {
    guard let text = unsafe strerror(code) else { return "error \(code)" }
    return unsafe String(cString: text)
}
