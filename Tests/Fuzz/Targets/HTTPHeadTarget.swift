import FuzzHarness
import WeirNet
import WeirWire

/// The HTTP/1 head parser against itself, and against a second reading of the head by lines and words (RFC 9112 §2...§5).
enum HTTPHeadTarget: FuzzTarget {
    static let name = "http-head"

    static func check(_ bytes: Span<UInt8>) -> String? {
        var random = FuzzRandom(of: bytes)
        let answer = readEveryWay(HTTPReading(), bytes, &random)
        // The length of the head is the only thing that a limit decides.
        if case .refused(.headTooLarge) = readWhole(HTTPReading(byteCountMax: 256), bytes) {
        } else {
            requireSame(HTTPReading.self, answer, readWhole(HTTPReading(byteCountMax: 256), bytes), "limit 256")
        }
        switch answer {
        case .needMore:
            return "more"
        case .refused(let refusal):
            require([400, 405, 421, 431, 505].contains(refusal.status), "status \(refusal.status)")
            return refusal.label
        case .accepted(let head, let byteCount):
            requireCanonical(head.host)
            require(head.port != 0, "port 0")
            requireSameHost(head, Array(bytes, first: byteCount))
            return head.port == nil ? "accepted" : "accepted_port"
        }
    }

    private static func requireSameHost(_ head: HTTPRequestHead, _ bytes: [UInt8]) {
        var lines: [[UInt8]] = [[]]
        for byte in bytes {
            if byte == 0x0a {
                require(lines[lines.count - 1].last == 0x0d, "LF without CR")
                lines[lines.count - 1].removeLast()
                lines.append([])
            } else {
                lines[lines.count - 1].append(byte)
            }
        }
        require(lines.count >= 3 && lines.last == [] && lines[lines.count - 2] == [], "does not end with an empty line")
        require(!lines.contains { $0.contains(0x0d) }, "CR without LF")
        let request = lines[0].split(separator: 0x20, omittingEmptySubsequences: false).map { text($0) }
        require(request.count == 3, "\(request.count) words in the request line")
        require(request[2] == "HTTP/1.1" || request[2] == "HTTP/1.0", "version \(request[2])")
        require(request[0] != "CONNECT", "CONNECT")

        var hosts: [String] = []
        for line in lines[1..<lines.count - 2] {
            guard let colon = line.firstIndex(of: 0x3a) else { fail("a header line without a colon") }
            require(colon > 0 && !line[..<colon].contains { $0 <= 0x20 || $0 >= 0x7f }, "a header name with a space")
            if text(line[..<colon]).lowercased() == "host" {
                let value = line[(colon + 1)...].drop { $0 == 0x20 || $0 == 0x09 }
                hosts.append(text(value.reversed().drop { $0 == 0x20 || $0 == 0x09 }.reversed()[...]))
            }
        }
        require(hosts.count <= 1, "\(hosts.count) hosts")
        if !request[1].hasPrefix("/"), request[1] != "*" {
            let target = request[1]
            require(target.lowercased().hasPrefix("http://"), "target \(target)")
            hosts.append(String(target.dropFirst(7).prefix { $0 != "/" && $0 != "?" }))
        } else {
            require(hosts.count == 1, "no host")
        }
        for host in hosts {
            let parts = host.split(separator: ":", omittingEmptySubsequences: false)
            require(parts.count <= 2, "host \(host)")
            require((try? ServerName(String(parts[0]))) == head.host, "host \(host) read as \(head.host)")
            let port = parts.count == 2 ? UInt16(parts[1]) : nil
            require(port ?? 80 == head.port ?? 80, "port of \(host) read as \(String(describing: head.port))")
        }
    }

    /// A scalar for each byte, so that no byte is lost or joined with another.
    private static func text(_ bytes: ArraySlice<UInt8>) -> String {
        var text = ""
        for byte in bytes { text.unicodeScalars.append(Unicode.Scalar(byte)) }
        return text
    }
}

extension [UInt8] {
    init(_ bytes: Span<UInt8>, first count: Int) {
        self = []
        reserveCapacity(count)
        for index in 0..<count { append(bytes[index]) }
    }
}

/// The HTTP head parser under fuzz.
private struct HTTPReading: Incremental {
    private var parser: HTTPRequestHeadParser

    init(byteCountMax: Int = 16384) { parser = HTTPRequestHeadParser(byteCountMax: byteCountMax) }

    mutating func feed(_ bytes: Span<UInt8>, at offset: Int) -> Reading<HTTPRequestHead, HTTPRefusal> {
        switch parser.consume(bytes) {
        case .needMore: .needMore
        case .complete(let head): .accepted(head, byteCount: head.byteCount)
        case .refused(let refusal): .refused(refusal)
        }
    }

    static func same(_ one: HTTPRequestHead, _ other: HTTPRequestHead) -> Bool {
        one.host == other.host && one.port == other.port && one.byteCount == other.byteCount
    }
}
