#if Command
    import NIOCore

    /// Bounds what one connection may cost: bytes per request, and time per request and answer.
    ///
    /// The time is absolute. A byte now and then does not extend it, and neither does reading the answer slowly.
    final class RequestBound: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let byteCountMax: Int
        private let timeout: TimeAmount
        /// Bytes since the last request ended.
        private var byteCount = 0
        /// The request was refused; what still comes is dropped.
        private var isRefused = false
        private var deadline: Scheduled<Void>?
        private var channel: (any Channel)?

        init(byteCountMax: Int, timeout: TimeAmount) {
            self.byteCountMax = byteCountMax
            self.timeout = timeout
        }

        func handlerAdded(context: ChannelHandlerContext) {
            channel = context.channel
            schedule(timeout)
        }

        func handlerRemoved(context: ChannelHandlerContext) {
            deadline?.cancel()
            channel = nil
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            guard !isRefused else { return }
            byteCount += unwrapInboundIn(data).readableBytes
            guard byteCount > byteCountMax else { return context.fireChannelRead(data) }
            isRefused = true
            // Closing at once would reset the connection, since the rest of the request is unread, and the client might
            // never see the answer. So only our direction ends, and the rest is dropped for a second.
            schedule(.seconds(1))
            let text = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            context.writeAndFlush(wrapOutboundOut(context.channel.allocator.buffer(string: text)), promise: nil)
            context.close(mode: .output, promise: nil)
        }

        func requestEnded() { byteCount = 0 }

        /// The answer is with the kernel: the next request gets its own time.
        func exchangeEnded() { if !isRefused { schedule(timeout) } }

        private func schedule(_ time: TimeAmount) {
            deadline?.cancel()
            guard let channel else { return }
            deadline = channel.eventLoop.scheduleTask(in: time) { channel.close(promise: nil) }
        }
    }
#endif
