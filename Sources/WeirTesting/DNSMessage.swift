/// The question of a DNS query, as far as a test server needs it (RFC 1035 §4).
struct DNSQuery: Equatable {
    var id: UInt16
    /// Lower case, without trailing dot.
    var name: String
    var type: UInt16
    /// The UDP payload size of the OPT record (RFC 6891); nil without one.
    var payloadByteCount: UInt16?
    /// The question section as it came: copied into the reply, so that 0x20 spellings survive.
    var questionBytes: [UInt8]

    /// nil where `message` is not a query with exactly one question.
    init?(_ message: [UInt8]) {
        var reader = DNSReader(bytes: message)
        guard let id = reader.word(), let flags = reader.word(), flags & 0xf800 == 0,
            let questionCount = reader.word(), questionCount == 1,
            let answerCount = reader.word(), let authorityCount = reader.word(), let additionalCount = reader.word(),
            answerCount == 0, authorityCount == 0
        else { return nil }
        let start = reader.position
        guard let name = reader.name(), let type = reader.word(), reader.word() == 1 else { return nil }
        self.id = id
        self.name = name
        self.type = type
        questionBytes = Array(message[start..<reader.position])
        for _ in 0..<additionalCount {
            guard reader.name() != nil, let kind = reader.word(), let size = reader.word(), reader.skip(4),
                let byteCount = reader.word(), reader.skip(Int(byteCount))
            else { return nil }
            if kind == 41 { payloadByteCount = size }
        }
    }
}

/// Reads big-endian fields; every read is checked against the end.
private struct DNSReader {
    let bytes: [UInt8]
    private(set) var position = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func byte() -> UInt8? {
        guard position < bytes.count else { return nil }
        defer { position += 1 }
        return bytes[position]
    }

    mutating func word() -> UInt16? {
        guard let high = byte(), let low = byte() else { return nil }
        return UInt16(high) << 8 | UInt16(low)
    }

    mutating func skip(_ count: Int) -> Bool {
        guard count <= bytes.count - position else { return false }
        position += count
        return true
    }

    /// A name without compression: a query has nothing to point back to.
    mutating func name() -> String? {
        var labels: [String] = []
        while let length = byte() {
            if length == 0 { return labels.joined(separator: ".") }
            guard length < 64, Int(length) <= bytes.count - position else { return nil }
            labels.append(String(decoding: bytes[position..<position + Int(length)], as: UTF8.self).lowercased())
            position += Int(length)
        }
        return nil
    }
}

/// Builds a reply, field by field.
struct DNSReply {
    enum Code: UInt16 {
        case noError = 0
        case serverFailure = 2
        case noSuchName = 3
        case refused = 5
    }

    private(set) var bytes: [UInt8] = []
    private var answerCount: UInt16 = 0

    init(to query: DNSQuery, id: UInt16? = nil, code: Code = .noError, isTruncated: Bool = false) {
        append(word: id ?? query.id)
        // A response, recursion desired and available.
        append(word: 0x8180 | (isTruncated ? 0x0200 : 0) | code.rawValue)
        append(word: 1)
        for _ in 0..<3 { append(word: 0) }
        bytes += query.questionBytes
    }

    mutating func append(word: UInt16) {
        bytes.append(UInt8(truncatingIfNeeded: word >> 8))
        bytes.append(UInt8(truncatingIfNeeded: word))
    }

    /// Appends one answer. `owner` and any name in `data` are written in full.
    mutating func appendAnswer(owner: String, type: UInt16, ttl: UInt32, data: [UInt8]) {
        bytes += Self.encoded(name: owner)
        appendAnswerTail(type: type, ttl: ttl, declaredByteCount: UInt16(data.count), data: data)
    }

    /// Appends one answer whose owner is a compression pointer, and whose length need not be true.
    mutating func appendAnswer(pointer: UInt16, type: UInt16, ttl: UInt32, declaredByteCount: UInt16, data: [UInt8]) {
        append(word: 0xc000 | pointer)
        appendAnswerTail(type: type, ttl: ttl, declaredByteCount: declaredByteCount, data: data)
    }

    private mutating func appendAnswerTail(type: UInt16, ttl: UInt32, declaredByteCount: UInt16, data: [UInt8]) {
        append(word: type)
        append(word: 1)
        append(word: UInt16(truncatingIfNeeded: ttl >> 16))
        append(word: UInt16(truncatingIfNeeded: ttl))
        append(word: declaredByteCount)
        bytes += data
        answerCount += 1
        bytes[6] = UInt8(truncatingIfNeeded: answerCount >> 8)
        bytes[7] = UInt8(truncatingIfNeeded: answerCount)
    }

    static func encoded(name: String) -> [UInt8] {
        var bytes: [UInt8] = []
        for label in name.split(separator: ".") {
            precondition(label.utf8.count < 64, "a label of more than 63 bytes")
            bytes.append(UInt8(label.utf8.count))
            bytes += Array(label.utf8)
        }
        bytes.append(0)
        return bytes
    }
}
