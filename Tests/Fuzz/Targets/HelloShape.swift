import FuzzHarness

/// A ClientHello in parts that can be changed and put together again with right lengths: a change by chance alone breaks a
/// length most of the time, and is refused before anything behind it is read.
struct HelloShape {
    private struct Part {
        var type: [UInt8]
        var body: [UInt8]
    }

    private var version: [UInt8]
    private var random: [UInt8]
    private var session: [UInt8]
    private var suites: [UInt8]
    private var methods: [UInt8]
    private var extensions: [Part] = []
    private var recordLengths: [Int] = []
    private var payload: [UInt8] = []

    /// nil where `wire` does not begin with a hello that is nearly right: what is cut off is taken as far as it goes.
    init?(_ wire: [UInt8]) {
        var message: [UInt8] = []
        var index = 0
        while index + 5 <= wire.count, wire[index] == 22, message.count < 4 || message.count < 4 + Self.length(message)
        {
            let length = Int(wire[index + 3]) << 8 | Int(wire[index + 4])
            let end = min(index + 5 + length, wire.count)
            message += wire[index + 5..<end]
            recordLengths.append(max(1, length))
            index = end
        }
        payload = Array(wire[index...].prefix(64))
        guard message.count >= 39, message[0] == 1 else { return nil }
        var rest = message[4...]
        version = Self.take(2, &rest)
        random = Self.take(32, &rest)
        session = Self.takeVector(1, &rest)
        suites = Self.takeVector(2, &rest)
        methods = Self.takeVector(1, &rest)
        var block = Self.takeVector(2, &rest)[...]
        while !block.isEmpty, extensions.count < 64 {
            extensions.append(Part(type: Self.take(2, &block), body: Self.takeVector(2, &block)))
        }
    }

    var bytes: [UInt8] {
        var body = version + random
        for (field, lengthByteCount) in [(session, 1), (suites, 2), (methods, 1)] {
            body += Self.prefixed(field, lengthByteCount)
        }
        body += Self.prefixed(extensions.flatMap { $0.type + Self.prefixed($0.body, 2) }, 2)
        return Self.records(of: [1] + Self.prefixed(body, 3), lengths: recordLengths) + payload
    }

    /// `message` in records of these lengths; the last length holds for what is left, as far as records go.
    static func records(of message: [UInt8], lengths: [Int]) -> [UInt8] {
        var wire: [UInt8] = []
        wire.reserveCapacity(message.count + 5 * min(message.count, 512))
        var start = 0
        var count = 0
        while start < message.count {
            // Another record more would be refused for their number: all the rest, as far as one holds it.
            let wanted = count < 480 ? lengths.isEmpty ? 16384 : lengths[min(count, lengths.count - 1)] : 16384
            let end = min(message.count, start + min(16384, max(1, wanted)))
            for byte in [22, 3, 1, (end - start) >> 8, (end - start) & 0xff] { wire.append(UInt8(byte)) }
            wire += message[start..<end]
            start = end
            count += 1
        }
        return wire
    }

    static func recordLengths(_ random: inout FuzzRandom) -> [Int] {
        switch random.below(4) {
        case 0: [16384]
        case 1: [1 + random.below(8)]
        default: (0...random.below(6)).map { _ in 1 + random.below(200) }
        }
    }

    // MARK: Changes

    /// The types that are read, and some that are not.
    private static let types: [[UInt8]] = [
        [0, 0], [0, 16], [0xfe, 0x0d], [0, 43], [0, 41], [0, 51], [0, 21], [0x0a, 0x0a], [0, 0], [0, 10], [0, 13],
    ]
    private static let names: [String] = [
        "good.test", "Good.Test.", "a..b", ".", "127.0.0.1", "0x7f.1", "1.2.3.4.", "_dns.good.test",
        "xn--bcher-kva.test",
        "[::1]", "a.b.", "evil\0.test", "*.good.test", "good.test:443", "2130706433", "a.0x", "a.0x1g",
    ]

