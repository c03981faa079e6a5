import CWeir
import Glibc
import WeirIO
import WeirNet
import WeirSockets

/// One blocking loopback socket outside the driver: the other side of what a driver does, or what a driver is given.
/// Closed when it goes away.
package final class Loopback {
    package enum Arrival: Equatable {
        case bytes([UInt8])
        case end
        case failed(Int32)
    }

    package struct Failure: Error { let code: Int32 }

    package private(set) var descriptor: Int32

    package init(descriptor: Int32) throws {
        guard descriptor >= 0 else { throw Failure(code: -descriptor) }
        self.descriptor = descriptor
    }

    deinit { close() }

    package var socket: Socket { Socket(rawValue: descriptor) }

    package func close() {
        if descriptor >= 0 { Glibc.close(descriptor) }
        descriptor = -1
    }

    /// Whoever holds the number now closes it.
    package func relinquish() -> Socket {
        defer { descriptor = -1 }
        return socket
    }

    /// Closes with RST.
    package func reset() {
        _ = cweir_set_reset_on_close(descriptor)
        close()
    }

    // MARK: Making

    /// Bound to a free port and listening.
    package static func listening(on ip: IPAddress = .loopback, backlog: Int32 = 64) throws -> Loopback {
        var storage = sockaddr_storage()
        let length = storage.set(SocketAddress(ip, port: 0))
        return try Loopback(descriptor: unsafe cweir_listening_socket(&storage, length, backlog, 0))
    }

    /// Bound, not listening: a connect to its port is refused.
    package static func bound() throws -> Loopback {
        try Loopback(descriptor: exclusive(SocketAddress(.loopback, port: 0)))
    }

    /// A descriptor bound to `address`, or the negated errno; fails while anybody else has that port.
    package static func exclusive(_ address: SocketAddress) -> Int32 {
        let descriptor = cweir_connecting_socket(0)
        if unsafe call(descriptor, address, Glibc.bind) == 0 { return descriptor }
        defer { Glibc.close(descriptor) }
        return -errno
    }

    /// `bufferByteCount`: of both socket buffers, set before the connect; nil leaves them alone.
    package static func connected(to listener: Loopback, bufferByteCount: Int32? = nil) throws -> Loopback {
        let made = try Loopback(descriptor: cweir_connecting_socket(0))
        cweir_set_no_delay(made.descriptor)
        if let bufferByteCount { made.setBuffers(bufferByteCount) }
        try made.connect(to: listener)
        return made
    }

    package func connect(to listener: Loopback) throws {
        guard unsafe Self.call(descriptor, listener.address, Glibc.connect) == 0 else { throw Failure(code: errno) }
    }

    /// The two ends of one connection: one for the driver, one for the test.
    package static func pair(bufferByteCount: Int32? = nil) throws -> (near: Loopback, far: Loopback) {
        let listener = try listening()
        if let bufferByteCount { listener.setBuffers(bufferByteCount) }
        let far = try connected(to: listener, bufferByteCount: bufferByteCount)
        return (try listener.accept(), far)
    }

    package func accept() throws -> Loopback {
        guard wait(for: Int32(POLLIN)) else { throw Failure(code: ETIMEDOUT) }
        return try Loopback(descriptor: Glibc.accept(descriptor, nil, nil))
    }

    private func setBuffers(_ byteCount: Int32) {
        var byteCount = byteCount
        let length = socklen_t(MemoryLayout<Int32>.size)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &byteCount, length)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &byteCount, length)
    }

    /// The value of an option; nil where there is none.
    package func option(_ name: Int32, at level: Int32 = SOL_SOCKET) -> Int32? {
        var value: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        return unsafe getsockopt(descriptor, level, name, &value, &length) == 0 ? value : nil
    }

    /// 0, or an errno.
    package func setOption(_ name: Int32, _ value: Int32) -> Int32 {
        var value = value
        return unsafe setsockopt(descriptor, SOL_SOCKET, name, &value, socklen_t(MemoryLayout<Int32>.size)) == 0
            ? 0 : errno
    }

    /// Where it is bound.
    package var address: SocketAddress {
        guard let address = SocketNames.local(of: descriptor) else { preconditionFailure("a socket without a name") }
        return address
    }

    private static func call(
        _ descriptor: Int32, _ address: SocketAddress, _ body: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        var storage = sockaddr_storage()
        let length = storage.set(address)
        return unsafe withUnsafePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe body(descriptor, $0, length) }
        }
    }

    // MARK: Using

    /// The number of bytes taken, or a negated errno.
    @discardableResult
    package func send(_ bytes: [UInt8]) -> Int {
        let count = unsafe bytes.withUnsafeBytes {
            unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        return count < 0 ? Int(-errno) : count
    }

    /// The same without waiting for room.
    package func sendNow(_ bytes: ArraySlice<UInt8>) -> Int {
        let count = unsafe bytes.withUnsafeBytes {
            unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
        }
        return count < 0 ? Int(-errno) : count
    }

    /// All bytes and FIN behind them, which come together where they fit into one segment.
    package func sendWithEnd(_ bytes: [UInt8]) {
        unsafe bytes.withUnsafeBytes {
            unsafe _ = Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL) | Int32(MSG_MORE))
        }
        end()
    }

    /// One urgent byte (MSG_OOB).
    package func sendUrgent(_ byte: UInt8) {
        var byte = byte
        unsafe _ = Glibc.send(descriptor, &byte, 1, Int32(MSG_OOB) | Int32(MSG_NOSIGNAL))
    }

    package func receive(upTo count: Int = 65536) -> Arrival {
        guard wait(for: Int32(POLLIN)) else { return .failed(ETIMEDOUT) }
        var bytes = [UInt8](repeating: 0, count: count)
        let received = unsafe bytes.withUnsafeMutableBytes {
            unsafe Glibc.recv(descriptor, $0.baseAddress, $0.count, 0)
        }
        if received < 0 { return .failed(errno) }
        return received == 0 ? .end : .bytes(Array(bytes[..<received]))
    }

    /// What has come, without waiting: empty where nothing has, or the end.
    package func receiveNow() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = unsafe bytes.withUnsafeMutableBytes {
            unsafe Glibc.recv(descriptor, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT))
        }
        return Array(bytes[..<max(count, 0)])
    }

    /// Exactly `count` bytes, or fewer where the stream ends or fails before.
    package func receiveAll(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count, case .bytes(let more) = receive(upTo: count - bytes.count) { bytes += more }
        return bytes
    }

    /// Segments that have come, the handshake's included (tcpi_segs_in, which Glibc's `tcp_info` does not have).
    package var segmentsIn: UInt32 {
        var info = InlineArray<36, UInt32>(repeating: 0)
        var length = socklen_t(MemoryLayout.size(ofValue: info))
        unsafe getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_INFO, &info, &length)
        return info[35]
    }

    /// TCP_NODELAY
    package var hasNoDelay: Bool { option(IPPROTO_TCP, TCP_NODELAY) != 0 }

    package func option(_ level: Int, _ name: Int32) -> Int32 {
        var value: Int32 = -1
        var length = socklen_t(MemoryLayout<Int32>.size)
        unsafe getsockopt(descriptor, Int32(level), name, &value, &length)
        return value
    }

    /// FIN.
    package func end() { Glibc.shutdown(descriptor, Int32(SHUT_WR)) }

    /// Waits until the socket's state shows one of `events` (poll(2)), which its peer has caused; five seconds at most.
    ///
    /// Not SO_RCVTIMEO: with it a call ends with EINTR when a ring of this thread has just gone.
    package func wait(for events: Int32) -> Bool {
        var request = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        return unsafe poll(&request, 1, 5000) == 1 && Int32(request.revents) & events != 0
    }

    /// Waits until so many bytes have come and not been received (FIONREAD); five seconds at most.
    package func wait(forByteCount byteCount: Int) -> Bool {
        for _ in 0..<50_000 {
            var count: Int32 = 0
            unsafe _ = ioctl(descriptor, UInt(FIONREAD), &count)
            if Int(count) >= byteCount { return true }
            usleep(100)
        }
        return false
    }
}

extension IPAddress {
    package static let loopback = IPAddress(v4: 0x7f00_0001)
}
