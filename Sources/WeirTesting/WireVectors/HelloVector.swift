import WeirWire

/// The first bytes of a connection, and what a ClientHello parser must make of them.
package struct HelloVector: Sendable, CustomStringConvertible {
    package enum Expectation: Sendable, Equatable {
        /// `serverName`: canonical, nil for none. `asSent`: the same with the client's letter case and trailing dot.
        case accepted(serverName: String?, asSent: String, alpn: [String] = [], sawECH: Bool = false)
        case refused(HelloRefusal)
    }

    /// Starts with the ids it stands for.
    package let name: String
    /// Up to the last byte that belongs to the hello, or to the byte that decides and beyond.
    package let hello: [UInt8]
    /// Bytes behind an accepted hello: not looked at.
    package let payload: [UInt8]
    package let byteCountMax: Int
    package let expected: Expectation

    package var bytes: [UInt8] { hello + payload }
    package var description: String { name }

    package init(
        _ name: String, _ hello: [UInt8], payload: [UInt8] = [], byteCountMax: Int = 16384, _ expected: Expectation
    ) {
        self.name = name
        self.hello = hello
        self.payload = payload
        self.byteCountMax = byteCountMax
        self.expected = expected
    }

    package var isAccepted: Bool {
        if case .accepted = expected { return true }
        return false
    }
}

extension HelloVector {
    private typealias Extension = HelloBuilder.Extension

    /// All of them.
    package static let all: [HelloVector] = wellFormed + captured + recordLayer + structure + serverName + protocols

    private static func good(_ name: String = "good.test", alpn: [String] = [], sawECH: Bool = false) -> Expectation {
        .accepted(serverName: name, asSent: name, alpn: alpn, sawECH: sawECH)
    }

    private static let noName = Expectation.accepted(serverName: nil, asSent: "")

    /// A hello whose only deviation is its server_name extension, between two others.
    private static func hello(serverNameBody body: [UInt8]) -> [UInt8] {
        HelloBuilder(extensions: [
            Extension(type: 23, body: []), Extension(type: 0, body: body), Extension(type: 43, body: [2, 3, 4]),
        ]).records()
    }

    private static func hello(name: [UInt8]) -> [UInt8] {
        HelloBuilder(extensions: [.serverName(bytes: name), Extension(type: 43, body: [2, 3, 4])]).records()
    }

    private static func hello(name: String) -> [UInt8] { hello(name: Array(name.utf8)) }

    private static func hello(alpnBody body: [UInt8]) -> [UInt8] {
        HelloBuilder(extensions: [
            .serverName("good.test"), Extension(type: 16, body: body), Extension(type: 43, body: [2, 3, 4]),
        ]).records()
    }

    // MARK: Hellos that clients send

