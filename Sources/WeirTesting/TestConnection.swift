import CWeir
import Glibc
import Synchronization
import WeirNet

/// One end of a TCP connection in a test: blocking calls, each with a limit that only a broken program reaches.
///
/// One thread at a time sends and one receives; `reset` and `close` may come from any other, and end a call in progress.
/// Closes when it is dropped.
public final class TestConnection: Sendable {
    /// How long a call waits before it throws `timedOut`.
    public static let patience = Duration.seconds(60)

    /// How the other end ended the connection.
    public enum Ending: Sendable, Equatable {
        /// FIN: all that it sent has arrived.
        case finished
        case reset
    }

    /// This end and the other one.
    public let local: SocketAddress
    public let peer: SocketAddress
    private let state: Mutex<State>

    private struct State {
        /// -1 once closed.
        var descriptor: CInt
        /// Calls in progress. The last one closes: until then nobody else may be given the number.
        var callCount = 0
        var isClosing = false

        mutating func closeIfIdle() {
            guard isClosing, callCount == 0, descriptor >= 0 else { return }
            Glibc.close(descriptor)
            descriptor = -1
        }
    }

    // MARK: Making one

    /// Connects to `address`, from the local address `source` where one is given. A small `receiveBufferByteCount`
    /// makes an end that stalls stall its sender soon.
    public static func connect(
        to address: SocketAddress, from source: IPAddress? = nil, receiveBufferByteCount: Int? = nil
    ) throws(TestFailure) -> TestConnection {
        let descriptor = cweir_connecting_socket(address.ip.family == .v6 ? 1 : 0)
        guard descriptor >= 0 else { throw .system("socket", code: -descriptor) }
        cweir_set_no_delay(descriptor)
        if let receiveBufferByteCount { TestSocket.setReceiveBuffer(descriptor, receiveBufferByteCount) }
        TestSocket.setTimeouts(descriptor, patience)
        if let source {
            let code = TestSocket.bind(descriptor, SocketAddress(source, port: 0))
            guard code == 0 else {
                Glibc.close(descriptor)
                throw .system("bind", code: code)
            }
        }
        let code = TestSocket.connect(descriptor, address)
        guard code == 0 else {
            Glibc.close(descriptor)
            throw TestFailure("connect to \(address)", code)
        }
        return TestConnection(owning: descriptor)
    }

    /// Takes over a connected socket.
    init(owning descriptor: CInt) {
        // A peer that is gone already has no address any more.
        local = TestSocket.localAddress(descriptor) ?? SocketAddress(.v4Any, port: 0)
        peer = TestSocket.peerAddress(descriptor) ?? SocketAddress(.v4Any, port: 0)
        TestSocket.setTimeouts(descriptor, Self.patience)
        state = Mutex(State(descriptor: descriptor))
    }

    deinit { close() }

    // MARK: Sending

    /// Sends all of `bytes`.
    public func send(_ bytes: [UInt8]) throws(TestFailure) {
        try call { (descriptor) throws(TestFailure) in
            var sent = 0
            while sent < bytes.count {
                let count = unsafe bytes.withUnsafeBytes { all in
                    unsafe Glibc.send(descriptor, all.baseAddress! + sent, all.count - sent, CInt(MSG_NOSIGNAL))
                }
                if count >= 0 { sent += count } else if errno != EINTR { throw TestFailure("send", errno) }
            }
        }
    }

    public func send(_ text: String) throws(TestFailure) { try send(Array(text.utf8)) }

    /// Sends a small TLS 1.3 ClientHello and returns its bytes. nil: without a server name.
    @discardableResult
    public func sendHello(_ serverName: String?, alpn: [String] = []) throws(TestFailure) -> [UInt8] {
        let hello = HelloBuilder(serverName: serverName, alpn: alpn).records()
        try send(hello)
        return hello
    }

    /// Sends FIN: no more follows, but this end goes on receiving.
    public func finish() {
        state.withLock { state in
            if state.descriptor >= 0 { _ = Glibc.shutdown(state.descriptor, CInt(SHUT_WR)) }
        }
    }

    // MARK: Receiving

