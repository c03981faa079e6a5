import Glibc
import WeirIO
import WeirMemory

/// The sends in flight, by place, and what each waits for.
///
/// A send is tried without waiting. Where the socket has no room, a poll waits for it and the send is tried again. The
/// kernel would do that by itself, but it takes the peer's FIN, which stays, for room: it tries a send to whoever has
/// ended its side a hundred times and more, and then leaves it to a helper thread until the peer reads (U-12). Of those
/// there are few, so a handful of such peers that do not read would hold up all the others.
///
/// The first poll is for once. Where FIN is all that it reports, one that goes on takes its place: that one reports a
/// standing FIN once, and then what changes.
package struct SendTable {
    /// What to do next.
    package enum Step: Equatable {
        /// Nothing: more will come.
        case wait
        /// Try the send.
        case send
        /// Wait for room, with a poll for once.
        case poll
        /// Wait for room, with a poll that goes on.
        case pollOn
        /// Wait a while: there seems to be room, and there is none.
        case pause
        /// Cancel the poll, or the pause.
        case cancelWait
        /// The send is over, with this result.
        case report(Int32)
    }

    private enum Phase: UInt8, BitwiseCopyable {
        case none
        case sending
        case polling
        case pollingOn
        /// There is room; the poll that goes on is on its way home.
        case ending
        case pausing
    }

    private struct Send: BitwiseCopyable {
        var token = Token.silent
        var socket = Socket.none
        /// What has not gone out yet.
        var rest = Payload(buffer: BufferPool.none, offset: 0, byteCount: 0)
        var sentCount: Int32 = 0
        /// Tries without a byte, each after a poll that had reported room.
        var vainCount: UInt8 = 0
        var phase = Phase.none
        var isCancelled = false
    }

    private let sends: FlatArray<Send>

    package init(count: Int) { sends = FlatArray(repeating: Send(), count: count) }

    package func deallocate() { sends.deallocate() }

    package func start(_ place: Int, _ token: Token, _ socket: Socket, _ payload: Payload) {
        precondition(sends[place].phase == .none, "a send started where one is in flight")
        sends[place] = Send(token: token, socket: socket, rest: payload, phase: .sending)
    }

    /// The send in flight at `place`, and what has not gone out of it.
    package func send(_ place: Int) -> (socket: Socket, rest: Payload) {
        precondition(sends[place].phase != .none, "no send is in flight")
        return (sends[place].socket, sends[place].rest)
    }

    /// Whether `token` is that of a send in flight at `place`, which may be anything.
    package func contains(_ place: Int, _ token: Token) -> Bool {
        sends.indices.contains(place) && sends[place].phase != .none && sends[place].token == token
    }

    /// The engine has lost interest. What is in flight still comes home.
    package func cancel(_ place: Int) -> Step {
        sends[place].isCancelled = true
        switch sends[place].phase {
        case .polling, .pollingOn, .pausing: return .cancelWait
        case .none, .sending, .ending: return .wait
        }
    }

    /// `result`: of the send, or a negated errno.
    package func sent(_ place: Int, _ result: Int32) -> Step {
        precondition(sends[place].phase == .sending, "a send completed that was not in flight")
        // Also after a part has gone out: the kernel tells of a reset once, and a receive would be told of an end.
        // A cancelled send says what had gone out before: it would be sent again.
        if result == -ECANCELED && sends[place].sentCount > 0 { return report(place, sends[place].sentCount) }
        if result < 0 && result != -EAGAIN && result != -EINTR { return report(place, result) }
        let count = max(0, result)
        sends[place].sentCount += count
        sends[place].rest.offset += UInt32(count)
        sends[place].rest.byteCount -= UInt32(count)
        if sends[place].rest.byteCount == 0 { return report(place, sends[place].sentCount) }
        if sends[place].isCancelled { return cancelled(place) }
        if count > 0 { sends[place].vainCount = 0 }
        // It is TCP's memory that is short then, and no event tells of that.
        if sends[place].vainCount >= 2 {
            sends[place].vainCount = 0
            sends[place].phase = .pausing
            return .pause
        }
        sends[place].phase = .polling
        return .poll
    }

    /// A poll or a pause has completed. `result`: the poll's events, or a negated errno.
    package func polled(_ place: Int, _ result: Int32, hasMore: Bool) -> Step {
        // After an error the send says what it is.
        let hasRoom = result < 0 || result & Int32(POLLOUT | POLLERR | POLLHUP) != 0
        switch sends[place].phase {
        case .none, .sending:
            preconditionFailure("a poll completed for a send that was not waiting")
        case .pollingOn where hasMore:
            if !hasRoom || sends[place].isCancelled { return .wait }
            sends[place].phase = .ending
            return .cancelWait
        case .ending where hasMore:
            return .wait
        case .polling, .pollingOn, .ending, .pausing:
            if sends[place].isCancelled { return cancelled(place) }
            // The kernel also ends a poll that goes on when the completion queue has overflowed (U-06).
            if !hasRoom && sends[place].phase != .ending {
                sends[place].phase = .pollingOn
                return .pollOn
            }
            if sends[place].phase != .pausing { sends[place].vainCount += 1 }
            sends[place].phase = .sending
            return .send
        }
    }

    /// What went out is said, as the engine goes on with what is left.
    private func cancelled(_ place: Int) -> Step {
        let count = sends[place].sentCount
        return report(place, count > 0 ? count : -ECANCELED)
    }

    private func report(_ place: Int, _ result: Int32) -> Step {
        sends[place] = Send()
        return .report(result)
    }
}
