import WeirWire

/// The first bytes of a connection, and what an HTTP request head parser must make of them.
package struct HTTPVector: Sendable, CustomStringConvertible {
    package enum Expectation: Sendable, Equatable {
        case accepted(host: String, port: UInt16?)
        case refused(HTTPRefusal)
    }

    package let name: String
    /// Up to the last byte that belongs to the head, or to the byte that decides and beyond.
    package let head: [UInt8]
    /// Bytes behind an accepted head: not looked at.
    package let payload: [UInt8]
    package let byteCountMax: Int
    package let expected: Expectation

    package var bytes: [UInt8] { head + payload }
    package var description: String { name }

    package var isAccepted: Bool {
        if case .accepted = expected { return true }
        return false
    }

    package init(
        _ head: String, payload: String = "", byteCountMax: Int = 16384, _ expected: Expectation
    ) {
        name = String(head.debugDescription.prefix(80))
        self.head = Array(head.utf8)
        self.payload = Array(payload.utf8)
        self.byteCountMax = byteCountMax
        self.expected = expected
    }
}

extension HTTPVector {
    /// All of them.
    package static let all: [HTTPVector] = accepted + requestLines + headerLines + hosts

    private static func good(_ port: UInt16? = nil) -> Expectation { .accepted(host: "good.test", port: port) }

    private static func host(_ value: String, _ expected: Expectation) -> HTTPVector {
        HTTPVector("GET / HTTP/1.1\r\nHost: \(value)\r\n\r\n", expected)
    }

    private static func refused(_ head: String, _ refusal: HTTPRefusal) -> HTTPVector {
        HTTPVector(head, .refused(refusal))
    }

    private static let accepted: [HTTPVector] = {
        let base = "GET / HTTP/1.1\r\nHost: good.test\r\nX: "
        let filler = String(repeating: "x", count: 16_384 - base.utf8.count - 4)
        return [
            HTTPVector("GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", good()),
            HTTPVector("GET / HTTP/1.0\r\nHost: good.test\r\n\r\n", good()),
            HTTPVector(
                "POST /a?b=c HTTP/1.1\r\nA: 1\r\nhOsT:good.test:8080\t \r\nB:\r\n\r\n", payload: "Host: evil.test\r\n",
                good(8080)),
            HTTPVector("OPTIONS * HTTP/1.1\r\nHost: good.test\r\n\r\n", good()),
            HTTPVector("M-SEARCH / HTTP/1.1\r\nHosts: a\r\nHos: b\r\nX-Host: c\r\nHost: good.test\r\n\r\n", good()),
            HTTPVector("GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", good()),
            HTTPVector("GET HTTP://Good.Test:81?q HTTP/1.1\r\nHost: GOOD.test.:81\r\n\r\n", good(81)),
            HTTPVector("GET http://good.test HTTP/1.1\r\nHost: good.test:80\r\n\r\n", good()),
            HTTPVector("GET http://good.test:8080/ HTTP/1.0\r\n\r\n", good(8080)),
            HTTPVector("GET /h\u{fc} HTTP/1.1\r\nHost: good.test\r\nX: \u{fc}\r\n\r\n", good()),
            HTTPVector(
                "GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", payload: "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
                good()),
            host("GOOD.TEST", good()),
            host("good.test.", good()),
            host("good.test:1", good(1)),
            host("good.test:65535", good(65535)),
            HTTPVector(base + filler + "\r\n\r\n", good()),
        ]
    }()

