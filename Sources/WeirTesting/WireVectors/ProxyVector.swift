import WeirWire

/// The first bytes of a connection from a trusted peer, and what a PROXY header parser must make of them.
package struct ProxyVector: Sendable, CustomStringConvertible {
    package enum Expectation: Sendable, Equatable {
        /// Endpoints as `SocketAddress` writes them; nil where the socket's own endpoints hold.
        case accepted(ProxyHeader.Command, source: String?, destination: String?)
        case refused(ProxyRefusal)
    }

    /// Starts with the ids it stands for.
    package let name: String
    /// Up to the last byte that belongs to the header, or to the byte that decides and beyond.
    package let header: [UInt8]
    /// Bytes behind an accepted header: not looked at.
    package let payload: [UInt8]
    package let byteCountMax: Int
    package let acceptIPv4InTCP6: Bool
    package let expected: Expectation

    package var bytes: [UInt8] { header + payload }
    package var description: String { name }

    package var isAccepted: Bool {
        if case .accepted = expected { return true }
        return false
    }

    package init(
        _ name: String, _ header: [UInt8], payload: [UInt8] = [], byteCountMax: Int = 4096,
        acceptIPv4InTCP6: Bool = false,
        _ expected: Expectation
    ) {
        self.name = name
        self.header = header
        self.payload = payload
        self.byteCountMax = byteCountMax
        self.acceptIPv4InTCP6 = acceptIPv4InTCP6
        self.expected = expected
    }
}

extension ProxyVector {
    /// All of them.
    package static let all: [ProxyVector] =
        first + v1Accepted + v1Refused + v2Accepted + v2Refused + tlvsAccepted + tlvsRefused

    private static let own = Expectation.accepted(.proxy, source: nil, destination: nil)
    private static let local = Expectation.accepted(.local, source: nil, destination: nil)
    private static let inet = Expectation.accepted(.proxy, source: "192.0.2.1:56324", destination: "198.51.100.7:443")
    private static let inet6 = Expectation.accepted(
        .proxy, source: "[2001:db8::1]:56324", destination: "[2001:db8::2]:443")

    private static func line(_ text: String, _ expected: Expectation, _ id: String) -> ProxyVector {
        ProxyVector("\(id) \(text.debugDescription)", Array(text.utf8), expected)
    }

    private static let first: [ProxyVector] = [
        line("GET / HTTP/1.1\r\n", .refused(.missing), "PP-01"),
        line("PRI * HTTP/2.0\r\n", .refused(.missing), "PP-01"),
        line("proxy TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", .refused(.missing), "PP-01 PP-09"),
        line(" PROXY UNKNOWN\r\n", .refused(.missing), "PP-01"),
        line("PROXI", .refused(.missing), "PP-01"),
        ProxyVector("PP-01 TLS hello", HelloBuilder().records(), .refused(.missing)),
        ProxyVector(
            "PP-01 signature with its last byte wrong", Array(ProxyHeaderBuilder.signature.dropLast()) + [0x0b],
            .refused(.missing)),
        ProxyVector("PP-01 empty lines", [0x0d, 0x0a, 0x0d, 0x0a, 0x0d, 0x0a], .refused(.missing)),
    ]

    // MARK: Version 1

    private static let v1Accepted: [ProxyVector] = {
        let payload = HelloBuilder().records()
        let unknown = "PROXY UNKNOWN "
        var vectors = [
            line("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", inet, "PP-02 PP-06"),
            line("PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", inet6, "PP-02 PP-06"),
            line(
                "PROXY TCP4 1.2.3.4 5.6.7.8 65535 0\r\n",
                .accepted(.proxy, source: "1.2.3.4:65535", destination: "5.6.7.8:0"), "PP-06"),
            line(
                "PROXY TCP6 ::ffff:1.2.3.4 ::ffff:5.6.7.8 1 2\r\n",
                .accepted(.proxy, source: "1.2.3.4:1", destination: "5.6.7.8:2"), "PP-06 mapped"),
            line("PROXY UNKNOWN\r\n", own, "PP-07"),
            line("PROXY UNKNOWN \r\n", own, "PP-07"),
            line("PROXY UNKNOWN foo bar 1 2\r\n", own, "PP-07"),
            line("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", own, "PP-07"),
            ProxyVector(
                "PP-07 UNKNOWN with bytes that are no text",
                Array(unknown.utf8) + [0, 0xff, 0x1b, 0x7f] + [0x0d, 0x0a], own),
            ProxyVector(
                "PP-07 107 bytes", Array(unknown.utf8) + [UInt8](repeating: 0x78, count: 107 - 16) + [0x0d, 0x0a], own),
            ProxyVector(
                "PP-03 v1 and payload in one segment", Array("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n".utf8),
                payload: payload, inet),
            ProxyVector(
                "PP-28 second header behind the first", Array("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n".utf8),
                payload: Array("PROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n".utf8), inet),
        ]
        for (text, source, destination) in [
            ("1.2.3.4 5.6.7.8", "1.2.3.4:1", "5.6.7.8:2"), ("1.2.3.4 2001:db8::2", "1.2.3.4:1", "[2001:db8::2]:2"),
        ] {
            vectors.append(
                ProxyVector(
                    "PP-12 TCP6 \(text), option on", Array("PROXY TCP6 \(text) 1 2\r\n".utf8), acceptIPv4InTCP6: true,
                    .accepted(.proxy, source: source, destination: destination)))
        }
        return vectors
    }()

