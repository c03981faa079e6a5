import WeirNet

package enum HTTPRequestHeadProgress: Sendable, BitwiseCopyable {
    case needMore
    case complete(HTTPRequestHead)
    case refused(HTTPRefusal)
}

/// Finds the host of the first HTTP/1 request on a connection (RFC 9112 §2...§5), at any split, strictly: what two readers
/// could read differently is refused. Later requests on the connection are payload.
///
///     method SP target SP HTTP/1.x CRLF  ( name ":" value CRLF ) ...  CRLF
///
/// The host is that of `Host`, of which there is exactly one. A target in absolute form names a host too; RFC 9112 §3.2.2
/// lets it win, so we ask that both agree. Only a client of HTTP/1.0 may leave `Host` out, and then needs such a target.
package struct HTTPRequestHeadParser: Sendable, BitwiseCopyable {
    private enum Step: UInt8, BitwiseCopyable {
        case method
        case targetStart
        /// Behind `*`.
        case targetEnd
        case scheme
        case schemeSlashes
        case authority
        case path
        case version
        case requestLineLF
        case lineStart
        case name
        case value
        case valueLF
        case headLF
        case ended
    }

    private let byteCountMax: Int
    private var byteCount = 0
    private var step = Step.method
    /// Bytes of the method, scheme, version or header name so far.
    private var tokenByteCount = 0
    /// The method is `CONNECT` so far; the scheme `http`; the header name `host`.
    private var tokenMatches = true
    private var isHTTP10 = false

    private var isHost = false
    private var sawHost = false
    /// Whitespace after the first byte of the host: nothing but the end of the line may follow.
    private var hostHasEnded = false
    /// Host and port as sent, from the target or the header: 254 bytes, a colon and five digits.
    private var authority = InlineArray<260, UInt8>(repeating: 0)
    private var authorityByteCount = 0

    private var host = ServerName.none
    private var port: UInt16?

    /// `byteCountMax`: the longest head taken, its last CRLF included.
    package init(byteCountMax: Int = 16384) {
        self.byteCountMax = byteCountMax
    }

    /// Reads on with the next bytes of the connection.
    ///
    /// On `.complete` the head ends at byte `HTTPRequestHead.byteCount` of the connection; the rest of `bytes` is payload that
    /// has not been looked at. Not to be called again after `.complete` or `.refused`.
    package mutating func consume(_ bytes: Span<UInt8>) -> HTTPRequestHeadProgress {
        precondition(step != .ended, "the head has been answered")
        for index in bytes.indices {
            var refusal = read(bytes[index])
            byteCount += 1
            if refusal == nil {
                if step == .ended { return .complete(HTTPRequestHead(host: host, port: port, byteCount: byteCount)) }
                if byteCount >= byteCountMax { refusal = .headTooLarge }
            }
            if let refusal {
                step = .ended
                return .refused(refusal)
            }
        }
        return .needMore
    }

    private mutating func read(_ byte: UInt8) -> HTTPRefusal? {
        switch step {
        case .method: return readMethod(byte)
        case .targetStart: return readTargetStart(byte)
        case .targetEnd: return byte == UInt8(ascii: " ") ? targetEnds() : .requestLine
        case .scheme: return readScheme(byte)
        case .schemeSlashes: return readSchemeSlashes(byte)
        case .authority: return readAuthority(byte)
        case .path: return readPath(byte)
        case .version: return readVersion(byte)
        case .requestLineLF: return readLF(byte)
        case .lineStart: return readLineStart(byte)
        case .name: return readName(byte)
        case .value: return readValue(byte)
        case .valueLF: return readLF(byte)
        case .headLF: return byte == UInt8(ascii: "\n") ? headEnds() : .lineEnd
        case .ended: preconditionFailure("no byte is read in this step")
        }
    }

    private mutating func begin(_ next: Step) -> HTTPRefusal? {
        step = next
        tokenByteCount = 0
        tokenMatches = true
        return nil
    }

    // MARK: Request line

    private mutating func readMethod(_ byte: UInt8) -> HTTPRefusal? {
        if byte == UInt8(ascii: " ") {
            guard tokenByteCount > 0 else { return .requestLine }
            if tokenMatches, tokenByteCount == 7 { return .connectMethod }
            return begin(.targetStart)
        }
        guard Self.isTokenByte(byte) else { return .requestLine }
        let connect: InlineArray<7, UInt8> = [
            UInt8(ascii: "C"), UInt8(ascii: "O"), UInt8(ascii: "N"), UInt8(ascii: "N"), UInt8(ascii: "E"),
            UInt8(ascii: "C"), UInt8(ascii: "T"),
        ]
        tokenMatches = tokenMatches && tokenByteCount < connect.count && byte == connect[tokenByteCount]
        tokenByteCount += 1
        return nil
    }

    private mutating func readTargetStart(_ byte: UInt8) -> HTTPRefusal? {
        switch byte {
        case UInt8(ascii: "/"):
            return begin(.path)
        case UInt8(ascii: "*"):
            return begin(.targetEnd)
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"):
            _ = begin(.scheme)
            return readScheme(byte)
        default:
            return .requestLine
        }
    }

    private mutating func readScheme(_ byte: UInt8) -> HTTPRefusal? {
        let http: InlineArray<4, UInt8> = [UInt8(ascii: "h"), UInt8(ascii: "t"), UInt8(ascii: "t"), UInt8(ascii: "p")]
        switch byte {
        case UInt8(ascii: ":"):
            guard tokenMatches, tokenByteCount == http.count else { return .scheme }
            return begin(.schemeSlashes)
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."):
            tokenMatches = tokenMatches && tokenByteCount < http.count && byte | 0x20 == http[tokenByteCount]
            tokenByteCount += 1
            return nil
        default:
            return .requestLine
        }
    }

    private mutating func readSchemeSlashes(_ byte: UInt8) -> HTTPRefusal? {
        guard byte == UInt8(ascii: "/") else { return .requestLine }
        tokenByteCount += 1
        return tokenByteCount == 2 ? begin(.authority) : nil
    }

    private mutating func readAuthority(_ byte: UInt8) -> HTTPRefusal? {
        switch byte {
        case UInt8(ascii: "/"), UInt8(ascii: "?"):
            return authorityEnds() ?? begin(.path)
        case UInt8(ascii: " "):
            return authorityEnds() ?? targetEnds()
        case 0...0x20, 0x7f:
            return .requestLine
        default:
            return keep(byte)
        }
    }

    private mutating func readPath(_ byte: UInt8) -> HTTPRefusal? {
        switch byte {
        case UInt8(ascii: " "): targetEnds()
        // Bytes of 0x80 and above are against RFC 3986 but common, and no host is read from here.
        case 0...0x1f, 0x7f: .requestLine
        default: nil
        }
    }

    private mutating func targetEnds() -> HTTPRefusal? { begin(.version) }

    private mutating func readVersion(_ byte: UInt8) -> HTTPRefusal? {
        let isDigit = byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
        let name: InlineArray<5, UInt8> = [
            UInt8(ascii: "H"), UInt8(ascii: "T"), UInt8(ascii: "T"), UInt8(ascii: "P"), UInt8(ascii: "/"),
        ]
        switch tokenByteCount {
        case 0..<5:
            guard byte == name[tokenByteCount] else { return .requestLine }
        case 5:
            guard isDigit else { return .requestLine }
            guard byte == UInt8(ascii: "1") else { return .version }
        case 6:
            guard byte == UInt8(ascii: ".") else { return .requestLine }
        case 7:
            guard isDigit else { return .requestLine }
            guard byte <= UInt8(ascii: "1") else { return .version }
            isHTTP10 = byte == UInt8(ascii: "0")
        default:
            if byte == UInt8(ascii: "\n") { return .lineEnd }
            guard byte == UInt8(ascii: "\r") else { return .requestLine }
            return begin(.requestLineLF)
        }
        tokenByteCount += 1
        return nil
    }

    // MARK: Header lines

    private mutating func readLF(_ byte: UInt8) -> HTTPRefusal? {
        guard byte == UInt8(ascii: "\n") else { return .lineEnd }
        return begin(.lineStart)
    }

    private mutating func readLineStart(_ byte: UInt8) -> HTTPRefusal? {
        switch byte {
        case UInt8(ascii: "\r"):
            return begin(.headLF)
        case UInt8(ascii: "\n"):
            return .lineEnd
        case UInt8(ascii: " "), UInt8(ascii: "\t"):
            return .foldedLine
        default:
            _ = begin(.name)
            return readName(byte)
        }
    }

    private mutating func readName(_ byte: UInt8) -> HTTPRefusal? {
        let name: InlineArray<4, UInt8> = [UInt8(ascii: "h"), UInt8(ascii: "o"), UInt8(ascii: "s"), UInt8(ascii: "t")]
        if byte == UInt8(ascii: ":") {
            guard tokenByteCount > 0 else { return .headerLine }
            isHost = tokenMatches && tokenByteCount == name.count
            if isHost {
                guard !sawHost else { return .hostDuplicate }
                sawHost = true
                hostHasEnded = false
                authorityByteCount = 0
            }
            return begin(.value)
        }
        // RFC 9112 §5.1: no whitespace between name and colon.
        guard Self.isTokenByte(byte) else { return .headerLine }
        tokenMatches = tokenMatches && tokenByteCount < name.count && byte | 0x20 == name[tokenByteCount]
        tokenByteCount += 1
        return nil
    }

    private mutating func readValue(_ byte: UInt8) -> HTTPRefusal? {
        switch byte {
        case UInt8(ascii: "\r"):
            if isHost, let refusal = hostEnds() { return refusal }
            return begin(.valueLF)
        case UInt8(ascii: "\n"):
            return .lineEnd
        case UInt8(ascii: " "), UInt8(ascii: "\t"):
            hostHasEnded = isHost && authorityByteCount > 0
            return nil
        case 0...0x1f, 0x7f:
            return .headerLine
        default:
            guard isHost else { return nil }
            return hostHasEnded ? .hostMalformed : keep(byte)
        }
    }

    private mutating func headEnds() -> HTTPRefusal? {
        guard sawHost || isHTTP10 && !host.isNone else { return .hostMissing }
        step = .ended
        return nil
    }

    // MARK: Host

    private mutating func keep(_ byte: UInt8) -> HTTPRefusal? {
        guard authorityByteCount < authority.count else { return .hostMalformed }
        authority[authorityByteCount] = byte
        authorityByteCount += 1
        return nil
    }

    /// The authority of an absolute-form target has been read.
    private mutating func authorityEnds() -> HTTPRefusal? {
        var sentPort: UInt16?
        let refusal = Self.split(authority.span.extracting(first: authorityByteCount), &host, &sentPort)
        port = sentPort
        return refusal
    }

    private mutating func hostEnds() -> HTTPRefusal? {
        var sentHost = ServerName.none
        var sentPort: UInt16?
        let refusal = Self.split(authority.span.extracting(first: authorityByteCount), &sentHost, &sentPort)
        if let refusal { return refusal }
        if !host.isNone {
            guard sentHost == host, sentPort ?? 80 == port ?? 80 else { return .hostMismatch }
        } else {
            host = sentHost
            port = sentPort
        }
        return nil
    }

    /// `host` or `host:port`.
    private static func split(_ text: Span<UInt8>, _ host: inout ServerName, _ port: inout UInt16?) -> HTTPRefusal? {
        guard text.count > 0 else { return .hostMissing }
        if text[0] == UInt8(ascii: "[") { return .addressLiteral }
        var end = 0
        while end < text.count, text[end] != UInt8(ascii: ":") { end += 1 }
        do throws(ServerName.Refusal) {
            host = try ServerName(canonicalizing: text.extracting(first: end))
        } catch {
            if error == .addressLiteral || IPAddress(ascii: text) != nil { return .addressLiteral }
            return .hostMalformed
        }
        if end < text.count {
            // An IPv6 address without brackets looks like a host with a port.
            if IPAddress(ascii: text) != nil { return .addressLiteral }
            guard let number = Self.port(text.extracting(end + 1..<text.count)) else { return .port }
            port = number
        }
        return nil
    }

    private static func port(_ text: Span<UInt8>) -> UInt16? {
        guard text.count >= 1, text.count <= 5, text[0] != UInt8(ascii: "0") else { return nil }
        var value = 0
        for index in text.indices {
            let byte = text[index]
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
            value = value * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return UInt16(exactly: value)
    }

    /// RFC 9110 §5.6.2.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "!"), UInt8(ascii: "#")...UInt8(ascii: "'"),
            UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
            UInt8(ascii: "^")...UInt8(ascii: "`"),
            UInt8(ascii: "|"), UInt8(ascii: "~"):
            true
        default:
            false
        }
    }
}
