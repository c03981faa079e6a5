import FuzzHarness

/// A PROXY header in parts that can be changed and put together again with the right length and checksum.
struct ProxyShape {
    private enum Form {
        /// The words of the line.
        case v1([[UInt8]])
        case v2(command: UInt8, family: UInt8, addresses: [UInt8], tlvs: [(type: UInt8, value: [UInt8])])
    }

    private static let signature: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]

    private var form: Form
    private var payload: [UInt8]

    /// nil for bytes that begin with neither form.
    init?(_ bytes: [UInt8]) {
        if bytes.starts(with: "PROXY ".utf8) {
            let end = bytes.firstIndex(of: 0x0d) ?? bytes.count
            form = .v1(bytes[..<end].split(separator: 0x20, omittingEmptySubsequences: false).map { Array($0) })
            payload = Array(bytes[end...].dropFirst(2).prefix(64))
        } else if bytes.starts(with: Self.signature), bytes.count >= 16 {
            let end = min(bytes.count, 16 + Int(bytes[14]) << 8 + Int(bytes[15]))
            let addressByteCount = [0, 12, 36, 216][Int(bytes[13] >> 4 & 3)]
            var block = bytes[16..<end]
            let addresses = Array(block.prefix(addressByteCount))
            block = block.dropFirst(addressByteCount)
            var tlvs: [(type: UInt8, value: [UInt8])] = []
            while block.count >= 3, tlvs.count < 32 {
                let start = block.startIndex
                let length = Int(block[start + 1]) << 8 + Int(block[start + 2])
                tlvs.append((block[start], Array(block.dropFirst(3).prefix(length))))
                block = block.dropFirst(3 + length)
            }
            form = .v2(command: bytes[12], family: bytes[13], addresses: addresses, tlvs: tlvs)
            payload = Array(bytes[end...].prefix(64))
        } else {
            return nil
        }
    }

    var bytes: [UInt8] {
        switch form {
        case .v1(let words):
            return Array(words.joined(separator: [0x20])) + [0x0d, 0x0a] + payload
        case .v2(let command, let family, let addresses, let tlvs):
            var block = addresses
            var checksumAt: Int?
            for tlv in tlvs {
                block += [tlv.type] + Self.number(tlv.value.count)
                if tlv.type == 3, tlv.value.count == 4 { checksumAt = 16 + block.count }
                block += tlv.value
            }
            var header = Self.signature + [command, family] + Self.number(block.count) + block
            if let place = checksumAt {
                let sum = Self.crc32c(header.count) { (place..<place + 4).contains($0) ? 0 : header[$0] }
                for index in 0..<4 { header[place + index] = UInt8(truncatingIfNeeded: sum >> UInt32(24 - 8 * index)) }
            }
            return header + payload
        }
    }

    mutating func mutate(_ random: inout FuzzRandom) {
        if random.oneIn(16) { payload = mutatedBlindly(payload, byteCountMax: 64) }
        switch form {
        case .v1(var words):
            Self.change(&words, &random)
            form = .v1(words)
        case .v2(var command, var family, var addresses, var tlvs):
            switch random.below(10) {
            case 0: command = random.oneIn(3) ? random.byte() : [0x20, 0x21][random.below(2)]
            case 1:
                family = random.oneIn(3) ? random.byte() : [0, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32][random.below(7)]
                let byteCount = [0, 12, 36, 216][Int(family >> 4 & 3)] + (random.oneIn(8) ? random.below(5) - 2 : 0)
                addresses = Array((addresses + (0..<216).map { _ in random.byte() }).prefix(max(0, byteCount)))
            case 2, 3: addresses = mutatedBlindly(addresses, byteCountMax: 220)
            default: Self.change(&tlvs, &random)
            }
            form = .v2(command: command, family: family, addresses: addresses, tlvs: tlvs)
        }
    }

    private static let words: [String] = [
        "UNKNOWN", "TCP4", "TCP6", "192.0.2.1", "255.255.255.255", "0.0.0.0", "::1", "::ffff:192.0.2.1", "fe80::1%eth0",
        "2001:db8:0:1:2:3:4:5", "01.2.3.4", "65535", "65536", "080", "0", "443", "", "::", "1::2::3", "224.0.0.1",
        "ff02::1",
    ]

    private static func change(_ words: inout [[UInt8]], _ random: inout FuzzRandom) {
        let index = random.below(words.count)
        switch random.below(6) {
        case 0: words.insert(Array(Self.words[random.below(Self.words.count)].utf8), at: index + 1)
        case 1 where words.count > 1: words.remove(at: index)
        case 2, 3: words[index] = Array(Self.words[random.below(Self.words.count)].utf8)
        case 4:
            // A whole line that is right, to start from.
            words = ["PROXY", random.oneIn(2) ? "TCP4" : "TCP6"].map { Array($0.utf8) }
            for _ in 0..<2 { words.append(Array(address(isFour: words[1].last == 0x34, &random).utf8)) }
            for _ in 0..<2 { words.append(Array(String(random.below(65536)).utf8)) }
        default: words[index] = mutatedBlindly(words[index], byteCountMax: 60)
        }
    }

    private static func address(isFour: Bool, _ random: inout FuzzRandom) -> String {
        if isFour { return (0..<4).map { _ in String(random.byte()) }.joined(separator: ".") }
        var groups = (0..<8).map { _ in random.oneIn(3) ? "0" : String(random.below(65536), radix: 16) }
        if random.oneIn(2) { groups.replaceSubrange(2..<5, with: [""]) }
        return groups.joined(separator: ":")
    }

    private static func change(_ tlvs: inout [(type: UInt8, value: [UInt8])], _ random: inout FuzzRandom) {
        let types: [UInt8] = [1, 2, 3, 4, 5, 0x20, 0x21, 0x30, 0xe0, 0xea, 0xf0]
        let index = random.below(tlvs.count)
        switch random.below(7) {
        case 0 where !tlvs.isEmpty: tlvs.remove(at: index)
        case 1 where !tlvs.isEmpty: tlvs.insert(tlvs[index], at: random.below(tlvs.count + 1))
        case 2 where !tlvs.isEmpty: tlvs[index].type = types[random.below(types.count)]
        case 3 where !tlvs.isEmpty: tlvs[index].value = mutatedBlindly(tlvs[index].value, byteCountMax: 300)
        case 4: tlvs.append((3, [0, 0, 0, 0]))
        case 5:
            // The client flags, the verify result, and sub-TLVs of which the last may be cut.
            var value = (0..<5).map { _ in random.byte() }
            for _ in 0..<random.below(4) {
                let count = random.below(6)
                value += [0x21 + UInt8(random.below(8))] + number(count)
                value += (0..<max(0, count - (random.oneIn(6) ? 1 : 0))).map { _ in random.byte() }
            }
            tlvs.append((0x20, value))
        default:
            let type = types[random.below(types.count)]
            let count = random.oneIn(4) ? [0, 128, 129, 255, 256, 33][random.below(6)] : random.below(12)
            tlvs.insert((type, (0..<count).map { _ in random.byte() }), at: random.below(tlvs.count + 1))
        }
    }

    private static func number(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 0xff), UInt8(value & 0xff)] }

    /// CRC32C of `count` bytes, bit by bit: nothing in common with what it checks.
    static func crc32c(_ count: Int, byte: (Int) -> UInt8) -> UInt32 {
        var state: UInt32 = ~0
        for index in 0..<count {
            state ^= UInt32(byte(index))
            for _ in 0..<8 { state = state & 1 == 1 ? state >> 1 ^ 0x82f6_3b78 : state >> 1 }
        }
        return ~state
    }
}
