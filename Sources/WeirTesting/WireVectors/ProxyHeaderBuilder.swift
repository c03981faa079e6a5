/// Builds the bytes of a PROXY header, broken ones included. Its checksum is computed bit by bit, apart from the one it tests.
package struct ProxyHeaderBuilder: Sendable {
    package enum Checksum: Sendable {
        case none
        case right
        case wrong
    }

    package static let signature: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]

    /// Version in the upper half, command in the lower: 0x20 LOCAL, 0x21 PROXY.
    package var versionAndCommand: UInt8 = 0x21
    /// Family in the upper half, transport in the lower: 0x11 TCP over IPv4.
    package var familyAndTransport: UInt8 = 0x11
    package var addresses: [UInt8] = Self.inet
    package var tlvs: [UInt8] = []
    /// Written instead of the right length.
    package var length: UInt16?
    /// Added as the last TLV.
    package var checksum = Checksum.none

    /// 192.0.2.1:56324 to 198.51.100.7:443.
    package static let inet: [UInt8] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb]
    /// [2001:db8::1]:56324 to [2001:db8::2]:443.
    package static let inet6: [UInt8] =
        [0x20, 0x01, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 11) + [1]
        + [0x20, 0x01, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 11) + [2] + [0xdc, 0x04, 0x01, 0xbb]
    /// Two paths of 108 bytes.
    package static let unix: [UInt8] =
        Array("/run/client".utf8) + [UInt8](repeating: 0, count: 97) + Array("/run/server".utf8)
        + [UInt8](repeating: 0, count: 97)

    package init(tlvs: [UInt8] = [], checksum: Checksum = .none) {
        self.tlvs = tlvs
        self.checksum = checksum
    }

    package init(command: UInt8 = 0x21, family: UInt8, addresses: [UInt8], tlvs: [UInt8] = []) {
        versionAndCommand = command
        familyAndTransport = family
        self.addresses = addresses
        self.tlvs = tlvs
    }

    package var bytes: [UInt8] {
        var block = addresses + tlvs
        if checksum != .none { block += Self.tlv(0x03, [0, 0, 0, 0]) }
        var header = Self.signature + [versionAndCommand, familyAndTransport]
        header += HelloBuilder.bytes(of: length ?? UInt16(block.count)) + block
        if checksum != .none {
            var sum = Self.crc32c(header)
            if checksum == .wrong { sum ^= 1 }
            for index in 0..<4 { header[header.count - 4 + index] = UInt8(sum >> UInt32(24 - 8 * index) & 0xff) }
        }
        return header
    }

    package static func tlv(_ type: UInt8, _ value: [UInt8]) -> [UInt8] { [type] + HelloBuilder.prefixed(value) }

    /// PP2_TYPE_SSL with these sub-TLVs.
    package static func ssl(clientFlags: UInt8 = 7, verifyResult: UInt32 = 0, subTLVs: [UInt8] = []) -> [UInt8] {
        let verify = (0..<4).map { UInt8(verifyResult >> UInt32(24 - 8 * $0) & 0xff) }
        return tlv(0x20, [clientFlags] + verify + subTLVs)
    }

    package static func crc32c(_ bytes: [UInt8]) -> UInt32 {
        var state: UInt32 = ~0
        for byte in bytes {
            state ^= UInt32(byte)
            for _ in 0..<8 { state = state & 1 == 1 ? state >> 1 ^ 0x82f6_3b78 : state >> 1 }
        }
        return ~state
    }
}
