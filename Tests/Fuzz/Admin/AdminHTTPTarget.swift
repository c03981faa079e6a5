#if Command
    import FuzzHarness
    import NIOCore
    import NIOEmbedded
    import WeirAdmin

    /// T-21: a connection to the admin endpoint, without a socket. SwiftNIO reads the HTTP; the bounds, the paths and the order
    /// of the answers are ours: whatever comes, what goes back is a row of our own answers, the same however the bytes are
    /// cut, and the connection ends by its deadline.
    enum AdminHTTPTarget: FuzzTarget {
        static let name = "admin-http"

        static func check(_ bytes: Span<UInt8>) -> String? {
            var random = FuzzRandom(of: bytes)
            let whole = Exchange(bytes, pieces: nil, requestByteCountMax: 1 << 20)
            var pieces = FuzzRandom(seed: random.next())
            let cut = Exchange(bytes, pieces: pieces, requestByteCountMax: 1 << 20)
            require(
                whole.output == cut.output, "\(whole.output.debugDescription) but, cut, \(cut.output.debugDescription)")
            require(whole.isOpen == cut.isOpen, "open in one piece: \(whole.isOpen), cut: \(cut.isOpen)")
            let answers = Answers(whole.output)
            require(!answers.statuses.contains(431), "too large for a limit of 1 MiB")

            // With a limit, no more is answered than without, and then 431.
            pieces = FuzzRandom(seed: random.next())
            let bounded = Answers(Exchange(bytes, pieces: pieces, requestByteCountMax: 200).output)
            if bounded.statuses.last == 431 {
                require(bytes.count > 200, "431 after \(bytes.count) bytes")
                require(answers.statuses.starts(with: bounded.statuses.dropLast()), "other answers under a limit")
            } else {
                require(
                    bounded.statuses == answers.statuses, "\(bounded.statuses) under a limit, else \(answers.statuses)")
            }
            return answers.statuses.isEmpty ? "nothing" : "\(answers.statuses.last ?? 0)"
        }
    }

    /// One connection, from its first byte to its deadline.
    private struct Exchange {
        private(set) var output = ""
        /// After the last byte and before the deadline.
        private(set) var isOpen = false

        /// `pieces` decides how the bytes are cut; nil: they come at once.
        init(_ bytes: Span<UInt8>, pieces: FuzzRandom?, requestByteCountMax: Int) {
            let loop = EmbeddedEventLoop()
            let channel = EmbeddedChannel(loop: loop)
            var limits = AdminServer.Limits()
            limits.requestByteCountMax = requestByteCountMax
            let sent = Sent()
            do {
                try channel.pipeline.syncOperations.addHandler(sent)
                try AdminServer.install(on: channel, limits: limits, metrics: { "weir_x 1\n" }, isReady: { true })
                try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 9901)).wait()
            } catch {
                fail("the pipeline: \(error)")
            }
            var start = 0
            var pieces = pieces
            let lengthMax = 1 + (pieces?.below(64) ?? 0)
            while start < bytes.count, channel.isActive {
                let end = pieces == nil ? bytes.count : min(bytes.count, start + 1 + (pieces?.below(lengthMax) ?? 0))
                var buffer = channel.allocator.buffer(capacity: end - start)
                for index in start..<end { buffer.writeInteger(bytes[index]) }
                // An error of the parser is answered by handlers, and comes here too.
                _ = try? channel.writeInbound(buffer)
                loop.run()
                start = end
            }
            output = sent.text
            isOpen = channel.isActive
            loop.advanceTime(by: .seconds(31))
            require(!channel.isActive, "open after its deadline")
            _ = try? channel.finish(acceptAlreadyClosed: true)
        }
    }

    /// What reaches the wire: an embedded channel takes writes after its end, where a socket would fail them.
    private final class Sent: ChannelOutboundHandler {
        typealias OutboundIn = IOData

        private(set) var text = ""

        func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
            if context.channel.isActive, case .byteBuffer(let buffer) = unwrapOutboundIn(data) {
                text += String(buffer: buffer)
            }
            context.write(data, promise: promise)
        }
    }

    /// What was sent back, taken apart into answers that we give; anything else ends the process.
    private struct Answers {
        private(set) var statuses: [Int] = []

        init(_ text: String) {
            var rest = text.utf8[...]
            var isClosed = false
            while !rest.isEmpty {
                require(!isClosed, "an answer after the last: \(text.debugDescription)")
                guard let (status, closes, byteCount) = Self.first(rest) else {
                    fail("no answer of ours: \(Substring(rest).debugDescription)")
                }
                statuses.append(status)
                isClosed = closes
                rest = rest.dropFirst(byteCount)
            }
        }

        private static let bodies: [(status: Int, phrase: String, body: String)] = [
            (200, "OK", "weir_x 1\n"), (200, "OK", "alive\n"), (200, "OK", "ready\n"),
            (404, "Not Found", "not found\n"), (405, "Method Not Allowed", "only GET and HEAD\n"),
        ]

        private static func first(_ text: Substring.UTF8View) -> (status: Int, closes: Bool, byteCount: Int)? {
            // SwiftNIO's answer to what is no HTTP.
            for (status, head) in [
                (400, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
                (400, "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
                (431, "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            ] where text.starts(with: head.utf8) {
                return (status, true, head.utf8.count)
            }
            guard let end = Substring(text).firstRange(of: "\r\n\r\n") else { return nil }
            let head = String(Substring(text[..<end.lowerBound]))
            let body = text[end.upperBound...]
            var lines = head.split(separator: "\r\n", omittingEmptySubsequences: false)
            let statusLine = lines.removeFirst()
            guard statusLine.hasPrefix("HTTP/1.1 "), let status = Int(statusLine.dropFirst(9).prefix(3)) else {
                return nil
            }
            var headers: [String: String] = [:]
            for line in lines {
                guard let colon = line.firstRange(of: ": ") else { return nil }
                headers[line[..<colon.lowerBound].lowercased()] = String(line[colon.upperBound...])
            }
            guard let length = headers["content-length"].flatMap({ Int($0) }), headers.count <= 4 else { return nil }
            guard let connection = headers["connection"], ["keep-alive", "close"].contains(connection) else {
                return nil
            }
            require((status == 405) == (headers["allow"] != nil), "Allow with status \(status)")
            // An answer to HEAD has the head of one to GET.
            let known = bodies.filter { $0.status == status && $0.body.utf8.count == length }.map(\.body)
            let sent =
                known.contains { body.starts(with: $0.utf8) }
                || (status == 200 && body.starts(with: "weir\n/metrics".utf8))
            require(
                !known.isEmpty || (status == 200 && length > 100), "a body of \(length) bytes with status \(status)")
            let headByteCount = text.distance(from: text.startIndex, to: end.upperBound)
            return (status, connection == "close", headByteCount + (sent ? length : 0))
        }
    }
#endif
