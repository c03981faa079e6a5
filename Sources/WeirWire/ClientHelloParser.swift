import WeirNet

package enum ClientHelloProgress: Sendable, BitwiseCopyable {
    case needMore
    case complete(ClientHello)
    case refused(HelloRefusal)
}

/// Reads a ClientHello as it arrives: any split into segments, any split into records (RFC 8446 §5.1).
///
/// Every byte is looked at once and none is kept but the name and the protocols. A refusal comes with the first byte
/// that makes the hello impossible; acceptance only with its last, after every nested length has been checked.
///
///     record   16 03 xx len len | payload ...                       one or more
///     message  01 len len len | version random[32] session<1> suites<2> methods<1> extensions<2>
///     server_name  0000 len len | list<2>: 00 name<2>
///
/// A second ClientHello, after HelloRetryRequest or in a renegotiation, is payload and never read (RFC 8446 §4.1.2).
package struct ClientHelloParser: Sendable, BitwiseCopyable {
    /// Enough for a plain hello in one-byte records; more is an attack on whoever reassembles.
    package static let recordCountMax = 512

    /// The most wire bytes a hello of `byteCountMax` handshake bytes can take.
    package static func wireByteCountMax(byteCountMax: Int) -> Int { byteCountMax + 5 * recordCountMax }

    /// The field that is read next, or the body whose bytes come next.
    private enum Step: UInt8, BitwiseCopyable {
        case messageType
        case messageLength
        case version
        case sessionIDLength
        case cipherSuitesLength
        case compressionMethodsLength
        case extensionsLength
        case extensionHeader
        case serverNameListLength
        case serverNameHeader
        case serverName
        case secondNameType
        case alpnListLength
        case alpnNameLength
        case alpnName
        /// Nothing is left but bytes to skip.
        case messageEnd
        /// The answer has been given.
        case ended
    }

    private let byteCountMax: Int
    private var wireByteCount = 0

    // The record layer.
    private var headerByteCount: UInt8 = 0
    private var mayBeSSLv2 = false
    private var recordCount: UInt16 = 0
    private var recordLength: UInt16 = 0
    private var recordRemaining = 0

    // The message: skipCount <= messageRemaining <= byteCountMax.
    private var step = Step.messageType
    /// Bytes still to collect into `field`, most significant first.
    private var fieldRemaining: UInt8 = 1
    private var field: UInt32 = 0
    /// Bytes to pass over before `step`.
    private var skipCount = 0
    /// Bytes of the message that have not been read; of its 4-byte header while that is read.
    private var messageRemaining = 4
    /// Bytes of the list in the current extension that have not been read.
    private var listRemaining = 0
    /// Bytes of the current name that have not been read.
    private var nameRemaining = 0

    // What was found.
    private var legacyVersion: UInt16 = 0
    private var sawServerName = false
    private var sawECH = false
    private var sawALPN = false
    private var alpnIsValid = true
    private var alpnIsTruncated = false
    private var rawNameByteCount: UInt8 = 0
    private var alpnByteCount: UInt16 = 0
    /// 253 bytes of name and one trailing dot.
    private var rawName = InlineArray<254, UInt8>(repeating: 0)
    private var alpn = InlineArray<256, UInt8>(repeating: 0)
    private var serverName = ServerName.none

    /// `byteCountMax`: the longest message taken, its 4-byte header included.
    package init(byteCountMax: Int) {
        self.byteCountMax = byteCountMax
    }

    /// Reads on with the next bytes of the connection.
    ///
    /// On `.complete` the hello ends at byte `ClientHello.wireByteCount` of the connection; the rest of `bytes` is payload
    /// that has not been looked at. Not to be called again after `.complete` or `.refused`.
    package mutating func consume(_ bytes: Span<UInt8>) -> ClientHelloProgress {
        precondition(step != .ended, "the hello has been answered")
        var index = 0
        while index < bytes.count {
            var refusal: HelloRefusal?
            if recordRemaining == 0 {
                refusal = readRecordHeader(bytes[index])
                index += 1
            } else {
                let start = index
                refusal = readMessage(bytes, from: &index, to: index + min(recordRemaining, bytes.count - index))
                recordRemaining -= index - start
            }
            if let refusal {
                step = .ended
                return .refused(refusal)
            }
            if messageRemaining == 0 {
                step = .ended
                wireByteCount += index
                return .complete(hello())
            }
        }
        wireByteCount += bytes.count
        return .needMore
    }

    // MARK: Record layer

    private mutating func readRecordHeader(_ byte: UInt8) -> HelloRefusal? {
        let isFirst = recordCount == 0
        defer { headerByteCount = headerByteCount == 4 ? 0 : headerByteCount + 1 }
        switch headerByteCount {
        case 0:
            if byte == 22 { return nil }
            guard isFirst else { return .interleavedRecord }
            // SSLv2 framing sets the top bit of a two-byte length; its third byte is the message type.
            mayBeSSLv2 = byte & 0x80 != 0
            return mayBeSSLv2 ? nil : .notTLS
        case 1:
            if mayBeSSLv2 || byte == 3 { return nil }
            return isFirst ? .notTLS : .recordVersion
        case 2:
            // RFC 8446 §5.1: the minor version MUST be ignored.
            if mayBeSSLv2 { return byte == 1 ? .sslv2 : .notTLS }
            return nil
        case 3:
            recordLength = UInt16(byte) << 8
            return nil
        default:
            recordLength |= UInt16(byte)
            guard recordLength > 0 else { return .emptyRecord }
            guard recordLength <= 16384 else { return .recordOverflow }
            guard Int(recordCount) < Self.recordCountMax else { return .tooManyRecords }
            recordCount += 1
            recordRemaining = Int(recordLength)
            return nil
        }
    }

    // MARK: Message

    /// Reads `bytes[index..<end]`, all within one record. Stops behind the last byte of the message.
    private mutating func readMessage(_ bytes: Span<UInt8>, from index: inout Int, to end: Int) -> HelloRefusal? {
        while index < end, messageRemaining > 0 {
            if skipCount > 0 {
                let count = min(skipCount, end - index)
                skipCount -= count
                messageRemaining -= count
                index += count
                continue
            }
            var refusal: HelloRefusal?
            switch step {
            case .serverName:
                refusal = readServerName(bytes, from: &index, to: end)
            case .alpnName:
                readALPNName(bytes, from: &index, to: end)
            default:
                field = field << 8 | UInt32(bytes[index])
                index += 1
                messageRemaining -= 1
                fieldRemaining -= 1
                if fieldRemaining == 0 { refusal = fieldWasRead() }
            }
            if let refusal { return refusal }
        }
        return nil
    }

    private mutating func read(_ next: Step, byteCount: UInt8, skipping count: Int = 0) {
        step = next
        field = 0
        fieldRemaining = byteCount
        skipCount = count
    }

    /// Each case checks that what must follow fits into `messageRemaining`, so a field is never cut by the end.
    private mutating func fieldWasRead() -> HelloRefusal? {
        let value = Int(field)
        switch step {
        case .messageType:
            guard value == 1 else { return .notClientHello }
            read(.messageLength, byteCount: 3)
        case .messageLength:
            guard value + 4 <= byteCountMax else { return .helloTooLarge }
            // version 2, random 32, empty session id 1, one suite 2 + 2, one method 1 + 1.
            guard value >= 41 else { return .messageLength }
            messageRemaining = value
            read(.version, byteCount: 2)
        case .version:
            legacyVersion = UInt16(truncatingIfNeeded: field)
            read(.sessionIDLength, byteCount: 1, skipping: 32)
        case .sessionIDLength:
            guard value <= 32, messageRemaining >= value + 6 else { return .sessionIDLength }
            read(.cipherSuitesLength, byteCount: 2, skipping: value)
        case .cipherSuitesLength:
            guard value > 0, value % 2 == 0, messageRemaining >= value + 2 else { return .cipherSuitesLength }
            read(.compressionMethodsLength, byteCount: 1, skipping: value)
        case .compressionMethodsLength:
            guard value > 0, messageRemaining >= value else { return .compressionMethodsLength }
            if messageRemaining == value {
                // SSL 3.0 and TLS 1.0 clients may end here (RFC 5246 §7.4.1.2).
                read(.messageEnd, byteCount: 0, skipping: value)
                return nil
            }
            guard messageRemaining >= value + 2 else { return .extensionsLength }
            read(.extensionsLength, byteCount: 2, skipping: value)
        case .extensionsLength:
            guard value == messageRemaining, value == 0 || value >= 4 else { return .extensionsLength }
            read(.extensionHeader, byteCount: 4)
        case .extensionHeader:
            return extensionBegins(type: field >> 16, byteCount: value & 0xffff)
        case .serverNameListLength:
            guard value == listRemaining - 2, value >= 3 else { return .serverNameLength }
            listRemaining = value
            read(.serverNameHeader, byteCount: 3)
        case .serverNameHeader:
            guard value >> 16 == 0 else { return .unknownNameType }
            nameRemaining = value & 0xffff
            listRemaining -= 3
            guard nameRemaining > 0 else { return .serverNameLength }
            guard nameRemaining <= rawName.count else { return .serverNameTooLong }
            guard nameRemaining <= listRemaining else { return .serverNameLength }
            listRemaining -= nameRemaining
            step = .serverName
        case .secondNameType:
            return value == 0 ? .multipleHostNames : .unknownNameType
        case .alpnListLength:
            guard value == listRemaining - 2, value > 0 else {
                return alpnIsInvalid(bodyRemaining: listRemaining - 2)
            }
            listRemaining = value
            read(.alpnNameLength, byteCount: 1)
        case .alpnNameLength:
            listRemaining -= 1
            guard value > 0, value <= listRemaining else { return alpnIsInvalid(bodyRemaining: listRemaining) }
            alpnNameBegins(byteCount: value)
        case .serverName, .alpnName, .messageEnd, .ended:
            preconditionFailure("no field is collected in this step")
        }
        return nil
    }

    private mutating func extensionBegins(type: UInt32, byteCount: Int) -> HelloRefusal? {
        guard byteCount <= messageRemaining else { return .extensionsLength }
        let behind = messageRemaining - byteCount
        guard behind == 0 || behind >= 4 else { return .extensionsLength }
        switch type {
        case 0:
            guard !sawServerName else { return .duplicateServerName }
            sawServerName = true
            // The list length 2, and one entry of type 1, length 2 and at least one byte.
            guard byteCount >= 2 else { return .serverNameLength }
            listRemaining = byteCount
            read(.serverNameListLength, byteCount: 2)
        case 16:
            if sawALPN || byteCount < 2 { return alpnIsInvalid(bodyRemaining: byteCount) }
            sawALPN = true
            listRemaining = byteCount
            read(.alpnListLength, byteCount: 2)
        default:
            if type == 0xfe0d { sawECH = true }
            extensionEnds(skipping: byteCount)
        }
        return nil
    }

    private mutating func extensionEnds(skipping count: Int = 0) {
        if messageRemaining == count {
            read(.messageEnd, byteCount: 0, skipping: count)
        } else {
            read(.extensionHeader, byteCount: 4, skipping: count)
        }
    }

    // MARK: server_name

    private mutating func readServerName(_ bytes: Span<UInt8>, from index: inout Int, to end: Int) -> HelloRefusal? {
        let count = min(nameRemaining, end - index)
        for offset in 0..<count { rawName[Int(rawNameByteCount) + offset] = bytes[index + offset] }
        rawNameByteCount += UInt8(count)
        nameRemaining -= count
        messageRemaining -= count
        index += count
        guard nameRemaining == 0 else { return nil }
        guard listRemaining == 0 else {
            read(.secondNameType, byteCount: 1)
            return nil
        }
        do throws(ServerName.Refusal) {
            serverName = try ServerName(canonicalizing: rawName.span.extracting(first: Int(rawNameByteCount)))
        } catch {
            return HelloRefusal(error)
        }
        extensionEnds()
        return nil
    }

    // MARK: ALPN

    /// RFC 7301 §3.1 violations leave the hello routable without ALPN: the TLS server behind us decides on them.
    private mutating func alpnIsInvalid(bodyRemaining: Int) -> HelloRefusal? {
        sawALPN = true
        alpnIsValid = false
        extensionEnds(skipping: bodyRemaining)
        return nil
    }

    private mutating func alpnNameBegins(byteCount: Int) {
        listRemaining -= byteCount
        guard Int(alpnByteCount) + 1 + byteCount <= alpn.count else {
            alpnIsTruncated = true
            alpnNameEnds(skipping: byteCount)
            return
        }
        alpn[Int(alpnByteCount)] = UInt8(byteCount)
        alpnByteCount += 1
        nameRemaining = byteCount
        step = .alpnName
    }

    private mutating func readALPNName(_ bytes: Span<UInt8>, from index: inout Int, to end: Int) {
        let count = min(nameRemaining, end - index)
        for offset in 0..<count { alpn[Int(alpnByteCount) + offset] = bytes[index + offset] }
        alpnByteCount += UInt16(count)
        nameRemaining -= count
        messageRemaining -= count
        index += count
        if nameRemaining == 0 { alpnNameEnds() }
    }

    private mutating func alpnNameEnds(skipping count: Int = 0) {
        if listRemaining == 0 {
            extensionEnds(skipping: count)
        } else {
            read(.alpnNameLength, byteCount: 1, skipping: count)
        }
    }

    // MARK: Result

    private func hello() -> ClientHello {
        ClientHello(
            serverName: serverName,
            spelling: ServerNameSpelling(rawName.span.extracting(first: Int(rawNameByteCount))),
            alpn: offer(),
            sawECH: sawECH,
            legacyVersion: legacyVersion,
            recordCount: Int(recordCount),
            wireByteCount: wireByteCount)
    }

    private func offer() -> ALPNOffer {
        guard alpnIsValid else { return .none }
        var offer = ALPNOffer()
        let names = alpn.span
        var index = 0
        while index < Int(alpnByteCount) {
            let count = Int(names[index])
            let name = names.extracting(index + 1..<index + 1 + count)
            if !Self.isGREASE(name) { offer.append(name) }
            index += 1 + count
        }
        if alpnIsTruncated { offer.markTruncated() }
        return offer
    }

    /// RFC 8701 §2: 0A0A, 1A1A ... FAFA.
    private static func isGREASE(_ name: Span<UInt8>) -> Bool {
        name.count == 2 && name[0] == name[1] && name[0] & 0x0f == 0x0a
    }
}
