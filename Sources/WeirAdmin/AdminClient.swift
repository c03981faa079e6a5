#if Command
    import NIOCore
    import NIOHTTP1
    import NIOPosix
    import WeirNet

    /// Reads pages of a running proxy's admin endpoint, for commands: one connection for each, bounded in size and time.
    package struct AdminClient: Sendable {
        package enum Failure: Error, Sendable, Equatable {
            case unreachable(String)
            case status(Int)
            case tooLong
            case timedOut
        }

        /// Of an answer's body.
        package static let byteCountMax = 16 << 20

        private let host: String
        private let port: Int
        private let timeout: TimeAmount

        /// `http://host:port`, or `host:port`; an IPv6 address stands in brackets. nil: it is neither. `timeout`: for a page,
        /// from the connect to its last byte.
        package init?(_ url: String, timeout: Duration = .seconds(5)) {
            var rest = url[...]
            if rest.hasPrefix("http://") { rest = rest.dropFirst(7) }
            if rest.hasSuffix("/") { rest = rest.dropLast() }
            guard let colon = rest.lastIndex(of: ":"), let port = UInt16(rest[rest.index(after: colon)...]), port > 0
            else { return nil }
            var host = rest[..<colon]
            if host.hasPrefix("["), host.hasSuffix("]") {
                host = host.dropFirst().dropLast()
            } else if host.contains(":") {
                return nil
            }
            let isHost = host.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"),
                    UInt8(ascii: ":"):
                    true
                default: false
                }
            }
            guard !host.isEmpty, isHost else { return nil }
            self.host = String(host)
            self.port = Int(port)
            self.timeout = .nanoseconds(Int64(clamping: timeout.clampedNanoseconds))
        }

        /// The body of the page at `path`, which begins with a slash. Waits for it.
        package func page(_ path: String) throws(Failure) -> String {
            let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
            defer { try? group.syncShutdownGracefully() }
            let loop = group.next()
            let answer = loop.makePromise(of: String.self)
            let (host, port) = (host, port)
            let bootstrap = ClientBootstrap(group: loop).connectTimeout(timeout).channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    try channel.pipeline.syncOperations.addHandler(
                        PageRequest(path, host: "\(host.contains(":") ? "[\(host)]" : host):\(port)", answer))
                }
            }
            let deadline = loop.scheduleTask(in: timeout) { answer.fail(Failure.timedOut) }
            bootstrap.connect(host: host, port: port).cascadeFailure(to: answer)
            defer { deadline.cancel() }
            do {
                return try answer.futureResult.wait()
            } catch let failure as Failure {
                throw failure
            } catch let error as IOError {
                throw .unreachable(error.description)
            } catch is NIOConnectionError {
                throw .unreachable("nobody answers there")
            } catch {
                throw .unreachable("it is no HTTP that answers there")
            }
        }
    }

    extension AdminClient.Failure: CustomStringConvertible {
        package var description: String {
            switch self {
            case .unreachable(let why): why
            case .status(let code): "it answers with status \(code)"
            case .tooLong: "its answer is longer than \(AdminClient.byteCountMax >> 20) MiB"
            case .timedOut: "it does not answer in time"
            }
        }
    }

    /// Asks as soon as it is connected, and keeps what comes.
    private final class PageRequest: ChannelInboundHandler {
        typealias InboundIn = HTTPClientResponsePart
        typealias OutboundOut = HTTPClientRequestPart

        private let path: String
        private let host: String
        private let answer: EventLoopPromise<String>
        private var body = ByteBuffer()

        init(_ path: String, host: String, _ answer: EventLoopPromise<String>) {
            self.path = path
            self.host = host
            self.answer = answer
        }

        func channelActive(context: ChannelHandlerContext) {
            let headers: HTTPHeaders = ["Host": host, "Connection": "close"]
            let head = HTTPRequestHead(version: .http1_1, method: .GET, uri: path, headers: headers)
            context.write(wrapOutboundOut(.head(head)), promise: nil)
            context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch unwrapInboundIn(data) {
            case .head(let head):
                if head.status != .ok { fail(.status(Int(head.status.code)), context) }
            case .body(var part):
                guard body.readableBytes + part.readableBytes <= AdminClient.byteCountMax else {
                    return fail(.tooLong, context)
                }
                body.writeBuffer(&part)
            case .end:
                answer.succeed(String(buffer: body))
                context.close(promise: nil)
            }
        }

        func channelInactive(context: ChannelHandlerContext) {
            answer.fail(AdminClient.Failure.unreachable("it closes without an answer"))
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            answer.fail(error)
            context.close(promise: nil)
        }

        private func fail(_ failure: AdminClient.Failure, _ context: ChannelHandlerContext) {
            answer.fail(failure)
            context.close(promise: nil)
        }
    }
#endif
