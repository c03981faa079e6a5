import WeirIO
import WeirMemory
import WeirNet

// How a simulated kernel tells what it was asked and what it answered.

extension Token {
    /// Slot, generation and kind, as the engine numbers them.
    var story: String {
        if self == .silent { return "-" }
        let kinds = [
            "connect 1st", "connect 2nd", "receive down", "receive up", "send down", "send up", "watch down",
            "watch up", "accept", "-", "pump down", "pump up",
        ]
        let name = Int(kind) < kinds.count ? kinds[Int(kind)] : "kind \(kind)"
        return "\(index).\(generation) \(name)"
    }
}

extension Operation {
    var story: String {
        switch action {
        case .accept(let socket): "\(token.story) on \(socket.rawValue)"
        case .connect(let destination, let source, _, let sendsFirst, _):
            "\(token.story) to \(destination)" + (source.map { " from \($0)" } ?? "")
                + (sendsFirst ? ", to send first" : "")
        case .receive(let socket, let isContinuing):
            "\(token.story) on \(socket.rawValue)" + (isContinuing ? ", continuing" : "")
        case .send(let socket, let payload):
            "\(token.story) on \(socket.rawValue): \(payload.byteCount) bytes of buffer \(payload.buffer) at \(payload.offset)"
        case .watch(let socket): "\(token.story) on \(socket.rawValue)"
        case .pump(let from, let to): "\(token.story) from \(from.rawValue) to \(to.rawValue)"
        case .stopPump(let target): "stop \(target.story)"
        case .cancel(let target), .cancelConnect(let target), .cancelWatch(let target): "cancel \(target.story)"
        case .noDelay(let socket): "no delay on \(socket.rawValue)"
        case .shutdown(let socket): "shutdown of \(socket.rawValue)"
        case .close(let socket): "close of \(socket.rawValue)"
        case .reset(let socket): "reset of \(socket.rawValue)"
        }
    }
}

extension Completion {
    var story: String {
        "\(token.story): \(result)" + (buffer == BufferPool.none ? "" : " in buffer \(buffer)")
            + (hasMore ? ", more" : "")
    }
}

extension Instant {
    /// Milliseconds, with the digits that matter.
    var story: String { "\(Double(nanoseconds / 1000) / 1000)" }
}