    private static let wellFormed: [HelloVector] = {
        let plain = HelloBuilder()
        let postQuantum = HelloBuilder(extensions: [
            .postQuantumKeyShare, Extension(type: 43, body: [2, 3, 4]), .serverName("good.test"),
            .alpn(["h2", "http/1.1"]),
        ])
        let others = [Extension(type: 10, body: [0, 2, 0, 0x1d]), Extension(type: 21, body: [0, 0, 0])]
        let grease = HelloBuilder(extensions: [
            Extension(type: 0x0a0a, body: []), .serverName("good.test"),
            .alpn(bytes: [[0x1a, 0x1a], Array("h2".utf8)]), Extension(type: 0xbeef, body: [1, 2, 3]),
            Extension(type: 0xfafa, body: [0]),
        ])
        var vectors = [
            HelloVector("CH-01 plain", plain.records(), good()),
            HelloVector(
                "CH-02 post-quantum key share before the name", postQuantum.records(), good(alpn: ["h2", "http/1.1"])),
            HelloVector(
                "CH-03 name first", HelloBuilder(extensions: [.serverName("good.test")] + others).records(), good()),
            HelloVector(
                "CH-03 name between",
                HelloBuilder(extensions: [others[0], .serverName("good.test"), others[1]]).records(),
                good()),
            HelloVector(
                "CH-03 name last, behind padding",
                HelloBuilder(extensions: others + [.serverName("good.test")]).records(),
                good()),
            HelloVector("CH-12 no extension block", HelloBuilder(extensions: nil).records(), noName),
            HelloVector("CH-12 empty extension block", HelloBuilder(extensions: []).records(), noName),
            HelloVector("CH-14 no server name", HelloBuilder(serverName: nil).records(), noName),
            HelloVector("CH-24 GREASE and unknown extensions", grease.records(), good(alpn: ["h2"])),
            HelloVector(
                "CH-25 encrypted_client_hello",
                HelloBuilder(extensions: [.encryptedClientHello, .serverName("outer.test")]).records(),
                good("outer.test", sawECH: true)),
            HelloVector(
                "CH-26 second hello behind the first", plain.records(),
                payload: HelloBuilder(serverName: "evil.test").records(),
                good()),
            HelloVector(
                "CH-27 change_cipher_spec and early data behind the hello", plain.records(),
                payload: [20, 3, 3, 0, 1, 1] + HelloBuilder.record([UInt8](repeating: 0xee, count: 40), type: 23),
                good()),
            HelloVector(
                "CH-27 more bytes in the record of the hello",
                HelloBuilder.record(plain.message, length: UInt16(plain.message.count + 3)), payload: [1, 2, 3], good()),
            HelloVector("CH-28 12 KB", plain.padded(toMessageByteCount: 12_288).records(), good()),
            HelloVector("CH-28 4 KB with a ticket", sessionTicket(byteCount: 4096), good()),
            HelloVector(
                "CH-10 20 KB in two records, limit raised",
                plain.padded(toMessageByteCount: 20_480).records(splitAt: [16_000]), byteCountMax: 65536, good()),
            HelloVector("CH-10 exactly the limit", plain.padded(toMessageByteCount: 16_384).records(), good()),
        ]
        for version: UInt16 in [0x0300, 0x0301, 0x0303, 0x0304, 0x03ff] {
            vectors.append(
                HelloVector(
                    "CH-05 record version \(String(version, radix: 16))", plain.records(version: version), good()))
        }
        for version: UInt16 in [0x0300, 0x0305, 0x0000, 0xffff] {
            var builder = HelloBuilder(extensions: [.serverName("good.test")])
            builder.legacyVersion = version
            vectors.append(
                HelloVector(
                    "CH-29 legacy version \(String(version, radix: 16)), no supported_versions", builder.records(),
                    good()))
        }
        return vectors
    }()

    private static func sessionTicket(byteCount: Int) -> [UInt8] {
        HelloBuilder(extensions: [
            Extension(type: 35, body: [UInt8](repeating: 0x33, count: byteCount)), .serverName("good.test"),
        ]).records()
    }

    private static let captured: [HelloVector] = CapturedHello.allCases.map { hello in
        HelloVector(
            "CH-02 CH-03 CH-24 captured: \(hello)", hello.bytes, good(alpn: hello.alpn, sawECH: hello.sawECH))
    }

    // MARK: Records

