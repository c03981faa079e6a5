import Glibc

/// A client that sends the bytes it is told to and reads what comes back, on a blocking socket.
final class HTTPClient {
    private let descriptor: Int32

    init(port: UInt16) {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        // A read that nothing ends must not hang the test run.
        var limit = timeval(tv_sec: 60, tv_usec: 0)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let code = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        precondition(code == 0, "connect: \(errno)")
    }

    deinit { close(descriptor) }

    func send(_ text: String) {
        let bytes = Array(text.utf8)
        var count = 0
        while count < bytes.count {
            let more = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.send(
                    descriptor, UnsafeRawBufferPointer(rebasing: $0[count...]).baseAddress, bytes.count - count,
                    Int32(MSG_NOSIGNAL))
            }
            guard more > 0 else { return }
            count += more
        }
    }

    func endOutput() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// What comes next; empty at the end, nil after a reset or a minute of nothing.
    func receive() -> String? {
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
        return count < 0 ? nil : String(decoding: bytes[..<count], as: UTF8.self)
    }

    /// All until the server ends; nil where it does not end in order.
    func receiveToEnd() -> String? {
        var text = ""
        while let piece = receive() {
            if piece.isEmpty { return text }
            text += piece
        }
        return nil
    }
}