    mutating func mutate(_ random: inout FuzzRandom) {
        for _ in 0...random.below(3) { change(&random) }
        if extensions.count > 64 { extensions.removeLast(extensions.count - 64) }
    }

    private mutating func change(_ random: inout FuzzRandom) {
        let index = random.below(extensions.count)
        switch random.below(13) {
        case 0 where !extensions.isEmpty:
            extensions[index].body = mutatedBlindly(extensions[index].body, byteCountMax: 512)
        case 1, 2:
            setName(&random)
        case 3 where !extensions.isEmpty:
            extensions.insert(extensions[index], at: random.below(extensions.count + 1))
        case 4 where !extensions.isEmpty:
            extensions.remove(at: index)
        case 5:
            let type = Self.types[random.below(Self.types.count)]
            let body = (0..<random.below(12)).map { _ in random.byte() }
            extensions.insert(Part(type: type, body: body), at: random.below(extensions.count + 1))
        case 6 where !extensions.isEmpty:
            extensions.swapAt(index, random.below(extensions.count))
        case 7, 8:
            recordLengths = Self.recordLengths(&random)
        case 9:
            setProtocols(&random)
        case 10:
            session = (0..<random.below(34)).map { _ in random.byte() }
        case 11:
            suites = mutatedBlindly(suites, byteCountMax: 256)
            if suites.count % 2 == 1, !random.oneIn(8) { suites.append(0) }
        default:
            payload = mutatedBlindly(payload, byteCountMax: 64)
        }
    }

    private mutating func setName(_ random: inout FuzzRandom) {
        let index = extensions.firstIndex { $0.type == [0, 0] } ?? extensions.count
        if index == extensions.count { extensions.append(Part(type: [0, 0], body: [0, 0, 0, 0, 0])) }
        var name = Array(extensions[index].body.dropFirst(5))
        switch random.below(4) {
        case 0: name = Array(Self.names[random.below(Self.names.count)].utf8)
        case 1: name.append(contentsOf: [UInt8](repeating: random.oneIn(9) ? 46 : 97, count: random.below(70)))
        default: name = mutatedBlindly(name, byteCountMax: 300)
        }
        var list = [random.oneIn(16) ? 1 : 0] + Self.prefixed(name, 2)
        if random.oneIn(16) { list += [random.oneIn(2) ? 0 : 2] + Self.prefixed(name, 2) }
        extensions[index].body = Self.prefixed(list, 2)
    }

    private mutating func setProtocols(_ random: inout FuzzRandom) {
        let known: [String] = ["h2", "http/1.1", "acme-tls/1", "\u{1a}\u{1a}", "x"]
        var list: [UInt8] = []
        for _ in 0..<random.below(5) {
            let name =
                random.oneIn(3)
                ? (0..<random.below(200)).map { _ in random.byte() } : Array(known[random.below(5)].utf8)
            list += Self.prefixed(name, 1)
        }
        extensions.append(Part(type: [0, 16], body: Self.prefixed(list, 2)))
    }

    // MARK: Bytes

    private static func length(_ message: [UInt8]) -> Int {
        Int(message[1]) << 16 | Int(message[2]) << 8 | Int(message[3])
    }

    private static func take(_ count: Int, _ bytes: inout ArraySlice<UInt8>) -> [UInt8] {
        defer { bytes = bytes.dropFirst(count) }
        return Array(bytes.prefix(count))
    }

    private static func takeVector(_ lengthByteCount: Int, _ bytes: inout ArraySlice<UInt8>) -> [UInt8] {
        let length = take(lengthByteCount, &bytes).reduce(0) { $0 << 8 | Int($1) }
        return take(length, &bytes)
    }

    private static func prefixed(_ bytes: [UInt8], _ lengthByteCount: Int) -> [UInt8] {
        (0..<lengthByteCount).reversed().map { UInt8(truncatingIfNeeded: bytes.count >> (8 * $0)) } + bytes
    }
}
