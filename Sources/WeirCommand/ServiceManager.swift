import CWeir
import Glibc
import Synchronization
import Weir

/// The service manager that started this process, such as systemd: what it has opened for us, and what we tell it
/// (sd_listen_fds(3), sd_notify(3)). Without one, nothing is said.
package struct ServiceManager: Sendable {
    /// Where it wants to be told; nil: nowhere.
    package let notifySocket: String?
    /// It wants a sign of life at least this often; nil: it does not.
    package let watchdogTimeout: Duration?

    package init(notifySocket: String? = nil, watchdogTimeout: Duration? = nil) {
        self.notifySocket = notifySocket
        self.watchdogTimeout = watchdogTimeout
    }

    /// From the environment.
    package static func find() -> ServiceManager {
        let isForUs = environmentValue("WATCHDOG_PID").map { $0 == "\(getpid())" } ?? true
        let time = environmentValue("WATCHDOG_USEC").flatMap(Int64.init).flatMap { $0 > 0 && isForUs ? $0 : nil }
        let path = environmentValue("NOTIFY_SOCKET").flatMap { $0.hasPrefix("/") || $0.hasPrefix("@") ? $0 : nil }
        return ServiceManager(notifySocket: path, watchdogTimeout: time.map { .microseconds($0) })
    }

    /// Says `NAME=VALUE` lines. What nobody hears is lost.
    package func tell(_ lines: [String]) {
        guard let notifySocket else { return }
        let bytes = Array(lines.joined(separator: "\n").utf8)
        _ = unsafe cweir_datagram(notifySocket, bytes, bytes.count)
    }

    package static func ready(_ status: String) -> [String] { ["READY=1", "STATUS=\(status)"] }

    package static func reloading() -> [String] {
        ["RELOADING=1", "MONOTONIC_USEC=\(cweir_monotonic_ns() / 1000)"]
    }

    /// `time`: how long it takes at most; the manager waits no less.
    package static func stopping(_ status: String, within time: Duration) -> [String] {
        ["STOPPING=1", "STATUS=\(status)", "EXTEND_TIMEOUT_USEC=\(time.clampedNanoseconds / 1000)"]
    }

    // MARK: Sockets

    /// The sockets that it has opened for us.
    package static func sockets() throws(CommandFailure) -> [InheritedSocket] {
        guard environmentValue("LISTEN_PID") == "\(getpid())",
            let count = environmentValue("LISTEN_FDS").flatMap(CInt.init), count > 0
        else { return [] }
        let names = names(environmentValue("LISTEN_FDNAMES"), count: Int(count))
        var sockets: [InheritedSocket] = []
        for (index, name) in names.enumerated() {
            // They begin at 3: SD_LISTEN_FDS_START.
            let maker = InheritedSocket.Maker.serviceManager(name: name)
            guard let socket = InheritedSocket(descriptor: 3 + CInt(index), maker: maker) else {
                throw CommandFailure(
                    .runTime, ["weir: socket \"\(name)\" of the service manager is no listening TCP socket"])
            }
            sockets.append(socket)
        }
        return sockets
    }

    /// As many names as there are sockets; `unknown` is what the manager itself calls one without.
    package static func names(_ list: String?, count: Int) -> [String] {
        let given = list?.split(separator: ":", omittingEmptySubsequences: false).map(String.init) ?? []
        return (0..<count).map { $0 < given.count ? given[$0] : "unknown" }
    }
}

/// Whether the workers are alive, judged by their turns from one look to the next. They are woken in between, so one
/// that has not turned is stuck.
package struct Watchdog: Sendable {
    private var turnCounts: [UInt64] = []

    package init() {}

    /// The workers that have not turned since the last look.
    package mutating func look(_ counts: [UInt64]) -> [Int] {
        defer { turnCounts = counts }
        guard turnCounts.count == counts.count else { return [] }
        return counts.indices.filter { counts[$0] == turnCounts[$0] }
    }
}
