import WeirNet
import WeirWire

func registerEncoderBenchmarks() {
    for hasTLVs in [false, true] {
        measure(
            hasTLVs ? "proxy-v2-tlvs-encode" : "proxy-v2-encode",
            of: (ProxyV2(hasTLVs: hasTLVs), [UInt8](repeating: 0, count: ProxyHeaderEncoder.byteCountMax))
        ) { state, count in
            let header = state.0
            var output = state.1.mutableSpan
            var total = 0
            for _ in 0..<count { total += header.write(into: &output) }
            // Signature, version, family, length and addresses; then the TLVs with three bytes before each value.
            precondition(total == count * (hasTLVs ? 28 + 18 + 5 + 19 + 7 : 28))
        }
    }
}

/// What a header says: the addresses alone, or all that may be sent in one: authority, ALPN, unique id and checksum.
struct ProxyV2 {
    let hasTLVs: Bool
    private let source = SocketAddress(IPAddress(192, 0, 2, 1), port: 56324)
    private let destination = SocketAddress(IPAddress(198, 51, 100, 7), port: 443)
    private let authority = Array("www.example.com".utf8)
    private let alpn = Array("h2".utf8)
    private let uniqueID = [UInt8](repeating: 0x5a, count: 16)

    init(hasTLVs: Bool) { self.hasTLVs = hasTLVs }

    var bytes: [UInt8] {
        var output = [UInt8](repeating: 0, count: ProxyHeaderEncoder.byteCountMax)
        var span = output.mutableSpan
        let count = write(into: &span)
        return Array(output.prefix(count))
    }

    func write(into output: inout MutableSpan<UInt8>) -> Int {
        var header = ProxyHeaderEncoder.V2(source: source, destination: destination, into: &output)
        if hasTLVs {
            header.append(.authority, authority.span, into: &output)
            header.append(.alpn, alpn.span, into: &output)
            header.append(.uniqueID, uniqueID.span, into: &output)
        }
        return header.finish(checksum: hasTLVs, into: &output)
    }
}
