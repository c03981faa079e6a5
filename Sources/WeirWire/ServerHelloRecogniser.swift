package enum ServerHelloProgress: Sendable, BitwiseCopyable, Equatable {
    case needMore
    /// A whole ServerHello (or a HelloRetryRequest, which has its form) has come.
    case recognised
    case refused(ServerHelloRefusal)
}

/// Why bytes are not a server's first flight of TLS.
package enum ServerHelloRefusal: UInt8, Sendable, BitwiseCopyable, CaseIterable {
    /// The server speaks TLS and says no.
    case alert
    /// Another protocol, or a message that breaks the form.
    case malformed
}

/// Recognises the ServerHello that answers a hello of ours, at any split into segments and records (RFC 8446 §4.1.3, §5.1).
///
///     record   16 03 xx len len | payload ...                       one or more
///     message  02 len len len | version random[32] session<1> suite[2] method ...
///
/// Lengths are checked, nothing is verified: a check has no keys to do so. What stands behind the message is not looked at.
package struct ServerHelloRecogniser: Sendable, BitwiseCopyable {
    private enum Step: UInt8, BitwiseCopyable {
        case recordHeader
        case payload
        case ended
    }

    /// The longest message taken, its 4-byte header included. Servers send a hundred bytes, or 1.3 KiB with a post-quantum key.
    package static let byteCountMax = 8192
    /// version, random, an empty session, suite, method.
    private static let bodyByteCountMin = 38
    private static let sessionLengthAt = 38

    private var step = Step.recordHeader
    /// Bytes of the record's header that have come, and its length so far.
    private var headerByteCount = 0
    private var recordRemaining = 0
    /// Bytes of the message that have come, and all of them once its header is known.
    private var messageByteCount = 0
    private var messageLength = 0

    package init() {}

    /// Reads on with the next bytes of the connection. Not to be called again after an answer.
    package mutating func consume(_ bytes: Span<UInt8>) -> ServerHelloProgress {
        precondition(step != .ended, "the hello has been recognised or refused")
        for index in bytes.indices {
            let progress = step == .recordHeader ? readHeader(bytes[index]) : readMessage(bytes[index])
            if progress != .needMore {
                step = .ended
                return progress
            }
        }
        return .needMore
    }

    private mutating func readHeader(_ byte: UInt8) -> ServerHelloProgress {
        defer { headerByteCount += 1 }
        switch headerByteCount {
        case 0:
            if byte == 21 { return .refused(.alert) }
            return byte == 22 ? .needMore : .refused(.malformed)
        case 1: return byte == 3 ? .needMore : .refused(.malformed)
        case 2: return byte <= 4 ? .needMore : .refused(.malformed)
        case 3:
            recordRemaining = Int(byte) << 8
            return .needMore
        default:
            recordRemaining |= Int(byte)
            // RFC 8446 §5.1: handshake fragments are 1...2^14 bytes.
            guard (1...16384).contains(recordRemaining) else { return .refused(.malformed) }
            step = .payload
            return .needMore
        }
    }

    private mutating func readMessage(_ byte: UInt8) -> ServerHelloProgress {
        recordRemaining -= 1
        if recordRemaining == 0 {
            step = .recordHeader
            headerByteCount = 0
        }
        let position = messageByteCount
        messageByteCount += 1
        switch position {
        case 0:
            return byte == 2 ? .needMore : .refused(.malformed)
        case 1, 2:
            messageLength = messageLength << 8 | Int(byte)
            return .needMore
        case 3:
            messageLength = (messageLength << 8 | Int(byte)) + 4
            let isPossible = (Self.bodyByteCountMin + 4...Self.byteCountMax).contains(messageLength)
            return isPossible ? .needMore : .refused(.malformed)
        case 4 where byte != 3, 5 where byte > 3:
            return .refused(.malformed)
        case Self.sessionLengthAt:
            let isPossible = byte <= 32 && messageLength >= Self.bodyByteCountMin + 4 + Int(byte)
            return isPossible ? .needMore : .refused(.malformed)
        default:
            return messageByteCount == messageLength ? .recognised : .needMore
        }
    }
}
