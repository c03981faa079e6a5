import CWeir
import Glibc
import Synchronization
import WeirNet

/// A DNS server for tests, on 127.0.0.1, over UDP and TCP, that says what a script tells it to. It has its own thread.
///
/// Names without a script do not exist (NXDOMAIN). Ends by `stop()`.
public final class DNSServer: Sendable {
    public struct Failure: Error {
        public let call: String
        /// An `errno`.
        public let code: CInt
    }

    private struct Key: Hashable {
        var name: String
        var type: UInt16
    }

    /// A reply that waits for `releaseHeld()`.
    private struct Held {
        var peer: Peer
        var query: DNSQuery
        var answer: DNSAnswer
    }

    /// Where a reply goes.
    private enum Peer {
        case datagram(sockaddr_in)
        case stream(CInt)
    }

    private struct State {
        var scripts: [Key: [DNSAnswer]] = [:]
        var queries: [DNSQueryLogEntry] = []
        var isSilent = false
        var isStopping = false
        var held: [Held] = []
        var releasedCount = 0
        var thread: pthread_t?
    }

    /// Where it listens.
    public let address: SocketAddress
    private let state = Mutex(State())
    private let datagramSocket: CInt
    private let otherSocket: CInt
    private let listenSocket: CInt
    private let wake: CInt

    /// Listens and starts. `port` 0 takes a free one.
    public init(port: UInt16 = 0) throws {
        (datagramSocket, listenSocket, address) = try Self.openPair(port: port)
        do {
            otherSocket = try Self.open(SOCK_DGRAM, port: 0)
        } catch {
            close(datagramSocket)
            close(listenSocket)
            throw error
        }
        wake = cweir_eventfd()
        precondition(wake >= 0, "no descriptor for the test server")
        var thread = pthread_t()
        let argument = unsafe Unmanaged.passRetained(self)
        let code = unsafe pthread_create(
            &thread, nil,
            { argument in
                unsafe Unmanaged<DNSServer>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, argument.toOpaque())
        precondition(code == 0, "no thread for the test server")
        state.withLock { $0.thread = thread }
    }

    // MARK: The script

    /// Answers the queries of `type` for `name` with `answers` in turn; the last one repeats.
    public func script(_ name: String, _ type: DNSRecordType, _ answers: DNSAnswer...) {
        precondition(!answers.isEmpty)
        state.withLock { $0.scripts[Key(name: name, type: type.rawValue)] = answers }
    }

    /// Answers A and AAAA queries for `name` with those of `addresses` that fit, or NODATA.
    public func script(_ name: String, addresses: [IPAddress], ttl: UInt32 = 60) {
        for (type, family) in [(DNSRecordType.a, IPAddress.Family.v4), (.aaaa, .v6)] {
            script(name, type, .records(addresses.filter { $0.family == family }.map { .address($0, ttl: ttl) }))
        }
    }

    /// Answers A and AAAA queries for `name` with `answer`.
    public func script(_ name: String, _ answer: DNSAnswer) {
        script(name, .a, answer)
        script(name, .aaaa, answer)
    }

    /// While silent, queries are logged and dropped, as by a dead network.
    public func setSilent(_ isSilent: Bool) { state.withLock { $0.isSilent = isSilent } }

    /// Sends every reply held until now.
    public func releaseHeld() {
        state.withLock { $0.releasedCount = $0.held.count }
        cweir_eventfd_signal(wake)
    }

    /// Every query so far, in order.
    public var queries: [DNSQueryLogEntry] { state.withLock { $0.queries } }

    public func queryCount(_ name: String, _ type: DNSRecordType? = nil) -> Int {
        queries.count { $0.name == name && (type == nil || $0.type == type) }
    }

    /// Ends the thread and closes the sockets: from then on the kernel refuses what is sent here. More calls do nothing.
    public func stop() {
        let thread = state.withLock { state in
            state.isStopping = true
            defer { state.thread = nil }
            return state.thread
        }
        guard let thread else { return }
        cweir_eventfd_signal(wake)
        pthread_join(thread, nil)
        for descriptor in [datagramSocket, otherSocket, listenSocket, wake] { close(descriptor) }
    }

    deinit {
        let isRunning = state.withLock { $0.thread != nil }
        precondition(!isRunning, "a test server was dropped while it ran")
    }

    // MARK: The thread

    private func run() {
        var streams: [CInt: [UInt8]] = [:]
        while true {
            var polled = [wake, datagramSocket, listenSocket].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            polled += streams.keys.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            guard unsafe poll(&polled, nfds_t(polled.count), -1) >= 0 || errno == EINTR else { break }
            if state.withLock({ $0.isStopping }) { break }
            for ready in polled where ready.revents != 0 {
                switch ready.fd {
                case wake:
                    cweir_eventfd_drain(wake)
                    sendReleased()
                case datagramSocket:
                    receiveDatagram()
                case listenSocket:
                    let stream = accept(listenSocket, nil, nil)
                    if stream >= 0 { streams[stream] = [] }
                default:
                    let buffered = streams[ready.fd] ?? []
                    streams[ready.fd] = receiveStream(ready.fd, buffered)
                }
            }
        }
        for stream in streams.keys { close(stream) }
    }

    private func receiveDatagram() {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        var source = sockaddr_in()
        var sourceByteCount = socklen_t(MemoryLayout<sockaddr_in>.size)
        let count = unsafe withUnsafeMutableBytes(of: &source) { source in
            unsafe recvfrom(
                datagramSocket, &buffer, buffer.count, 0,
                source.baseAddress!.assumingMemoryBound(to: sockaddr.self), &sourceByteCount)
        }
        guard count > 0 else { return }
        handle(Array(buffer[..<count]), from: .datagram(source), sourcePort: UInt16(bigEndian: source.sin_port))
    }

    /// Takes in what has come and handles the whole messages. nil: the client has left and the socket is closed.
    private func receiveStream(_ stream: CInt, _ before: [UInt8]) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = unsafe recv(stream, &buffer, buffer.count, 0)
        guard count > 0 else {
            close(stream)
            return nil
        }
        var bytes = before + buffer[..<count]
        while bytes.count >= 2 {
            let byteCount = Int(bytes[0]) << 8 | Int(bytes[1])
            guard bytes.count >= 2 + byteCount else { break }
            handle(Array(bytes[2..<2 + byteCount]), from: .stream(stream), sourcePort: 0)
            bytes.removeFirst(2 + byteCount)
        }
        return bytes
    }