    private static let recordLayer: [HelloVector] = {
        let plain = HelloBuilder()
        let message = plain.message
        let small = HelloBuilder(extensions: [.serverName("good.test")])
        let nameOffset = message.firstRange(of: Array("good.test".utf8))!.lowerBound
        let zeroes = [UInt8](repeating: 0, count: 64)
        var vectors = [
            HelloVector("CH-04 two records, split in the name", plain.records(splitAt: [nameOffset + 4]), good()),
            HelloVector("CH-04 two records, split after 20 bytes", plain.records(splitAt: [20]), good()),
            HelloVector("CH-04 header split over four records", plain.records(splitAt: [1, 2, 3]), good()),
            HelloVector("CH-04 one-byte records", small.records(splitAt: Array(1..<small.message.count)), good()),
            HelloVector(
                "CH-04 512 records", plain.padded(toMessageByteCount: 512).records(splitAt: Array(1..<512)), good()),
            HelloVector(
                "CH-04 513 records", plain.padded(toMessageByteCount: 513).records(splitAt: Array(1..<513)),
                .refused(.tooManyRecords)),
            HelloVector("CH-06 HTTP", Array("GET / HTTP/1.1\r\nHost: good.test\r\n\r\n".utf8), .refused(.notTLS)),
            HelloVector("CH-06 SSH", Array("SSH-2.0-OpenSSH_9.2\r\n".utf8), .refused(.notTLS)),
            HelloVector("CH-06 application data", [0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5], .refused(.notTLS)),
            HelloVector("CH-06 zeros", zeroes, .refused(.notTLS)),
            HelloVector("CH-06 record major version 4", [0x16, 4, 0x10, 0, 4], .refused(.notTLS)),
            HelloVector("CH-31 DTLS 1.2", [0x16, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0], .refused(.notTLS)),
            HelloVector("CH-31 DTLS 1.0", [0x16, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0], .refused(.notTLS)),
            HelloVector(
                "PP-28 PROXY header where TLS is expected", Array("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".utf8),
                .refused(.notTLS)),
            HelloVector("CH-33 Postgres SSLRequest", [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f], .refused(.notTLS)),
            HelloVector("CH-30 SSLv2", [0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10] + zeroes, .refused(.sslv2)),
            HelloVector(
                "CH-30 SSLv2 framing of a TLS hello", [0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10] + zeroes,
                .refused(.sslv2)),
            HelloVector("CH-30 SSLv2, more than 255 bytes", [0x81, 0x2c, 1, 0, 2, 0, 0x99] + zeroes, .refused(.sslv2)),
            HelloVector("CH-06 top bit set, but no SSLv2 hello", [0x80, 0x2e, 4, 0, 1] + zeroes, .refused(.notTLS)),
            HelloVector(
                "CH-07 zero-length record first", HelloBuilder.record([]) + plain.records(), .refused(.emptyRecord)),
            HelloVector(
                "CH-07 zero-length record between",
                HelloBuilder.record(Array(message[..<50])) + HelloBuilder.record([])
                    + HelloBuilder.record(Array(message[50...])),
                .refused(.emptyRecord)),
            HelloVector(
                "CH-07 record of 16385", HelloBuilder.record(message, length: 16_385), .refused(.recordOverflow)),
            HelloVector(
                "CH-07 record of 65535", HelloBuilder.record(message, length: 65_535), .refused(.recordOverflow)),
            HelloVector(
                "CH-06 later record with major version 4",
                HelloBuilder.record(Array(message[..<50]))
                    + HelloBuilder.record(Array(message[50...]), version: 0x0401),
                .refused(.recordVersion)),
        ]
        for (type, name): (UInt8, String) in [
            (20, "change_cipher_spec"), (21, "alert"), (23, "application data"), (24, "heartbeat"),
        ] {
            vectors.append(
                HelloVector(
                    "CH-08 \(name) between the records",
                    HelloBuilder.record(Array(message[..<50])) + HelloBuilder.record([1], type: type)
                        + HelloBuilder.record(Array(message[50...])),
                    .refused(.interleavedRecord)))
        }
        return vectors
    }()

    // MARK: Nested lengths

