import CWeir
import Glibc

/// How this process was started, so that another can be started the same way.
package struct Program: Sendable {
    /// Absolute, links kept: what stands there by the time of an upgrade is the new binary, however it came there.
    /// /proc/self/exe would name the old one, which may be deleted.
    package let path: String
    package let arguments: [String]

    /// Call it before the working directory can change.
    package static func this() -> Program {
        let arguments = CommandLine.arguments
        return Program(path: path(of: arguments.first ?? "weir"), arguments: arguments)
    }

    package init(path: String, arguments: [String]) {
        self.path = path
        self.arguments = arguments
    }

    /// The file that `name` stands for, as a shell would find it.
    package static func path(of name: String) -> String {
        if name.hasPrefix("/") { return name }
        if name.contains("/") { return "\(workingDirectory)/\(name)" }
        for directory in (environmentValue("PATH") ?? "/usr/local/bin:/usr/bin:/bin").split(separator: ":") {
            let candidate = "\(directory)/\(name)"
            if unsafe access(candidate, X_OK) == 0 {
                return candidate.hasPrefix("/") ? candidate : "\(workingDirectory)/\(candidate)"
            }
        }
        return "/proc/self/exe"
    }

    /// Starts it with `channel`, whose number there it finds in `Predecessor.variable`. The process id, or -errno.
    package func start(with channel: HandoverChannel) -> pid_t {
        let environment = Self.inheritedEnvironment + ["\(Predecessor.variable)=\(CWEIR_CHANNEL)"]
        return unsafe Self.withStrings(arguments) { arguments in
            unsafe Self.withStrings(environment) { environment in
                unsafe cweir_spawn(path, arguments, environment, channel.descriptor)
            }
        }
    }

    /// Ours, but for what the service manager says to the process that it has started, and to no other.
    private static var inheritedEnvironment: [String] {
        let own = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", Predecessor.variable]
        var entries: [String] = []
        guard var next = unsafe cweir_environment() else { return [] }
        while let entry = unsafe next.pointee {
            let text = unsafe String(cString: entry)
            if !own.contains(where: { text.hasPrefix("\($0)=") }) { entries.append(text) }
            unsafe next += 1
        }
        return entries
    }

    private static var workingDirectory: String {
        guard let path = unsafe getcwd(nil, 0) else { return "." }
        defer { unsafe free(path) }
        return unsafe String(cString: path)
    }

    private static func withStrings<Result>(
        _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result {
        var copies: [UnsafeMutablePointer<CChar>?] = unsafe strings.map { unsafe strdup($0) }
        unsafe copies.append(nil)
        defer {
            for index in unsafe copies.indices { unsafe free(copies[index]) }
        }
        return unsafe copies.withUnsafeBufferPointer { unsafe body($0.baseAddress!) }
    }
}