    private func handle(_ message: [UInt8], from peer: Peer, sourcePort: UInt16) {
        guard let query = DNSQuery(message) else { return }
        var isTCP = false
        if case .stream = peer { isTCP = true }
        let entry = DNSQueryLogEntry(
            name: query.name, type: DNSRecordType(rawValue: query.type), isTCP: isTCP, sourcePort: sourcePort,
            payloadByteCount: query.payloadByteCount)
        let answer = state.withLock { state -> DNSAnswer in
            state.queries.append(entry)
            if state.isSilent { return .silence }
            let key = Key(name: query.name, type: query.type)
            guard var answers = state.scripts[key] else { return .noSuchName }
            // The UDP half of a truncated exchange does not use its answer up: the TCP half is the same query.
            if case .truncated = answers[0], !isTCP { return answers[0] }
            let answer = answers[0]
            if answers.count > 1 {
                answers.removeFirst()
                state.scripts[key] = answers
            }
            return answer
        }
        if case .held(let later) = answer {
            state.withLock { $0.held.append(Held(peer: peer, query: query, answer: later)) }
        } else {
            send(answer, to: query, peer)
        }
    }

    private func sendReleased() {
        let released = state.withLock { state in
            let released = Array(state.held[..<state.releasedCount])
            state.held.removeFirst(state.releasedCount)
            state.releasedCount = 0
            return released
        }
        for held in released { send(held.answer, to: held.query, held.peer) }
    }

    // MARK: Replies

    private func send(_ answer: DNSAnswer, to query: DNSQuery, _ peer: Peer) {
        switch answer {
        case .records(let records):
            transmit(Self.reply(records, to: query).bytes, peer)
        case .noSuchName:
            transmit(DNSReply(to: query, code: .noSuchName).bytes, peer)
        case .serverFailure:
            transmit(DNSReply(to: query, code: .serverFailure).bytes, peer)
        case .refused:
            transmit(DNSReply(to: query, code: .refused).bytes, peer)
        case .silence:
            break
        case .truncated(let records):
            if case .stream = peer {
                transmit(Self.reply(records, to: query).bytes, peer)
            } else {
                transmit(DNSReply(to: query, isTruncated: true).bytes, peer)
            }
        case .broken(let defect, let records):
            sendBroken(defect, records, to: query, peer)
        case .held(let answer):
            send(answer, to: query, peer)
        }
    }