    private static let structure: [HelloVector] = {
        var vectors: [HelloVector] = []
        func add(_ name: String, _ refusal: HelloRefusal, _ change: (inout HelloBuilder) -> Void) {
            var builder = HelloBuilder()
            change(&builder)
            vectors.append(HelloVector(name, builder.records(), .refused(refusal)))
        }
        let plain = HelloBuilder()
        add("CH-09 message type 0", .notClientHello) { $0.messageType = 0 }
        add("CH-09 message type 2", .notClientHello) { $0.messageType = 2 }
        vectors.append(
            HelloVector(
                "CH-10 one byte above the limit", plain.padded(toMessageByteCount: 16_385).records(splitAt: [16_000]),
                .refused(.helloTooLarge)))
        vectors.append(
            HelloVector(
                "CH-10 20 KB in two records, name first",
                plain.padded(toMessageByteCount: 20_480).records(splitAt: [16_000]),
                .refused(.helloTooLarge)))
        add("CH-10 16 MB announced", .helloTooLarge) { $0.messageLength = 0xff_ffff }
        add("CH-11 message length 0", .messageLength) { $0.messageLength = 0 }
        add("CH-11 message length 40", .messageLength) { $0.messageLength = 40 }
        add("CH-11 message length shorter than its contents", .extensionsLength) {
            $0.messageLength = $0.message.count - 5
        }
        add("CH-11 message length longer than its contents", .extensionsLength) {
            $0.messageLength = $0.message.count - 3
        }
        add("CH-11 message length ends in the cipher suites", .cipherSuitesLength) { $0.messageLength = 75 }
        add("CH-11 message length ends in the session id", .sessionIDLength) { $0.messageLength = 60 }
        add("CH-11 message length ends in the extensions length", .extensionsLength) {
            $0.messageLength = 2 + 32 + 33 + 14 + 2 + 1
        }
        add("CH-11 session id of 33", .sessionIDLength) { $0.sessionID = [UInt8](repeating: 1, count: 33) }
        add("CH-11 session id length 255", .sessionIDLength) { $0.sessionIDLength = 255 }
        add("CH-11 cipher suites length odd", .cipherSuitesLength) { $0.cipherSuitesLength = 11 }
        add("CH-11 cipher suites length 0", .cipherSuitesLength) { $0.cipherSuites = [] }
        add("CH-11 cipher suites past the end", .cipherSuitesLength) { $0.cipherSuitesLength = 0x7ffe }
        add("CH-11 compression methods length 0", .compressionMethodsLength) { $0.compressionMethods = [] }
        add("CH-11 compression methods past the end", .compressionMethodsLength) { $0.compressionMethodsLength = 255 }
        add("CH-11 extensions length short of the end", .extensionsLength) { $0.extensionsLength = 20 }
        add("CH-11 extensions length past the end", .extensionsLength) { $0.extensionsLength = 2000 }
        add("CH-11 extensions length 0 before extensions", .extensionsLength) { $0.extensionsLength = 0 }
        let name = Extension.serverName("good.test")
        let nameBytes = HelloBuilder.bytes(of: 0) + HelloBuilder.prefixed(name.body)
        for count in 1...3 {
            add("CH-13 \(count) bytes behind the last extension", .extensionsLength) {
                $0.extensionBlock = nameBytes + [UInt8](repeating: 0, count: count)
            }
        }
        add("CH-13 block of one byte", .extensionsLength) { $0.extensionBlock = [0] }
        add("CH-13 extension header cut", .extensionsLength) { $0.extensionBlock = [0, 43, 0] }
        add("CH-13 extension past the block, name first", .extensionsLength) {
            $0.extensionBlock = nameBytes + [0, 43, 0, 9, 2, 3, 4]
        }
        return vectors
    }()

    // MARK: server_name

