import WeirNet

/// Writes the ClientHello of a health check: what an ordinary client of TLS 1.2 and 1.3 would send (RFC 8446 §4.1.2), so
/// that servers answer it as they answer clients. The handshake ends with the answer, so no key belongs to it.
package enum CheckHello {
    /// Room for a hello with the longest name.
    package static let byteCountMax = 512

    /// Writes one record to the start of `output`, which has room for `byteCountMax`, and returns its length. Without a
    /// name (`.none`) it has no server_name. `seed` fills the random, the session id and the key share.
    package static func write(serverName: ServerName, seed: UInt64, into output: inout MutableSpan<UInt8>) -> Int {
        var writer = HelloWriter(state: seed)
        writer.put(0x16, into: &output)
        writer.put16(0x0301, into: &output)
        writer.list(lengthBytes: 2, &output) { writer, output in
            writer.put(0x01, into: &output)
            writer.list(lengthBytes: 3, &output) { writer, output in
                writer.put16(0x0303, into: &output)
                writer.putRandom(32, into: &output)
                // Not empty, for middleboxes (RFC 8446 §D.4).
                writer.list(lengthBytes: 1, &output) { writer, output in writer.putRandom(32, into: &output) }
                writer.list(lengthBytes: 2, &output) { writer, output in
                    writer.put(suites, into: &output)
                }
                writer.list(lengthBytes: 1, &output) { writer, output in writer.put(0, into: &output) }
                writer.list(lengthBytes: 2, &output) { writer, output in
                    writer.putExtensions(serverName, into: &output)
                }
            }
        }
        return writer.byteCount
    }

    /// TLS 1.3's three; ECDHE with AEAD, ECDHE with CBC and RSA for old servers; no renegotiation (RFC 5746 §3.3).
    fileprivate static let suites: InlineArray<14, UInt16> = [
        0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x002f, 0x00ff,
    ]
    /// x25519, secp256r1, secp384r1.
    fileprivate static let groups: InlineArray<3, UInt16> = [0x001d, 0x0017, 0x0018]
    /// ECDSA, RSA-PSS and PKCS#1 with SHA-256, -384 and -512; Ed25519.
    fileprivate static let signatures: InlineArray<10, UInt16> = [
        0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0603, 0x0806, 0x0601, 0x0807,
    ]
    fileprivate static let versions: InlineArray<2, UInt16> = [0x0304, 0x0303]
}

/// Appends to a span; lengths are written once what they count stands there.
private struct HelloWriter {
    private(set) var byteCount = 0
    /// Of SplitMix64.
    private var state: UInt64

    init(state: UInt64) { self.state = state }

    mutating func put(_ byte: UInt8, into output: inout MutableSpan<UInt8>) {
        output[byteCount] = byte
        byteCount += 1
    }

    mutating func put16(_ value: UInt16, into output: inout MutableSpan<UInt8>) {
        put(UInt8(value >> 8), into: &output)
        put(UInt8(value & 0xff), into: &output)
    }

    mutating func put<let count: Int>(_ values: InlineArray<count, UInt16>, into output: inout MutableSpan<UInt8>) {
        for index in values.indices { put16(values[index], into: &output) }
    }

    mutating func putRandom(_ count: Int, into output: inout MutableSpan<UInt8>) {
        for _ in 0..<count {
            state &+= 0x9e37_79b9_7f4a_7c15
            var word = state
            word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
            word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
            put(UInt8(truncatingIfNeeded: word ^ word >> 31), into: &output)
        }
    }

    /// What `body` writes, behind its length.
    mutating func list(
        lengthBytes: Int, _ output: inout MutableSpan<UInt8>,
        _ body: (inout HelloWriter, inout MutableSpan<UInt8>) -> Void
    ) {
        let start = byteCount
        for _ in 0..<lengthBytes { put(0, into: &output) }
        body(&self, &output)
        let length = byteCount - start - lengthBytes
        for index in 0..<lengthBytes {
            output[start + index] = UInt8(truncatingIfNeeded: length >> (8 * (lengthBytes - 1 - index)))
        }
    }

    private mutating func putExtension(
        _ type: UInt16, _ output: inout MutableSpan<UInt8>,
        _ body: (inout HelloWriter, inout MutableSpan<UInt8>) -> Void
    ) {
        put16(type, into: &output)
        list(lengthBytes: 2, &output, body)
    }

    mutating func putExtensions(_ serverName: ServerName, into output: inout MutableSpan<UInt8>) {
        if !serverName.isNone {
            putExtension(0, &output) { writer, output in
                writer.list(lengthBytes: 2, &output) { writer, output in
                    writer.put(0, into: &output)
                    writer.list(lengthBytes: 2, &output) { writer, output in
                        for index in 0..<serverName.byteCount { writer.put(serverName[index], into: &output) }
                    }
                }
            }
        }
        // extended_master_secret; ec_point_formats: uncompressed.
        putExtension(23, &output) { _, _ in }
        putExtension(11, &output) { writer, output in
            writer.list(lengthBytes: 1, &output) { writer, output in writer.put(0, into: &output) }
        }
        putExtension(10, &output) { writer, output in
            writer.list(lengthBytes: 2, &output) { writer, output in writer.put(CheckHello.groups, into: &output) }
        }
        putExtension(13, &output) { writer, output in
            writer.list(lengthBytes: 2, &output) { writer, output in writer.put(CheckHello.signatures, into: &output) }
        }
        putExtension(43, &output) { writer, output in
            writer.list(lengthBytes: 1, &output) { writer, output in writer.put(CheckHello.versions, into: &output) }
        }
        // psk_key_exchange_modes: psk_dhe_ke. Some servers ask for it with a key share.
        putExtension(45, &output) { writer, output in
            writer.list(lengthBytes: 1, &output) { writer, output in writer.put(1, into: &output) }
        }
        // Any 32 bytes are a public key of x25519 (RFC 7748 §5); random ones are not of small order.
        putExtension(51, &output) { writer, output in
            writer.list(lengthBytes: 2, &output) { writer, output in
                writer.put16(CheckHello.groups[0], into: &output)
                writer.list(lengthBytes: 2, &output) { writer, output in writer.putRandom(32, into: &output) }
            }
        }
    }
}
