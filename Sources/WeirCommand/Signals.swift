import CWeir
import Glibc
import Weir

/// The signals `weir run` answers.
package enum Signal: CaseIterable, Sendable {
    case hangup
    case user1
    case user2
    case terminate
    case interrupt
    case quit

    package var number: CInt {
        switch self {
        case .hangup: SIGHUP
        case .user1: SIGUSR1
        case .user2: SIGUSR2
        case .terminate: SIGTERM
        case .interrupt: SIGINT
        case .quit: SIGQUIT
        }
    }
}

/// The signals of this process, taken off every thread and delivered one by one.
package struct SignalQueue: Sendable {
    /// Readable while a signal waits.
    package let descriptor: CInt

    /// Call it before the first thread starts: threads inherit what is blocked. PIPE is ignored from here on.
    package init() throws(CommandFailure) {
        signal(SIGPIPE, SIG_IGN)
        let numbers = Signal.allCases.map(\.number)
        descriptor = unsafe cweir_signalfd(numbers, CInt(numbers.count))
        guard descriptor >= 0 else {
            throw CommandFailure(.runTime, ["weir: signalfd: \(systemMessage(errno))"])
        }
    }

    /// nil when none waits.
    package func next() -> Signal? {
        let number = cweir_signalfd_next(descriptor)
        return Signal.allCases.first { $0.number == number }
    }
}

/// What a signal means now: the first order to drain begins it, the next order of any kind ends at once.
package struct LifeCycle: Sendable {
    package enum Action: Sendable, Equatable {
        case reload
        case reopenLog
        /// nil: however long the sessions take.
        case drain(deadline: Duration?)
        case stop
        /// Start the program again and hand over to it.
        case upgrade
        /// Not while draining.
        case ignore
        /// One is under way.
        case ignoreUpgrade
    }

    package private(set) var isDraining = false
    private var isUpgrading = false

    package init() {}

    /// `drainTimeout`: how long live sessions may go on after TERM.
    package mutating func received(_ signal: Signal, drainTimeout: Duration) -> Action {
        switch signal {
        case .hangup: return isDraining ? .ignore : .reload
        case .user1: return .reopenLog
        case .interrupt: return .stop
        case .user2:
            if isDraining { return .ignore }
            if isUpgrading { return .ignoreUpgrade }
            isUpgrading = true
            return .upgrade
        case .terminate, .quit:
            if isDraining { return .stop }
            isDraining = true
            return .drain(deadline: signal == .terminate ? drainTimeout : nil)
        }
    }

    /// An upgrade is over. Where another process has taken over, the drain has begun.
    package mutating func upgradeEnded(isHandedOver: Bool) {
        isUpgrading = false
        if isHandedOver { isDraining = true }
    }
}
