import Glibc

/// A Linux release, for the few faults that only its number tells; features are tried instead (`UringProbe`).
package struct KernelRelease: Sendable, Equatable {
    package var major = 0
    package var minor = 0
    package var patch = 0
    /// The number of a release candidate; nil for a release.
    package var candidate: Int?

    /// Of the running kernel.
    package static func current() -> KernelRelease {
        var name = utsname()
        unsafe uname(&name)
        return KernelRelease(release: text(name.release), version: text(name.version))
    }

    /// `release` and `version` as uname(2) has them. Debian's release (`6.1.0-18-amd64`) names an ABI; what the kernel
    /// is made of stands in its version (`#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)`).
    package init(release: String, version: String) {
        let words = version.split(separator: " ")
        var source = release[...]
        if let debian = words.firstIndex(of: "Debian"), debian + 1 < words.count { source = words[debian + 1] }
        let parts = source.split(whereSeparator: { $0 == "-" || $0 == "~" || $0 == "+" })
        let numbers = (parts.first ?? "").split(separator: ".").map { Int($0) ?? 0 }
        if numbers.count > 0 { major = numbers[0] }
        if numbers.count > 1 { minor = numbers[1] }
        if numbers.count > 2 { patch = numbers[2] }
        for part in parts.dropFirst() where part.hasPrefix("rc") { candidate = Int(part.dropFirst(2)) }
    }

    /// IORING_OP_URING_CMD sets options of sockets.
    package var hasSocketCommands: Bool { major > 6 || major == 6 && minor >= 7 }

    /// U-05: a multishot accept that finds the completion queue full loses the socket and completes with a number that
    /// looks like one. Came with 6.2 and, by a back-port, 6.1.54; gone with 6.8-rc5, 6.7.6, 6.6.18 and 6.1.79.
    package var losesAcceptedSockets: Bool {
        guard major == 6 else { return false }
        switch minor {
        case 1: return (54..<79).contains(patch)
        case 2...5: return true
        case 6: return patch < 18
        case 7: return patch < 6
        case 8: return candidate.map { $0 < 5 } ?? false
        default: return false
        }
    }

    private static func text<Field>(_ field: Field) -> String {
        unsafe withUnsafeBytes(of: field) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}
