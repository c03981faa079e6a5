package enum HTTPStatusProgress: Sendable, BitwiseCopyable, Equatable {
    case needMore
    /// 200...599.
    case complete(status: Int)
    /// Not HTTP/1, or more than the limit before an answer.
    case refused
}

/// Finds the status of the response to a GET of ours, at any split (RFC 9112 §4).
///
///     HTTP/1.x SP 3DIGIT [ SP reason ] CRLF
///
/// Complete with the end of that line. An interim response (1xx, RFC 9110 §15.2) is passed over with all of its head; 101
/// is refused, as nothing was to be upgraded. A LF may stand without its CR, as RFC 9112 §2.2 lets a recipient take it.
package struct HTTPStatusParser: Sendable, BitwiseCopyable {
    private enum Step: UInt8, BitwiseCopyable {
        case version
        case digits
        case reason
        /// In the head of an interim response.
        case interim
        case ended
    }

    private let byteCountMax: Int
    private var byteCount = 0
    private var step = Step.version
    /// Bytes of the version, digits of the status, or bytes of the interim head's line (CR not counted) so far.
    private var position = 0
    private var status = 0

    /// `byteCountMax`: what may come before the answer, interim responses included.
    package init(byteCountMax: Int = 8192) { self.byteCountMax = byteCountMax }

    /// Reads on with the next bytes of the connection. Not to be called again after an answer.
    package mutating func consume(_ bytes: Span<UInt8>) -> HTTPStatusProgress {
        precondition(step != .ended, "the status has been answered")
        for index in bytes.indices {
            var progress = read(bytes[index])
            byteCount += 1
            if progress == .needMore, byteCount >= byteCountMax { progress = .refused }
            if progress != .needMore {
                step = .ended
                return progress
            }
        }
        return .needMore
    }

    private mutating func read(_ byte: UInt8) -> HTTPStatusProgress {
        switch step {
        case .version: return readVersion(byte)
        case .digits: return readDigit(byte)
        case .reason: return readReason(byte)
        case .interim: return readInterim(byte)
        case .ended: preconditionFailure("no byte is read in this step")
        }
    }

    private mutating func readVersion(_ byte: UInt8) -> HTTPStatusProgress {
        let version: InlineArray<9, UInt8> = [
            UInt8(ascii: "H"), UInt8(ascii: "T"), UInt8(ascii: "T"), UInt8(ascii: "P"), UInt8(ascii: "/"),
            UInt8(ascii: "1"), UInt8(ascii: "."), UInt8(ascii: "1"), UInt8(ascii: " "),
        ]
        let isMinorVersion = position == 7
        guard byte == version[position] || isMinorVersion && byte == UInt8(ascii: "0") else { return .refused }
        position += 1
        if position == version.count { begin(.digits) }
        return .needMore
    }

    private mutating func readDigit(_ byte: UInt8) -> HTTPStatusProgress {
        if position < 3 {
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return .refused }
            status = status * 10 + Int(byte - UInt8(ascii: "0"))
            position += 1
            if position == 3, !(100...599).contains(status) || status == 101 { return .refused }
            return .needMore
        }
        switch byte {
        case UInt8(ascii: " "):
            begin(.reason)
            return .needMore
        // Many servers leave out the blank before an empty reason.
        case UInt8(ascii: "\r"), UInt8(ascii: "\n"):
            begin(.reason)
            return readReason(byte)
        default:
            return .refused
        }
    }

    private mutating func readReason(_ byte: UInt8) -> HTTPStatusProgress {
        guard byte == UInt8(ascii: "\n") else { return .needMore }
        guard status < 200 else { return .complete(status: status) }
        begin(.interim)
        return .needMore
    }

    private mutating func readInterim(_ byte: UInt8) -> HTTPStatusProgress {
        if byte == UInt8(ascii: "\n") {
            begin(position == 0 ? .version : .interim)
        } else if byte != UInt8(ascii: "\r") {
            position += 1
        }
        return .needMore
    }

    private mutating func begin(_ next: Step) {
        step = next
        position = 0
        if next == .version { status = 0 }
    }
}
