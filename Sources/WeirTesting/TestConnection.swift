import CWeir
import Glibc
import Synchronization
import WeirNet

/// One end of a TCP connection in a test: blocking calls, each with a limit that only a broken program reaches.
///
/// One thread at a time sends and one receives; `reset`, `close` and `interrupt` may come from any other. Closes when
/// it is dropped.
public final class TestConnection: Sendable {
    /// How long a call waits before it throws `timedOut`.
    public static let patience = Duration.seconds(30)

    /// How the other end ended the connection.
    public enum Ending: Sendable, Equatable {
        /// FIN: all that it sent has arrived.
        case finished
        case reset
    }

    /// This end and the other one.
    public let local: SocketAddress
    public let peer: SocketAddress
    /// -1 once closed. Calls in progress keep using the number, so only their own thread may close.
    private let descriptor: Mutex<CInt>

    // MARK: Making one

    /// Connects to `address`, from the local address `source` where one is given. A small `receiveBufferByteCount`
    /// makes an end that stalls stall its sender soon.
    public static func connect(
        to address: SocketAddress, from source: IPAddress? = nil, receiveBufferByteCount: Int? = nil
    ) throws(TestFailure) -> TestConnection {
        let descriptor = cweir_connecting_socket(address.ip.family == .v6 ? 1 : 0)
        guard descriptor >= 0 else { throw .system("socket", code: -descriptor) }
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
        self.descriptor = Mutex(descriptor)
    }

    deinit { close() }

    // MARK: Sending

    /// Sends all of `bytes`.
    public func send(_ bytes: [UInt8]) throws(TestFailure) {
        var sent = 0
        let descriptor = current
        while sent < bytes.count {
            let count = unsafe bytes.withUnsafeBytes { all in
                unsafe Glibc.send(descriptor, all.baseAddress! + sent, all.count - sent, CInt(MSG_NOSIGNAL))
            }
            if count < 0 {
                if errno == EINTR { continue }
                throw TestFailure("send", errno)
            }
            sent += count
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
    public func finish() { Glibc.shutdown(current, CInt(SHUT_WR)) }

    // MARK: Receiving

    /// Whatever comes next; nothing where the other end has sent FIN.
    public func receive(atMost byteCount: Int = 65536) throws(TestFailure) -> [UInt8] {
        let descriptor = current
        var failure: CInt = 0
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, filled in
            var count = 0
            repeat { count = unsafe recv(descriptor, buffer.baseAddress, byteCount, 0) } while count < 0 && errno == EINTR
            if count < 0 { failure = errno } else { filled = count }
        }
        if failure != 0 { throw TestFailure("receive", failure) }
        return bytes
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
        let descriptor = current
        var sent = 0
        while sent < byteCount {
            let count = unsafe stream.withBytes(at: sent, atMost: byteCount - sent) { bytes in
                unsafe Glibc.send(descriptor, bytes.baseAddress, bytes.count, CInt(MSG_NOSIGNAL))
            }
            if count < 0 {
                if errno == EINTR { continue }
                throw TestFailure("send", errno)
            }
            sent += count
        }
    }

    /// Receives `byteCount` bytes and compares each with `stream`'s.
    public func receive(_ stream: TestStream, byteCount: Int) throws(TestFailure) {
        let descriptor = current
        var received = 0
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 64)
        defer { unsafe buffer.deallocate() }
        while received < byteCount {
            let wanted = min(buffer.count, byteCount - received)
            let count = unsafe recv(descriptor, buffer.baseAddress, wanted, 0)
            if count < 0 {
                if errno == EINTR { continue }
                throw TestFailure("receive", errno)
            }
            if count == 0 { throw .ended(received: received, expected: byteCount) }
            var compared = 0
            while compared < count {
                let (same, length) = unsafe stream.withBytes(at: received + compared, atMost: count - compared) { bytes in
                    unsafe (memcmp(bytes.baseAddress!, buffer.baseAddress! + compared, bytes.count) == 0, bytes.count)
                }
                if !same { throw .differs(offset: received + compared) }
                compared += length
            }
            received += count
        }
    }

    // MARK: Ending

    /// Ends with RST: what was sent and has not arrived is lost.
    public func reset() {
        descriptor.withLock { descriptor in
            if descriptor >= 0 { cweir_set_reset_on_close(descriptor) }
        }
        close()
    }

    /// Closes: FIN, or RST where something that came was not received.
    public func close() {
        descriptor.withLock { descriptor in
            if descriptor >= 0 { Glibc.close(descriptor) }
            descriptor = -1
        }
    }

    /// Ends both directions without closing: a call in progress on another thread returns.
    public func interrupt() {
        descriptor.withLock { descriptor in
            if descriptor >= 0 { _ = Glibc.shutdown(descriptor, CInt(SHUT_RDWR)) }
        }
    }

    private var current: CInt { descriptor.withLock { $0 } }
}
