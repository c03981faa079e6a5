import Glibc
import Weir

/// How `weir` ends; part of its interface.
package enum ExitStatus: Int32, Sendable {
    case good = 0
    /// The configuration cannot be used.
    case configuration = 1
    /// The arguments cannot be understood.
    case usage = 2
    /// The machine refused: an address in use, a missing permission.
    case runTime = 3
    /// The I/O driver that was asked for does not work here.
    case driver = 4
    /// `explain`: the connection would be refused.
    case refused = 5
    /// `check --against`: a listener would close, sessions lose their route, or names be decided about in another way.
    case changes = 6
}

/// Ends the command with words for people.
package struct CommandFailure: Error, Sendable, Equatable {
    package let status: ExitStatus
    package let lines: [String]

    package init(_ status: ExitStatus, _ lines: [String]) {
        self.status = status
        self.lines = lines
    }

    package init(_ failure: Proxy.StartFailure) {
        switch failure {
        case .configuration: status = .configuration
        case .bind, .system: status = .runTime
        case .driver: status = .driver
        }
        lines = failure.lines.map { "weir: \($0)" }
    }
}

extension Proxy.StartFailure {
    /// One line per fault.
    package var lines: [String] {
        switch self {
        case .configuration(let faults):
            return faults.map(\.description)
        case .bind(let listener, let address, let code):
            let hint =
                switch code {
                case EADDRINUSE: "; another process listens there"
                case EACCES: "; a port below 1024 needs root or CAP_NET_BIND_SERVICE"
                case EADDRNOTAVAIL: "; no interface has this address"
                default: ""
                }
            return ["listener \"\(listener)\" cannot be bound to \(address): \(systemMessage(code))\(hint)"]
        case .driver(let reason):
            return ["no I/O driver: \(reason)"]
        case .system(let what, let code):
            return [code == 0 ? what : "\(what): \(systemMessage(code))"]
        }
    }
}
