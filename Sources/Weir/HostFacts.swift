import CWeir
import Glibc
import WeirUring

/// What the machine and the process around us allow, as far as it bears on the I/O driver.
package struct HostFacts: Sendable, Equatable {
    /// uname(2)'s release: `6.1.0-18-amd64`.
    package var kernelRelease = ""
    /// kernel.io_uring_disabled: 0 everyone may, 1 a group may, 2 nobody; nil before Linux 6.6, which lacks it.
    package var ioUringDisabled: Int?
    /// kernel.io_uring_group: who may at 1; -1: no group.
    package var ioUringGroup: Int?
    /// A member of that group, or with CAP_SYS_ADMIN: the sysctl's 1 does not concern this process.
    package var isInIOUringGroup = false
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
        let status = text(ofFile: "/proc/self/status") ?? ""
        facts.isInIOUringGroup = hasSystemAdministration(status) || isMember(of: facts.ioUringGroup)
        // Asked directly, because a sandbox may have no /proc.
        let mode = cweir_seccomp_mode()
        facts.seccompMode = mode < 0 ? nil : Int(mode)
        facts.lockedMemoryMax = limit(__RLIMIT_MEMLOCK).soft
        (facts.descriptorCountMax, facts.descriptorCountMaxHard) = limit(RLIMIT_NOFILE)
        return facts
    }

    /// Bytes of pipes that the kernel gives an unprivileged user before it makes new ones small
    /// (fs.pipe-user-pages-soft); nil: as many as it wants, or unknown.
    package static var pipeByteCountMax: Int? {
        guard let text = text(ofFile: "/proc/sys/fs/pipe-user-pages-soft"), let pages = Int(firstLine(text)), pages > 0
        else { return nil }
        return min(pages, 1 << 32) * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// The value of one field of /proc/PID/status, without the space around it.
    package static func field(_ name: String, ofStatus text: String) -> String? {
        for line in text.split(separator: "\n") where line.hasPrefix("\(name):") {
            return String(line.dropFirst(name.count + 1).drop { $0 == "\t" || $0 == " " })
        }
        return nil
    }

    /// Whether the kernel is one from before 5.1, which brought io_uring.
    package var isBeforeIOUring: Bool {
        let kernel = KernelRelease(release: kernelRelease, version: "")
        return (kernel.major, kernel.minor) < (5, 1)
    }

    /// What bears on io_uring, for a line of the log (U-02).
    package var summary: String {
        var words = ["Linux \(kernelRelease)"]
        if let ioUringDisabled { words.append("kernel.io_uring_disabled \(ioUringDisabled)") }
        switch seccompMode {
        case 0: words.append("no seccomp")
        case 2: words.append("seccomp filter")
        case let mode?: words.append("seccomp mode \(mode)")
        case nil: break
        }
        words.append("locked memory \(lockedMemoryMax == .max ? "unlimited" : "\(lockedMemoryMax >> 10) KiB")")
        return words.joined(separator: ", ")
    }

    /// The first 64 KiB of a file under /proc; nil where it cannot be read.
    package static func text(ofFile path: String) -> String? {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        var filled = 0
        // Such a file gives a page at a time.
        while filled < bytes.count {
            let count = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe read(descriptor, buffer.baseAddress.map { unsafe $0 + filled }, buffer.count - filled)
            }
            guard count >= 0 else { return nil }
            if count == 0 { break }
            filled += count
        }
        return String(decoding: bytes[..<filled], as: UTF8.self)
    }

    /// CAP_SYS_ADMIN, bit 21 of the effective set.
    private static func hasSystemAdministration(_ status: String) -> Bool {
        guard let set = field("CapEff", ofStatus: status).flatMap({ UInt64($0, radix: 16) }) else { return false }
        return set & 1 << 21 != 0
    }

    private static func isMember(of group: Int?) -> Bool {
        guard let group, group >= 0 else { return false }
        var groups = [gid_t](repeating: 0, count: 65536)
        let count = unsafe getgroups(CInt(groups.count), &groups)
        return getegid() == gid_t(group) || groups.prefix(max(0, Int(count))).contains(gid_t(group))
    }

    package static func firstLine(_ text: String) -> String { String(text.prefix { $0 != "\n" }) }

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