    private static let serverName: [HelloVector] = {
        let good = Array("good.test".utf8)
        let evil = Array("evil.test".utf8)
        func duplicate(_ first: [UInt8], _ second: [UInt8]) -> [UInt8] {
            HelloBuilder(extensions: [
                .serverName(bytes: first), Extension(type: 43, body: [2, 3, 4]), .serverName(bytes: second),
            ]).records()
        }
        func names(_ entries: [(type: UInt8, name: [UInt8])]) -> [UInt8] {
            HelloBuilder(extensions: [.serverNames(entries), Extension(type: 43, body: [2, 3, 4])]).records()
        }
        let label63 = String(repeating: "a", count: 63)
        let name253 = "\(label63).\(label63).\(label63)." + String(repeating: "b", count: 61)
        var vectors = [
            HelloVector("CH-15 duplicate extension, good first", duplicate(good, evil), .refused(.duplicateServerName)),
            HelloVector(
                "CH-15 duplicate extension, good second", duplicate(evil, good), .refused(.duplicateServerName)),
            HelloVector(
                "CH-16 two host names, good first", names([(0, good), (0, evil)]), .refused(.multipleHostNames)),
            HelloVector(
                "CH-16 two host names, good second", names([(0, evil), (0, good)]), .refused(.multipleHostNames)),
            HelloVector("CH-16 unknown type, then good", names([(7, [1, 2]), (0, good)]), .refused(.unknownNameType)),
            HelloVector("CH-16 good, then unknown type", names([(0, good), (7, [1, 2])]), .refused(.unknownNameType)),
            HelloVector("CH-16 unknown type alone", names([(255, good)]), .refused(.unknownNameType)),
            HelloVector("CH-17 empty extension body", hello(serverNameBody: []), .refused(.serverNameLength)),
            HelloVector("CH-17 half a list length", hello(serverNameBody: [0]), .refused(.serverNameLength)),
            HelloVector("CH-17 empty list", hello(serverNameBody: [0, 0]), .refused(.serverNameLength)),
            HelloVector("CH-17 list of two bytes", hello(serverNameBody: [0, 2, 0, 0]), .refused(.serverNameLength)),
            HelloVector("CH-17 empty name", hello(serverNameBody: [0, 3, 0, 0, 0]), .refused(.serverNameLength)),
            HelloVector(
                "CH-17 list shorter than the extension", hello(serverNameBody: [0, 12, 0, 0, 9] + good + [0]),
                .refused(.serverNameLength)),
            HelloVector(
                "CH-17 list longer than the extension", hello(serverNameBody: [0, 13, 0, 0, 9] + good),
                .refused(.serverNameLength)),
            HelloVector(
                "CH-17 name longer than the list", hello(serverNameBody: [0, 12, 0, 0, 10] + good),
                .refused(.serverNameLength)),
            HelloVector(
                "CH-17 zero bytes behind the name", hello(serverNameBody: [0, 14, 0, 0, 9] + good + [0, 0]),
                .refused(.multipleHostNames)),
            HelloVector(
                "CH-18 upper case", hello(name: "GOOD.TEST"), .accepted(serverName: "good.test", asSent: "GOOD.TEST")),
            HelloVector(
                "CH-18 mixed case", hello(name: "gOOd.Test"), .accepted(serverName: "good.test", asSent: "gOOd.Test")),
            HelloVector(
                "CH-19 trailing dot", hello(name: "good.test."),
                .accepted(serverName: "good.test", asSent: "good.test.")),
            HelloVector(
                "CH-19 trailing dot and upper case", hello(name: "Good.test."),
                .accepted(serverName: "good.test", asSent: "Good.test.")),
            HelloVector("CH-19 two trailing dots", hello(name: "a.."), .refused(.serverNameEmptyLabel)),
            HelloVector("CH-19 a dot", hello(name: "."), .refused(.serverNameEmptyLabel)),
            HelloVector("CH-19 leading dot", hello(name: ".good.test"), .refused(.serverNameEmptyLabel)),
            HelloVector("CH-19 empty label", hello(name: "good..test"), .refused(.serverNameEmptyLabel)),
            HelloVector("CH-20 underscore", hello(name: "_dmarc.good_name.test"), Self.good("_dmarc.good_name.test")),
            HelloVector("CH-20 digits first", hello(name: "3com.4chan.1x"), Self.good("3com.4chan.1x")),
            HelloVector("CH-20 A-label", hello(name: "xn--bcher-kva.test"), Self.good("xn--bcher-kva.test")),
            HelloVector("CH-20 U-label", hello(name: "bücher.test"), .refused(.serverNameForbiddenByte)),
            HelloVector(
                "CH-22 NUL between two names", hello(name: "good.test\0.evil.test"), .refused(.serverNameForbiddenByte)),
            HelloVector("CH-22 ANSI escape", hello(name: "\u{1b}[31mgood.test"), .refused(.serverNameForbiddenByte)),
            HelloVector("CH-22 wildcard", hello(name: "*.good.test"), .refused(.serverNameForbiddenByte)),
            HelloVector("CH-23 253 bytes", hello(name: name253), Self.good(name253)),
            HelloVector(
                "CH-23 253 bytes and a dot", hello(name: name253 + "."),
                .accepted(serverName: name253, asSent: name253 + ".")),
            HelloVector("CH-23 254 bytes", hello(name: name253 + "b"), .refused(.serverNameTooLong)),
            HelloVector("CH-23 255 bytes", hello(name: name253 + "b."), .refused(.serverNameTooLong)),
            HelloVector("CH-23 label of 64", hello(name: label63 + "a.test"), .refused(.serverNameTooLong)),
            HelloVector("CH-23 last label of 64", hello(name: "good." + label63 + "a"), .refused(.serverNameTooLong)),
            HelloVector(
                "CH-23 4000 bytes", hello(name: String(repeating: "a.", count: 2000)), .refused(.serverNameTooLong)),
            HelloVector(
                "CH-23 65535 announced", hello(serverNameBody: [0, 12, 0, 0xff, 0xff] + good),
                .refused(.serverNameTooLong)),
        ]
        for byte: UInt8 in [0x00, 0x07, 0x0a, 0x1b, 0x20, 0x25, 0x2a, 0x2f, 0x3a, 0x5c, 0x7f, 0x80, 0xff] {
            vectors.append(
                HelloVector(
                    "CH-22 byte \(String(byte, radix: 16))",
                    hello(name: Array("go".utf8) + [byte] + Array("od.test".utf8)),
                    .refused(.serverNameForbiddenByte)))
        }
        for literal in [
            "127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "1.2.3.4.", "0x7f000001", "good.0x1", "good.1",
        ] {
            vectors.append(HelloVector("CH-21 \(literal)", hello(name: literal), .refused(.serverNameAddressLiteral)))
        }
        for literal in ["::1", "[::1]", "2001:db8::1", "fe80::1%eth0", "[good.test]"] {
            vectors.append(HelloVector("CH-21 \(literal)", hello(name: literal), .refused(.serverNameForbiddenByte)))
        }
        return vectors
    }()