    private static let v1Refused: [ProxyVector] = {
        let unknown = Array("PROXY UNKNOWN ".utf8)
        var vectors = [
            ProxyVector(
                "PP-08 108 bytes", unknown + [UInt8](repeating: 0x78, count: 108 - 16) + [0x0d, 0x0a],
                .refused(.tooLong)),
            ProxyVector("PP-08 no end", unknown + [UInt8](repeating: 0x78, count: 300), .refused(.tooLong)),
            ProxyVector(
                "PP-08 CR as byte 107", unknown + [UInt8](repeating: 0x78, count: 106 - 14) + [0x0d, 0x0a],
                .refused(.tooLong)),
        ]
        for text in [
            "PROXY \n", "PROXY \r\n", "PROXY\r\n", "PROXY SOMETHING\r\n", "PROXYjunk TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXYTCP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY UNKNOWN\n",
            "PROXY UNKNOWN\r",
            "PROXY UNKNOWNX\r\n", "PROXY UNKNOWN a\rb\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r",
            "PROXY TCP 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        ] {
            // A CR alone decides only with the byte behind it.
            vectors.append(line(text.hasSuffix("\r") ? text + "x" : text, .refused(.malformed), "PP-09"))
        }
        for text in [
            "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1  2\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
            "PROXY TCP4\t1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4\t5.6.7.8 1 2\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8\r\n", "PROXY TCP4 1.2.3.4\r\n", "PROXY TCP4 \r\n", "PROXY TCP4\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8  2\r\n",
        ] {
            vectors.append(line(text, .refused(.malformed), "PP-10"))
        }
        for port in ["+80", "080", "0443", "00", "65536", "70000", "99999", "100000", "-1", "0x50", "8O", ""] {
            vectors.append(line("PROXY TCP4 1.2.3.4 5.6.7.8 \(port) 443\r\n", .refused(.malformed), "PP-11"))
            vectors.append(line("PROXY TCP4 1.2.3.4 5.6.7.8 443 \(port)\r\n", .refused(.malformed), "PP-11"))
        }
        for ip in [
            "01.2.3.4", "1.02.3.4", "256.0.0.1", "1.2.3", "1.2.3.4.5", "0x1.2.3.4", "1.2.3.", "16909060", "good.test",
        ] {
            vectors.append(line("PROXY TCP4 \(ip) 5.6.7.8 1 2\r\n", .refused(.malformed), "PP-11"))
            vectors.append(line("PROXY TCP4 5.6.7.8 \(ip) 1 2\r\n", .refused(.malformed), "PP-11"))
        }
        for ip in ["2001:db8::1", "::ffff:1.2.3.4"] {
            vectors.append(line("PROXY TCP4 \(ip) 5.6.7.8 1 2\r\n", .refused(.malformed), "PP-12"))
        }
        vectors.append(line("PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", .refused(.malformed), "PP-12"))
        vectors.append(line("PROXY TCP6 2001:db8::1 5.6.7.8 1 2\r\n", .refused(.malformed), "PP-12"))
        vectors.append(line("PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n", .refused(.malformed), "PP-13"))
        vectors.append(line("PROXY TCP6 2001:db8::1 fe80::1%eth0 1 2\r\n", .refused(.malformed), "PP-13"))
        vectors.append(line("PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2\r\n", .refused(.malformed), "PP-13"))
        for ip in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "239.1.2.3"] {
            vectors.append(line("PROXY TCP4 \(ip) 5.6.7.8 1 2\r\n", .refused(.address), "PP-26"))
            vectors.append(line("PROXY TCP4 5.6.7.8 \(ip) 1 2\r\n", .refused(.address), "PP-26"))
        }
        for ip in ["::", "ff02::1", "::ffff:0.0.0.0", "::ffff:224.0.0.1"] {
            vectors.append(line("PROXY TCP6 \(ip) 2001:db8::1 1 2\r\n", .refused(.address), "PP-26"))
        }
        return vectors
    }()

    // MARK: Version 2

    private static func v2(
        _ name: String, command: UInt8 = 0x21, _ family: UInt8, _ addresses: [UInt8], _ tlvs: [UInt8],
        _ expected: Expectation
    ) -> ProxyVector {
        ProxyVector(
            name, ProxyHeaderBuilder(command: command, family: family, addresses: addresses, tlvs: tlvs).bytes, expected
        )
    }

    private static func v2(
        _ name: String, command: UInt8 = 0x21, _ family: UInt8, _ addresses: [UInt8], _ expected: Expectation
    ) -> ProxyVector {
        v2(name, command: command, family, addresses, [], expected)
    }

    private static let v2Accepted: [ProxyVector] = {
        let tlv = ProxyHeaderBuilder.tlv(0xea, [1] + Array("vpce-08d2bf15fac5001c9".utf8))
        let mapped = [UInt8](repeating: 0, count: 10) + [0xff, 0xff, 1, 2, 3, 4]
        var vectors = [
            v2("PP-02 v2 TCP over IPv4", 0x11, ProxyHeaderBuilder.inet, inet),
            v2("PP-02 v2 TCP over IPv6", 0x21, ProxyHeaderBuilder.inet6, inet6),
            v2(
                "PP-06 v2 mapped IPv4", 0x21, mapped + mapped + [0, 1, 0, 2],
                .accepted(.proxy, source: "1.2.3.4:1", destination: "1.2.3.4:2")),
            ProxyVector(
                "PP-03 v2 and payload in one segment", ProxyHeaderBuilder().bytes, payload: HelloBuilder().records(),
                inet),
            ProxyVector(
                "PP-28 second v2 header behind the first", ProxyHeaderBuilder().bytes,
                payload: ProxyHeaderBuilder().bytes, inet),
            ProxyVector(
                "PP-21 TLV bytes behind the header", ProxyHeaderBuilder().bytes,
                payload: ProxyHeaderBuilder.tlv(2, [1, 2]), inet),
            v2("PP-16 LOCAL, length 0", command: 0x20, 0x00, [], local),
            v2("PP-16 LOCAL with addresses", command: 0x20, 0x11, ProxyHeaderBuilder.inet, local),
            v2("PP-16 LOCAL with addresses and a TLV", command: 0x20, 0x11, ProxyHeaderBuilder.inet, tlv, local),
            v2("PP-16 LOCAL with a TLV and no addresses", command: 0x20, 0x00, tlv, local),
            v2("PP-16 LOCAL with a short address block", command: 0x20, 0x11, [1, 2, 3], local),
            v2(
                "PP-16 LOCAL with an odd address block", command: 0x20, 0x21, [UInt8](repeating: 0xff, count: 37), local
            ),
            v2("PP-16 LOCAL of an undefined family", command: 0x20, 0xff, [1], local),
            v2("PP-17 unspecified, length 0", 0x00, [], own),
            v2("PP-17 unspecified, 12 bytes", 0x00, ProxyHeaderBuilder.inet, own),
            v2("PP-17 unspecified, odd length", 0x00, [1, 2, 3, 4, 5], own),
            v2("PP-18 stream socket of AF_UNIX", 0x31, ProxyHeaderBuilder.unix, own),
            v2("PP-18 datagram socket of AF_UNIX", 0x32, ProxyHeaderBuilder.unix, own),
            v2("PP-18 UDP over IPv4", 0x12, ProxyHeaderBuilder.inet, inet),
            v2("PP-18 UDP over IPv6", 0x22, ProxyHeaderBuilder.inet6, inet6),
            v2(
                "PP-20 length 4096", 0x11, ProxyHeaderBuilder.inet,
                ProxyHeaderBuilder.tlv(4, [UInt8](repeating: 0, count: 4096 - 15)), inet),
            ProxyVector(
                "PP-20 length 65535, limit raised",
                ProxyHeaderBuilder(tlvs: ProxyHeaderBuilder.tlv(4, [UInt8](repeating: 0, count: 65_535 - 15))).bytes,
                byteCountMax: 65_535,
                inet),
        ]
        for transport: UInt8 in 0...2 {
            vectors.append(v2("PP-15 family 0, transport \(transport)", transport, [], own))
            vectors.append(
                v2(
                    "PP-15 family 1, transport \(transport)", 0x10 | transport, ProxyHeaderBuilder.inet,
                    transport == 0 ? own : inet))
            vectors.append(
                v2(
                    "PP-15 family 2, transport \(transport)", 0x20 | transport, ProxyHeaderBuilder.inet6,
                    transport == 0 ? own : inet6))
            vectors.append(v2("PP-15 family 3, transport \(transport)", 0x30 | transport, ProxyHeaderBuilder.unix, own))
        }
        return vectors
    }()

    private static let v2Refused: [ProxyVector] = {
        var vectors: [ProxyVector] = []
        for version: UInt8 in 0...15 where version != 2 {
            vectors.append(
                v2(
                    "PP-14 version \(version)", command: version << 4 | 1, 0x11, ProxyHeaderBuilder.inet,
                    .refused(.version)))
        }
        for command: UInt8 in 2...15 {
            vectors.append(
                v2(
                    "PP-14 command \(command)", command: 0x20 | command, 0x11, ProxyHeaderBuilder.inet,
                    .refused(.command)))
        }
        for family in UInt8.min ... .max where family >> 4 > 3 || family & 15 > 2 {
            vectors.append(v2("PP-15 byte 14 is \(family)", family, ProxyHeaderBuilder.inet, .refused(.family)))
        }
        for (family, count): (UInt8, Int) in [
            (0x11, 11), (0x11, 0), (0x12, 11), (0x10, 4), (0x21, 35), (0x21, 12), (0x31, 215), (0x32, 36),
        ] {
            vectors.append(
                v2(
                    "PP-19 family \(family), \(count) bytes", family, [UInt8](repeating: 1, count: count),
                    .refused(.length)))
        }
        for length: UInt16 in [4097, 5000, 65_535] {
            var builder = ProxyHeaderBuilder()
            builder.length = length
            vectors.append(ProxyVector("PP-20 length \(length)", builder.bytes, .refused(.tooLong)))
            builder.versionAndCommand = 0x20
            vectors.append(ProxyVector("PP-20 LOCAL, length \(length)", builder.bytes, .refused(.tooLong)))
        }
        for bad: [UInt8] in [[0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 1]] {
            let rest = Array(ProxyHeaderBuilder.inet.dropFirst(8))
            vectors.append(v2("PP-26 v2 source \(bad)", 0x11, bad + [1, 2, 3, 4] + rest, .refused(.address)))
            vectors.append(v2("PP-26 v2 destination \(bad)", 0x11, [1, 2, 3, 4] + bad + rest, .refused(.address)))
        }
        vectors.append(
            v2(
                "PP-26 v2 source ::", 0x21, [UInt8](repeating: 0, count: 16) + ProxyHeaderBuilder.inet6.dropFirst(16),
                .refused(.address)))
        return vectors
    }()

    // MARK: TLVs

    private static func tlvs(
        _ name: String, _ tlvs: [UInt8], checksum: ProxyHeaderBuilder.Checksum = .none, _ expected: Expectation
    ) -> ProxyVector {
        ProxyVector(name, ProxyHeaderBuilder(tlvs: tlvs, checksum: checksum).bytes, expected)
    }

    private static func run(_ count: Int) -> [UInt8] { [UInt8](repeating: 0x61, count: count) }

    /// One TLV of every type that the specification names, and of some that it does not.
    package static let everyTLV: [UInt8] = {
        let tlv = ProxyHeaderBuilder.tlv
        var sub: [UInt8] = []
        for type: UInt8 in 0x21...0x28 { sub += tlv(type, Array("sub-TLV \(type)".utf8)) }
        return tlv(0x01, Array("h2".utf8)) + tlv(0x02, Array("Good.test".utf8)) + tlv(0x04, run(3))
            + tlv(0x05, Array("unique".utf8)) + ProxyHeaderBuilder.ssl(clientFlags: 5, verifyResult: 18, subTLVs: sub)
            + tlv(0x30, Array("blue".utf8)) + tlv(0xe0, [1]) + tlv(0xea, [1] + Array("vpce-08d2bf15fac5001c9".utf8))
            + tlv(0xf0, []) + tlv(0x99, run(7))
    }()

    private static let tlvsAccepted: [ProxyVector] = {
        let tlv = ProxyHeaderBuilder.tlv
        return [
            tlvs("PP-22 right checksum alone", [], checksum: .right, inet),
            tlvs("PP-22 PP-23 right checksum over every TLV", everyTLV, checksum: .right, inet),
            tlvs("PP-23 every TLV, no checksum", everyTLV, inet),
            tlvs("PP-23 authority of 1", tlv(2, run(1)), inet),
            tlvs("PP-23 authority of 255", tlv(2, run(255)), inet),
            tlvs("PP-23 unique id of 0", tlv(5, []), inet),
            tlvs("PP-23 unique id of 128", tlv(5, run(128)), inet),
            tlvs("PP-23 NOOP of 0", tlv(4, []), inet),
            tlvs("PP-23 three NOOPs", tlv(4, []) + tlv(4, run(1)) + tlv(4, run(40)), inet),
            tlvs("PP-23 SSL without sub-TLVs", ProxyHeaderBuilder.ssl(), inet),
            tlvs("PP-23 SSL with an empty sub-TLV", ProxyHeaderBuilder.ssl(subTLVs: tlv(0x21, [])), inet),
            tlvs("PP-23 a TLV of 2000", tlv(0xe1, run(2000)), inet),
            tlvs("PP-23 AWS TLV without subtype", tlv(0xea, []), inet),
            tlvs("PP-24 two authorities", tlv(2, Array("first.test".utf8)) + tlv(2, Array("second.test".utf8)), inet),
            v2("PP-23 authority behind AF_UNIX", 0x31, ProxyHeaderBuilder.unix, tlv(2, run(9)), own),
        ]
    }()

    private static let tlvsRefused: [ProxyVector] = {
        let tlv = ProxyHeaderBuilder.tlv
        let refused = Expectation.refused(.tlv)
        let checksum = Expectation.refused(.checksum)
        return [
            tlvs("PP-21 one stray byte", [4], refused),
            tlvs("PP-21 two stray bytes", [4, 0], refused),
            tlvs("PP-21 stray byte behind a TLV", tlv(4, run(3)) + [4], refused),
            tlvs("PP-21 TLV one byte past the header", [4, 0, 1], refused),
            tlvs("PP-21 TLV far past the header", [0xe0, 0xff, 0xff, 1, 2, 3], refused),
            tlvs("PP-22 wrong checksum", [], checksum: .wrong, checksum),
            tlvs("PP-22 wrong checksum over every TLV", everyTLV, checksum: .wrong, checksum),
            tlvs("PP-22 checksum of 3 bytes", tlv(3, [0, 0, 0]), checksum),
            tlvs("PP-22 checksum of 5 bytes", tlv(3, [0, 0, 0, 0, 0]), checksum),
            tlvs("PP-22 checksum of 0 bytes", tlv(3, []), checksum),
            tlvs("PP-22 two checksums", tlv(3, [0, 0, 0, 0]), checksum: .right, checksum),
            tlvs("PP-23 authority of 0", tlv(2, []), refused),
            tlvs("PP-23 authority of 256", tlv(2, run(256)), refused),
            tlvs("PP-23 authority of 300", tlv(2, run(300)), refused),
            tlvs("PP-24 second authority of 256", tlv(2, run(1)) + tlv(2, run(256)), refused),
            tlvs("PP-23 unique id of 129", tlv(5, run(129)), refused),
            tlvs("PP-23 ALPN of 256", tlv(1, run(256)), refused),
            tlvs("PP-23 SSL of 4 bytes", tlv(0x20, run(4)), refused),
            tlvs("PP-23 SSL of 0 bytes", tlv(0x20, []), refused),
            tlvs("PP-23 stray byte in SSL", ProxyHeaderBuilder.ssl(subTLVs: [0x21]), refused),
            tlvs(
                "PP-23 sub-TLV one byte past SSL", ProxyHeaderBuilder.ssl(subTLVs: [0x21, 0, 2, 1]) + tlv(4, run(9)),
                refused),
            tlvs("PP-23 sub-TLV far past SSL", ProxyHeaderBuilder.ssl(subTLVs: [0x22, 0xff, 0xff]), refused),
        ]
    }()
}
