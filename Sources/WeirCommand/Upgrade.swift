import CWeir
import Glibc
import Synchronization
import Weir
import WeirMemory

/// Starts the program again and hands it the listening sockets, on a thread of its own. Both processes accept on the
/// same sockets for a moment, so no client sees a gap; where the new one does not come to serve, the old one goes on,
/// with the backlog of the new file on the sockets that both have had.
package final class Upgrade: Sendable {
    package enum Outcome: Sendable {
        /// This process serves now, on all but these of our listeners.
        case served(pid_t, unused: [String])
        /// In words.
        case failed(String)
        /// The process that took over has ended since then, and not well: how, in words.
        case deserted(pid_t, String)
    }

    /// What is handed over.
    package struct Estate: Sendable {
        package var listeners: [Proxy.ListenerCopy]
        /// A copy of the admin endpoint's socket.
        package var admin: CInt?

        package init(listeners: [Proxy.ListenerCopy], admin: CInt?) {
            self.listeners = listeners
            self.admin = admin
        }

        func close() {
            for listener in listeners { listener.close() }
            if let admin { _ = Glibc.close(admin) }
        }
    }

    private struct State: Sendable {
        var isUnderWay = false
        /// Not asked for yet.
        var outcomes: [Outcome] = []
    }

    /// Readable while there is an outcome.
    package let end: WakeDescriptor
    private let program: Program
    private let giveUp: WakeDescriptor
    private let state = Mutex(State())

    package init(of program: Program) throws(CommandFailure) {
        self.program = program
        end = try WakeDescriptor()
        giveUp = try WakeDescriptor()
    }

    /// Begins an attempt; none may be under way. `copy` is called on the new thread, under whose attempt nothing may
    /// change what it copied; so is `letGo`, once the new process serves. `timeout`: until it does. Where there can be no
    /// thread, the attempt is over at once, and failed like any other.
    package func begin(
        timeout: Duration, copy: @escaping @Sendable () throws(Proxy.StartFailure) -> Estate,
        letGo: @escaping @Sendable () -> Void
    ) {
        giveUp.drain()
        state.withLock { $0.isUnderWay = true }
        do {
            let thread = try SystemThread(name: "weir-upgrade") {
                let outcome = self.attempt(timeout, copy, letGo)
                self.finish(outcome)
                if case .served(let process, _) = outcome { self.watch(process) }
            }
            thread.detach()
        } catch {
            finish(.failed("no thread for it: \(systemMessage(error.code))"))
        }
    }

    /// The next outcome; nil where there is none.
    package func outcome() -> Outcome? {
        end.drain()
        return state.withLock { state in
            guard !state.outcomes.isEmpty else { return nil }
            let first = state.outcomes.removeFirst()
            if !state.outcomes.isEmpty { end.signal() }
            return first
        }
    }

    /// Ends an attempt that is under way, and waits until the new process has gone. Afterwards `outcome()` tells whether
    /// it was too late for that.
    package func cancel() {
        guard state.withLock({ $0.isUnderWay }) else { return }
        giveUp.signal()
        wait(for: [end.descriptor])
    }

    private func finish(_ outcome: Outcome) {
        state.withLock { state in
            state.isUnderWay = false
            state.outcomes.append(outcome)
            end.signal()
        }
    }

    /// Until it ends; while this process lives no longer than that, this does nothing. What the system keeps of it is left
    /// for our parent, which inherits it: to a service manager it is the main process.
    private func watch(_ process: pid_t) {
        let status = cweir_await_end(process)
        guard status != 0, status != CWEIR_UNKNOWN_STATUS else { return }
        finish(.deserted(process, Self.words(forStatus: status)))
    }

    private func attempt(
        _ timeout: Duration, _ copy: () throws(Proxy.StartFailure) -> Estate, _ letGo: () -> Void
    ) -> Outcome {
        let estate: Estate
        do { estate = try copy() } catch { return .failed(error.lines.joined(separator: "; ")) }
        defer { estate.close() }
        let here: HandoverChannel
        let there: HandoverChannel
        do { (here, there) = try HandoverChannel.pair() } catch { return .failed(error.lines.joined(separator: "; ")) }
        defer { here.close() }
        let process = program.start(with: there)
        // Before anything is read: only then does the end of the new process end the channel.
        there.close()
        guard process > 0 else { return .failed("\(program.path): \(systemMessage(-process))") }
        let deadline = Instant(nanoseconds: cweir_monotonic_ns()).advanced(byNanoseconds: timeout.clampedNanoseconds)
        do throws(Halt) {
            try hand(estate, to: here, until: deadline)
            let unused = try awaitReady(here, until: deadline)
            letGo()
            return .served(process, unused: unused)
        } catch {
            // Who has closed the channel may be ending, and then how is worth telling. Who lives on is ended.
            let isEnding = error == .ended && endsByItself(process)
            if !isEnding { kill(process, SIGKILL) }
            let status = Self.words(forStatus: cweir_await_end(process))
            cweir_forget(process)
            return .failed("\(program.path) \(isEnding ? status : Self.words(for: error, timeout))")
        }
    }

    /// Why the new process will not serve.
    private enum Halt: Error, Equatable {
        case ended
        case late
        case givenUp
        case incomprehensible
    }

    private func hand(_ estate: Estate, to channel: HandoverChannel, until deadline: Instant) throws(Halt) {
        try send(.version(HandoverMessage.version), [], to: channel, until: deadline)
        for listener in estate.listeners {
            let message = HandoverMessage.listener(key: listener.key, isLent: listener.isServiceManagers)
            var rest = listener.descriptors[...]
            while !rest.isEmpty {
                let part = rest.prefix(HandoverChannel.descriptorCountMax)
                try send(message, Array(part), to: channel, until: deadline)
                rest = rest.dropFirst(part.count)
            }
        }
        if let admin = estate.admin { try send(.admin, [admin], to: channel, until: deadline) }
        try send(.end, [], to: channel, until: deadline)
    }

    private func send(
        _ message: HandoverMessage, _ descriptors: [CInt], to channel: HandoverChannel, until deadline: Instant
    ) throws(Halt) {
        while true {
            switch channel.send(message, descriptors) {
            case 0: return
            case EAGAIN, EINTR, ETOOMANYREFS, ENOBUFS, ENOMEM:
                // It reads slowly, or not at all.
                try check(deadline)
                if wait(for: [giveUp.descriptor], milliseconds: 5) { throw .givenUp }
            default: throw .ended
            }
        }
    }

    /// The keys of the listeners that the new process does not serve.
    private func awaitReady(_ channel: HandoverChannel, until deadline: Instant) throws(Halt) -> [String] {
        var unused: [String] = []
        while true {
            let remaining = try check(deadline)
            guard wait(for: [channel.descriptor, giveUp.descriptor], milliseconds: remaining) else { throw .late }
            // What has come counts first: a process that is ready has clients.
            guard wait(for: [channel.descriptor], milliseconds: 0) else { throw .givenUp }
            let arrival: HandoverChannel.Arrival
            do { arrival = try channel.receive() } catch { throw .ended }
            for descriptor in arrival.descriptors { close(descriptor) }
            switch arrival.message {
            case .unused(let key): unused.append(key)
            case .ready: return unused
            case .version, .listener, .admin, .end, nil: throw .incomprehensible
            }
        }
    }

    /// Milliseconds until then, at least one.
    @discardableResult
    private func check(_ deadline: Instant) throws(Halt) -> CInt {
        let remaining = deadline.nanoseconds(since: Instant(nanoseconds: cweir_monotonic_ns()))
        guard remaining > 0 else { throw .late }
        return CInt(clamping: remaining / 1_000_000 + 1)
    }

    /// Of a process that has not ended by itself.
    private static func words(for halt: Halt, _ timeout: Duration) -> String {
        switch halt {
        case .ended: "does not listen to this one any more, and did not end"
        case .late: "does not serve after \(timeout)"
        case .givenUp: "was ended, as this process was told to end"
        case .incomprehensible: "is no weir, or none that this one understands"
        }
    }

    /// Whether the process, which cannot serve any more, ends within two seconds, and before we are to give up.
    private func endsByItself(_ process: pid_t) -> Bool {
        let end = Instant(nanoseconds: cweir_monotonic_ns()).advanced(byNanoseconds: 2_000_000_000)
        while !cweir_has_ended(process) {
            if cweir_monotonic_ns() >= end.nanoseconds { return false }
            if wait(for: [giveUp.descriptor], milliseconds: 1) { return false }
        }
        return true
    }

    /// `status`: as `cweir_await_end` has it.
    private static func words(forStatus status: CInt) -> String {
        if status == CWEIR_UNKNOWN_STATUS { return "ended" }
        return status < 0 ? "was ended by signal \(-status)" : "ended with status \(status)"
    }
}
