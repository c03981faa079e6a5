import Benchmark
import WeirNet
import WeirWire

func registerParserBenchmarks() {
    // Chromium's, with X25519MLKEM768: longer than a segment.
    measure("hello-one-piece", of: PackageResources.chromium_bin) { hello, count in
        parseHello(hello, pieceByteCount: hello.count, count)
    }
    measure("hello-pieces-of-100", of: PackageResources.chromium_bin) { hello, count in
        parseHello(hello, pieceByteCount: 100, count)
    }
    measure("proxy-v1-parse", of: Array("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n".utf8)) {
        parseProxyHeader($0, $1)
    }
    measure("proxy-v2-parse", of: ProxyV2(hasTLVs: false).bytes) { parseProxyHeader($0, $1) }
    measure("proxy-v2-tlvs-parse", of: ProxyV2(hasTLVs: true).bytes) { parseProxyHeader($0, $1) }
    measure("http-head-parse", of: Array(requestHead.utf8)) { head, count in
        var total = 0
        for _ in 0..<count {
            var parser = HTTPRequestHeadParser()
            guard case .complete(let found) = parser.consume(head.span) else { preconditionFailure("refused") }
            total += found.byteCount
        }
        precondition(total == count * head.count)
    }
}

/// As a browser sends it.
private let requestHead = """
    GET /articles/2024/03/a-page?from=search HTTP/1.1\r
    Host: www.example.com\r
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r
    Accept-Language: en-GB,en;q=0.5\r
    Accept-Encoding: gzip, deflate\r
    Connection: keep-alive\r
    Upgrade-Insecure-Requests: 1\r
    \r

    """

private func parseHello(_ hello: [UInt8], pieceByteCount: Int, _ count: Int) {
    let bytes = hello.span
    var total = 0
    for _ in 0..<count {
        var parser = ClientHelloParser(byteCountMax: 16384)
        var start = 0
        reading: while true {
            let end = min(start + pieceByteCount, bytes.count)
            switch parser.consume(bytes.extracting(start..<end)) {
            case .needMore: start = end
            case .complete(let found):
                total += found.wireByteCount
                break reading
            case .refused: preconditionFailure("refused")
            }
        }
    }
    precondition(total == count * bytes.count)
}

private func parseProxyHeader(_ header: [UInt8], _ count: Int) {
    var total = 0
    for _ in 0..<count {
        var parser = ProxyHeaderParser()
        guard case .complete(_, let consumed) = parser.consume(header.span) else { preconditionFailure("refused") }
        total += consumed
    }
    precondition(total == count * header.count)
}