    private func sendBroken(_ defect: DNSDefect, _ records: [DNSRecord], to query: DNSQuery, _ peer: Peer) {
        var query = query
        switch defect {
        case .wrongID:
            query.id ^= 0x5555
            transmit(Self.reply(records, to: query).bytes, peer)
        case .wrongQuestion:
            query.questionBytes = DNSReply.encoded(name: "other.test") + query.questionBytes.suffix(4)
            transmit(Self.reply(records, to: query).bytes, peer)
        case .otherPort:
            transmit(Self.reply(records, to: query).bytes, peer, through: otherSocket)
        case .compressionLoop:
            var reply = DNSReply(to: query)
            reply.appendAnswer(
                pointer: UInt16(reply.bytes.count), type: query.type, ttl: 60, declaredByteCount: 4,
                data: [192, 0, 2, 66])
            transmit(reply.bytes, peer)
        case .lengthBeyondEnd:
            var reply = DNSReply(to: query)
            reply.appendAnswer(
                pointer: 12, type: query.type, ttl: 60, declaredByteCount: 4000, data: [192, 0, 2, 66])
            transmit(reply.bytes, peer)
        case .cutOff:
            transmit(Array(DNSReply(to: query).bytes.prefix(7)), peer)
        case .empty:
            transmit([], peer)
        case .noise:
            transmit((0..<300).map { UInt8(truncatingIfNeeded: $0 &* 167 &+ 13) }, peer)
        }
    }

    /// Those of `records` that answer the question's type, and all aliases.
    private static func reply(_ records: [DNSRecord], to query: DNSQuery) -> DNSReply {
        var reply = DNSReply(to: query)
        var owner = query.name
        for record in records {
            switch record.data {
            case .alias(let target):
                reply.appendAnswer(owner: owner, type: 5, ttl: record.ttl, data: DNSReply.encoded(name: target))
                owner = target
            case .address(let address):
                let type = address.family == .v4 ? DNSRecordType.a : .aaaa
                guard type.rawValue == query.type else { continue }
                let data = (0..<address.bitCount / 8).map { address.byte($0) }
                reply.appendAnswer(owner: owner, type: type.rawValue, ttl: record.ttl, data: data)
            }
        }
        return reply
    }

    private func transmit(_ bytes: [UInt8], _ peer: Peer, through socket: CInt? = nil) {
        switch peer {
        case .datagram(var destination):
            unsafe withUnsafeBytes(of: &destination) { destination in
                unsafe _ = sendto(
                    socket ?? datagramSocket, bytes, bytes.count, 0,
                    destination.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(destination.count))
            }
        case .stream(let stream):
            let framed = [UInt8(truncatingIfNeeded: bytes.count >> 8), UInt8(truncatingIfNeeded: bytes.count)] + bytes
            // A blocking socket takes all of it; a client that has left is not an error here.
            unsafe _ = Glibc.send(stream, framed, framed.count, CInt(MSG_NOSIGNAL))
        }
    }

    // MARK: Sockets

    /// A UDP and a TCP socket on one port.
    private static func openPair(port: UInt16) throws -> (CInt, CInt, SocketAddress) {
        var attempt = 0
        while true {
            let datagramSocket = try open(SOCK_DGRAM, port: port)
            let bound = try Self.port(of: datagramSocket)
            do {
                let listenSocket = try open(SOCK_STREAM, port: bound)
                return (datagramSocket, listenSocket, SocketAddress(.v4Loopback, port: bound))
            } catch {
                // Somebody else has that port's TCP half: another free port may have both.
                close(datagramSocket)
                attempt += 1
                if port != 0 || attempt == 20 { throw error }
            }
        }
    }

    private static func open(_ kind: __socket_type, port: UInt16) throws -> CInt {
        let descriptor = socket(AF_INET, Int32(kind.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failure(call: "socket", code: errno) }
        var one: CInt = 1
        if kind == SOCK_STREAM {
            unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<CInt>.size))
        }
        var local = sockaddr_in()
        local.sin_family = sa_family_t(AF_INET)
        local.sin_port = port.bigEndian
        local.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let status = unsafe withUnsafeBytes(of: &local) { local in
            unsafe bind(
                descriptor, local.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(local.count))
        }
        if status != 0 || (kind == SOCK_STREAM && listen(descriptor, 64) != 0) {
            let failure = Failure(call: status != 0 ? "bind" : "listen", code: errno)
            close(descriptor)
            throw failure
        }
        return descriptor
    }

    private static func port(of descriptor: CInt) throws -> UInt16 {
        var local = sockaddr_in()
        var byteCount = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = unsafe withUnsafeMutableBytes(of: &local) { local in
            unsafe getsockname(
                descriptor, local.baseAddress!.assumingMemoryBound(to: sockaddr.self), &byteCount)
        }
        guard status == 0 else { throw Failure(call: "getsockname", code: errno) }
        return UInt16(bigEndian: local.sin_port)
    }
}