    /// Whatever comes next; nothing where the other end has sent FIN.
    public func receive(atMost byteCount: Int = 65536) throws(TestFailure) -> [UInt8] {
        try call { (descriptor) throws(TestFailure) in
            var failure: CInt = 0
            let bytes = unsafe [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, filled in
                var count = 0
                repeat {
                    count = unsafe recv(descriptor, buffer.baseAddress, byteCount, 0)
                } while count < 0 && errno == EINTR
                if count < 0 { failure = errno } else { filled = count }
            }
            if failure != 0 { throw TestFailure("receive", failure) }
            return bytes
        }
    }

    /// The next `byteCount` bytes.
    public func receive(exactly byteCount: Int) throws(TestFailure) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < byteCount {
            let more = try receive(atMost: byteCount - bytes.count)
            if more.isEmpty { throw .ended(received: bytes.count, expected: byteCount) }
            bytes += more
        }
        return bytes
    }

    /// All that comes until FIN.
    public func receiveAll() throws(TestFailure) -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let more = try receive()
            if more.isEmpty { return bytes }
            bytes += more
        }
    }

    /// How the other end ends the connection; what it sends before that is dropped.
    public func ending() throws(TestFailure) -> Ending {
        while true {
            do throws(TestFailure) {
                if try receive().isEmpty { return .finished }
            } catch {
                if case .reset = error { return .reset }
                throw error
            }
        }
    }

    // MARK: Much

    /// Sends the first `byteCount` bytes of `stream`.
    public func send(_ stream: TestStream, byteCount: Int) throws(TestFailure) {
        try call { (descriptor) throws(TestFailure) in
            var sent = 0
            while sent < byteCount {
                let count = unsafe stream.withBytes(at: sent, atMost: byteCount - sent) { bytes in
                    unsafe Glibc.send(descriptor, bytes.baseAddress, bytes.count, CInt(MSG_NOSIGNAL))
                }
                if count >= 0 { sent += count } else if errno != EINTR { throw TestFailure("send", errno) }
            }
        }
    }

    /// Sends of `stream`, from `offset` on, what the kernel takes without waiting; answers how many bytes that were.
    public func sendWhatFits(_ stream: TestStream, from offset: Int = 0) throws(TestFailure) -> Int {
        try call { (descriptor) throws(TestFailure) in
            var sent = 0
            while true {
                let count = unsafe stream.withBytes(at: offset + sent, atMost: .max) { bytes in
                    unsafe Glibc.send(descriptor, bytes.baseAddress, bytes.count, CInt(MSG_NOSIGNAL | MSG_DONTWAIT))
                }
                if count < 0 && errno == EAGAIN { return sent }
                if count >= 0 { sent += count } else if errno != EINTR { throw TestFailure("send", errno) }
            }
        }
    }

    /// Receives `byteCount` bytes and compares each with `stream`'s.
    public func receive(_ stream: TestStream, byteCount: Int) throws(TestFailure) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 64)
        defer { unsafe buffer.deallocate() }
        var received = 0
        while received < byteCount {
            let wanted = min(buffer.count, byteCount - received)
            let count = try call { (descriptor) throws(TestFailure) in
                var count = 0
                repeat {
                    count = unsafe recv(descriptor, buffer.baseAddress, wanted, 0)
                } while count < 0 && errno == EINTR
                if count < 0 { throw TestFailure("receive", errno) }
                return count
            }
            if count == 0 { throw .ended(received: received, expected: byteCount) }
            guard unsafe stream.matches(UnsafeRawBufferPointer(rebasing: buffer[..<count]), at: received) else {
                throw .differs(from: received)
            }
            received += count
        }
    }

    // MARK: Ending

    /// Ends with RST: what was sent and has not arrived is lost.
    public func reset() {
        state.withLock { state in
            if state.descriptor >= 0 { cweir_set_reset_on_close(state.descriptor) }
        }
        close()
    }

    /// Closes: FIN, or RST where something that came was not received.
    public func close() {
        state.withLock { state in
            guard !state.isClosing else { return }
            state.isClosing = true
            if state.callCount > 0 { _ = Glibc.shutdown(state.descriptor, CInt(SHUT_RDWR)) }
            state.closeIfIdle()
        }
    }

    /// Runs one call. Its descriptor is -1 once the connection was closed.
    private func call<Result>(_ body: (CInt) throws(TestFailure) -> Result) throws(TestFailure) -> Result {
        let descriptor = state.withLock { state in
            state.callCount += 1
            return state.isClosing ? -1 : state.descriptor
        }
        defer {
            state.withLock { state in
                state.callCount -= 1
                state.closeIfIdle()
            }
        }
        return try body(descriptor)
    }
}
