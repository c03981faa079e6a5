import Glibc
import WeirMemory
import WeirNet
import WeirSockets

/// The server behind the subject.
struct Origin {
    let shape: Shape
    /// Bytes that clients have sent after their hello.
    private(set) var receivedByteCount: UInt64 = 0
    private(set) var errorCount = 0

    init(_ shape: Shape) { self.shape = shape }

    mutating func handle(_ event: Event, _ ring: LoadRing) {
        switch event.kind {
        case .accepted: accepted(event, ring)
        case .received: received(event, ring)
        case .sent: sent(event, ring)
        case .connected, .failedQuietly: break
        }
    }

    private mutating func accepted(_ event: Event, _ ring: LoadRing) {
        if !event.goesOn { ring.accept(Int32(event.end)) }
        guard event.result >= 0 else {
            errorCount += 1
            return
        }
        let end = ring.add(End(socket: event.result, role: .origin, expectedByteCount: ring.helloByteCount))
        if case .echo = shape { ring.receive(end, goesOn: true) } else { ring.receive(end, goesOn: false) }
    }

    private mutating func received(_ event: Event, _ ring: LoadRing) {
        let end = event.end
        guard event.result > 0 else {
            if event.goesOn { return }
            if event.result == -ENOBUFS {
                ring.receive(end, goesOn: isEcho)
            } else {
                ring.close(end)
            }
            return
        }
        if ring.ends[end].isOpen {
            exchange(event, ring)
            return
        }
        ring.ends[end].expectedByteCount -= Int(event.result)
        guard ring.ends[end].expectedByteCount <= 0 else {
            if !event.goesOn { ring.receive(end, goesOn: isEcho) }
            return
        }
        open(event, ring)
    }

    private var isEcho: Bool { if case .echo = shape { true } else { false } }

    /// The hello has come.
    private func open(_ event: Event, _ ring: LoadRing) {
        let end = event.end
        ring.ends[end].isOpen = true
        switch shape {
        case .answerAndClose:
            ring.send(end, .zeroes(Shape.replyByteCount))
            ring.close(end)
        case .echo(let byteCount):
            ring.send(end, .zeroes(Shape.replyByteCount))
            ring.ends[end].expectedByteCount = byteCount
            if !event.goesOn { ring.receive(end, goesOn: true) }
        case .bulk(let down, _):
            if down { ring.send(end, .zeroes(LoadRing.chunkByteCountMax), reports: true) }
            ring.drain(end)
        }
    }

    private mutating func exchange(_ event: Event, _ ring: LoadRing) {
        let end = event.end
        receivedByteCount += UInt64(event.result)
        guard case .echo(let byteCount) = shape else {
            ring.drain(end)
            return
        }
        ring.ends[end].expectedByteCount -= Int(event.result)
        while ring.ends[end].expectedByteCount <= 0 {
            ring.send(end, .zeroes(byteCount))
            ring.ends[end].expectedByteCount += byteCount
        }
        if !event.goesOn { ring.receive(end, goesOn: true) }
    }

    private func sent(_ event: Event, _ ring: LoadRing) {
        // A failure is told by the receive as well, which ends the connection.
        if event.result > 0 { ring.send(event.end, .zeroes(LoadRing.chunkByteCountMax), reports: true) }
    }
}