    private static let requestLines = [
        refused("GET / HTTP/2.0\r\nHost: good.test\r\n\r\n", .version),
        refused("GET / HTTP/1.2\r\nHost: good.test\r\n\r\n", .version),
        refused("GET / HTTP/0.9\r\nHost: good.test\r\n\r\n", .version),
        refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .version),
        refused("GET / HTTP/1.10\r\nHost: good.test\r\n\r\n", .requestLine),
        refused("GET / http/1.1\r\nHost: good.test\r\n\r\n", .requestLine),
        refused("GET / HTTP/x.1\r\n\r\n", .requestLine),
        refused("GET / HTTP/1,1\r\n\r\n", .requestLine),
        refused("GET / HTTP/1.x\r\n\r\n", .requestLine),
        refused("GET /\r\nHost: good.test\r\n\r\n", .requestLine),
        refused("GET  / HTTP/1.1\r\nHost: good.test\r\n\r\n", .requestLine),
        refused("GET /  HTTP/1.1\r\nHost: good.test\r\n\r\n", .requestLine),
        refused("GET / HTTP/1.1 \r\nHost: good.test\r\n\r\n", .requestLine),
        refused("GET\t/ HTTP/1.1\r\nHost: good.test\r\n\r\n", .requestLine),
        refused("GET good.test/ HTTP/1.1\r\n\r\n", .requestLine),
        refused("GET ?q HTTP/1.1\r\n\r\n", .requestLine),
        refused("GET *x HTTP/1.1\r\n\r\n", .requestLine),
        refused("GET /\u{0} HTTP/1.1\r\n\r\n", .requestLine),
        refused("GET http:/good.test HTTP/1.1\r\n\r\n", .requestLine),
        refused("GET http://good.test\r\n\r\n", .requestLine),
        refused(" / HTTP/1.1\r\n\r\n", .requestLine),
        refused("\r\nGET / HTTP/1.1\r\nHost: good.test\r\n\r\n", .requestLine),
        refused("G(T / HTTP/1.1\r\n\r\n", .requestLine),
        refused("CONNECT good.test:443 HTTP/1.1\r\nHost: good.test\r\n\r\n", .connectMethod),
        refused("GET https://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", .scheme),
        refused("GET htt://good.test/ HTTP/1.1\r\n\r\n", .scheme),
        refused("GET ftp+x://good.test/ HTTP/1.1\r\n\r\n", .scheme),
        refused("GET / HTTP/1.1\nHost: good.test\n\n", .lineEnd),
        refused("GET / HTTP/1.1\rHost: good.test\r\n\r\n", .lineEnd),
    ]

    private static let headerLines = [
        refused("GET / HTTP/1.1\r\nHost: good.test\n\r\n", .lineEnd),
        refused("GET / HTTP/1.1\r\nHost: good.test\r\r\n\r\n", .lineEnd),
        refused("GET / HTTP/1.1\r\nHost: good.test\r\n\n", .lineEnd),
        refused("GET / HTTP/1.1\r\nHost: good.test\r\n\rX", .lineEnd),
        refused("GET / HTTP/1.1\r\nX: a\nHost: evil.test\r\nHost: good.test\r\n\r\n", .lineEnd),
        refused("GET / HTTP/1.1\r\nHost: good.test\r\n .evil.test\r\n\r\n", .foldedLine),
        refused("GET / HTTP/1.1\r\n\tHost: good.test\r\n\r\n", .foldedLine),
        refused("GET / HTTP/1.1\r\nHost : good.test\r\n\r\n", .headerLine),
        refused("GET / HTTP/1.1\r\nHost\r\n\r\n", .headerLine),
        refused("GET / HTTP/1.1\r\n: x\r\nHost: good.test\r\n\r\n", .headerLine),
        refused("GET / HTTP/1.1\r\nX: \u{0}\r\nHost: good.test\r\n\r\n", .headerLine),
        refused("GET / HTTP/1.1\r\nX: \u{7f}\r\nHost: good.test\r\n\r\n", .headerLine),
        refused("GET / HTTP/1.1\r\nX(Y: z\r\nHost: good.test\r\n\r\n", .headerLine),
        HTTPVector(
            "GET / HTTP/1.1\r\nHost: good.test\r\nX: " + String(repeating: "x", count: 16_384) + "\r\n\r\n",
            .refused(.headTooLarge)),
        HTTPVector(
            "GET /" + String(repeating: "x", count: 600) + " HTTP/1.1\r\n", byteCountMax: 512, .refused(.headTooLarge)),
    ]

    private static let hosts: [HTTPVector] = {
        var vectors = [
            refused("GET / HTTP/1.1\r\n\r\n", .hostMissing),
            refused("GET / HTTP/1.0\r\n\r\n", .hostMissing),
            refused("GET / HTTP/1.1\r\nHost:\r\n\r\n", .hostMissing),
            refused("GET / HTTP/1.1\r\nHost: \t \r\n\r\n", .hostMissing),
            refused("GET http:/// HTTP/1.1\r\nHost: good.test\r\n\r\n", .hostMissing),
            refused("GET http://good.test/ HTTP/1.1\r\n\r\n", .hostMissing),
            refused("GET / HTTP/1.1\r\nHost: good.test\r\nHost: good.test\r\n\r\n", .hostDuplicate),
            refused("GET / HTTP/1.1\r\nHost: good.test\r\nhost: evil.test\r\n\r\n", .hostDuplicate),
            refused("GET http://good.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", .hostMismatch),
            refused("GET http://good.test:81/ HTTP/1.1\r\nHost: good.test\r\n\r\n", .hostMismatch),
            refused("GET http://user@good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", .hostMalformed),
            refused("GET http://[::1]/ HTTP/1.1\r\nHost: good.test\r\n\r\n", .addressLiteral),
            host("good.test, evil.test", .refused(.hostMalformed)),
            host("good.test evil.test", .refused(.hostMalformed)),
            host("user@good.test", .refused(.hostMalformed)),
            host("good..test", .refused(.hostMalformed)),
            host("*.good.test", .refused(.hostMalformed)),
            host("b\u{fc}cher.test", .refused(.hostMalformed)),
            host("good.test/", .refused(.hostMalformed)),
            host(":80", .refused(.hostMalformed)),
            host(String(repeating: "a.", count: 130), .refused(.hostMalformed)),
            host(String(repeating: "a.", count: 2000), .refused(.hostMalformed)),
        ]
        for literal in [
            "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80", "::1", "2001:db8::1", "127.1", "0x7f.1", "2130706433",
        ] {
            vectors.append(host(literal, .refused(.addressLiteral)))
        }
        for port in ["", "0", "080", "65536", "100000", "+80", "-1", "8O", "80:80"] {
            vectors.append(host("good.test:\(port)", .refused(.port)))
        }
        return vectors
    }()
}