    // MARK: ALPN

    private static let protocols: [HelloVector] = {
        func alpn(_ names: [String]) -> [UInt8] {
            HelloBuilder(extensions: [.alpn(names), .serverName("good.test"), Extension(type: 43, body: [2, 3, 4])])
                .records()
        }
        let long = String(repeating: "p", count: 255)
        return [
            HelloVector("CH-34 h2", alpn(["h2"]), good(alpn: ["h2"])),
            HelloVector("CH-34 two protocols", alpn(["h2", "http/1.1"]), good(alpn: ["h2", "http/1.1"])),
            HelloVector("CH-34 a name of 255", alpn([long]), good(alpn: [long])),
            HelloVector("CH-34 more than we keep", alpn(["h2", long, "h3"]), good(alpn: ["h2", "h3"])),
            HelloVector("CH-34 empty extension body", hello(alpnBody: []), good()),
            HelloVector("CH-34 half a list length", hello(alpnBody: [0]), good()),
            HelloVector("CH-34 empty list", hello(alpnBody: [0, 0]), good()),
            HelloVector("CH-34 empty name", hello(alpnBody: [0, 4, 0, 2, 0x68, 0x32]), good()),
            HelloVector("CH-34 empty name behind a good one", hello(alpnBody: [0, 4, 2, 0x68, 0x32, 0]), good()),
            HelloVector("CH-34 name past the list", hello(alpnBody: [0, 3, 3, 0x68, 0x32]), good()),
            HelloVector("CH-34 list shorter than the extension", hello(alpnBody: [0, 3, 2, 0x68, 0x32, 0]), good()),
            HelloVector("CH-34 list longer than the extension", hello(alpnBody: [0, 9, 2, 0x68, 0x32]), good()),
            HelloVector(
                "CH-34 ALPN twice",
                HelloBuilder(extensions: [.alpn(["h2"]), .serverName("good.test"), .alpn(["h3"])]).records(), good()),
            HelloVector("CH-35 acme-tls/1 alone", alpn(["acme-tls/1"]), good(alpn: ["acme-tls/1"])),
            HelloVector(
                "CH-35 acme-tls/1 among others", alpn(["h2", "acme-tls/1"]), good(alpn: ["h2", "acme-tls/1"])),
            HelloVector(
                "CH-35 address validation by name (RFC 8738)",
                HelloBuilder(serverName: "1.2.0.192.in-addr.arpa", alpn: ["acme-tls/1"]).records(),
                good("1.2.0.192.in-addr.arpa", alpn: ["acme-tls/1"])),
        ]
    }()
}
