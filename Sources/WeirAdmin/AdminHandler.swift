#if Command
    import NIOCore
    import NIOHTTP1
    import Synchronization

    /// Answers one connection's requests, one after the other.
    final class AdminHandler: ChannelInboundHandler {
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = HTTPServerResponsePart

        private let pages: AdminPages
        private let bound: RequestBound
        private let connections: OpenConnections
        private var request: HTTPRequestHead?
        /// Between an answer and the next request.
        private var isKept = false

        init(pages: AdminPages, bound: RequestBound, _ connections: OpenConnections) {
            self.pages = pages
            self.bound = bound
            self.connections = connections
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch unwrapInboundIn(data) {
            case .head(let head):
                request = head
                isKept = false
            case .body:
                // A body means nothing here; `RequestBound` has counted it.
                break
            case .end:
                guard let request else { return }
                self.request = nil
                bound.requestEnded()
                respond(to: request, context)
            }
        }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            // The client has ended its direction. Every request that came whole is answered by now.
            if let event = event as? ChannelEvent, event == .inputClosed { context.close(promise: nil) }
            // Its client opens another where it has something to ask.
            if event is ServerLeaves, isKept { context.close(promise: nil) }
            context.fireUserInboundEventTriggered(event)
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        private func respond(to request: HTTPRequestHead, _ context: ChannelHandlerContext) {
            let answer = pages.answer(request.method, request.uri)
            let keepsAlive = request.isKeepAlive && !connections.isLeaving.load(ordering: .relaxed)
            isKept = keepsAlive
            var head = HTTPResponseHead(version: .http1_1, status: answer.status)
            head.headers.add(name: "Content-Type", value: answer.contentType)
            head.headers.add(name: "Content-Length", value: String(answer.body.utf8.count))
            head.headers.add(name: "Connection", value: keepsAlive ? "keep-alive" : "close")
            if answer.status == .methodNotAllowed { head.headers.add(name: "Allow", value: "GET, HEAD") }
            context.write(wrapOutboundOut(.head(head)), promise: nil)
            if request.method != .HEAD {
                let body = context.channel.allocator.buffer(string: answer.body)
                context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
            }
            let isWritten = context.writeAndFlush(wrapOutboundOut(.end(nil)))
            let bound = NIOLoopBound(bound, eventLoop: context.eventLoop)
            let channel = context.channel
            isWritten.whenComplete { _ in
                if keepsAlive { bound.value.exchangeEnded() } else { channel.close(promise: nil) }
            }
        }
    }
#endif
