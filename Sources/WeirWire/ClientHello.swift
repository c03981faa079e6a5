import WeirNet

/// What routing needs from a ClientHello (RFC 8446 §4.1.2). A plain value; the bytes themselves are forwarded as they came.
package struct ClientHello: Sendable, BitwiseCopyable {
    /// `.none` where the client sent no server_name extension. With `sawECH` it may be a decoy (RFC 9849 §6.1).
    package let serverName: ServerName
    /// Empty where the extension is absent, sent twice or malformed: the server behind us answers for that.
    /// GREASE names (RFC 8701 §3.1) are left out.
    package let alpn: ALPNOffer
    /// The encrypted_client_hello extension is there, real or GREASE: the two cannot be told apart.
    package let sawECH: Bool
    /// `legacy_version` as sent; any value.
    package let legacyVersion: UInt16
    /// Records up to the end of the message: 1...`ClientHelloParser.recordCountMax`.
    package let recordCount: Int
    /// Bytes from the start of the connection to the last byte of the message, record headers included.
    /// What follows is payload, even inside the same record.
    package let wireByteCount: Int
    /// How the client wrote `serverName`.
    package let spelling: ServerNameSpelling

    init(
        serverName: ServerName, spelling: ServerNameSpelling, alpn: ALPNOffer, sawECH: Bool, legacyVersion: UInt16,
        recordCount: Int, wireByteCount: Int
    ) {
        self.serverName = serverName
        self.spelling = spelling
        self.alpn = alpn
        self.sawECH = sawECH
        self.legacyVersion = legacyVersion
        self.recordCount = recordCount
        self.wireByteCount = wireByteCount
    }

    /// `acme-tls/1` is the only protocol offered (RFC 8737 §3).
    package var isACMEChallenge: Bool {
        let name: InlineArray<11, UInt8> = [
            10, UInt8(ascii: "a"), UInt8(ascii: "c"), UInt8(ascii: "m"), UInt8(ascii: "e"), UInt8(ascii: "-"),
            UInt8(ascii: "t"), UInt8(ascii: "l"), UInt8(ascii: "s"), UInt8(ascii: "/"), UInt8(ascii: "1"),
        ]
        guard alpn.byteCount == name.count, !alpn.isTruncated else { return false }
        return alpn.withBytes { offered in
            for index in name.indices where offered[index] != name[index] { return false }
            return true
        }
    }

    /// Calls `body` with the server name as the client wrote it: letter case and trailing dot kept. Empty for `.none`.
    package func withServerNameAsSent<Result, Failure: Error>(
        _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try spelling.withBytes(of: serverName, body)
    }
}

/// How the bytes of a sent name differ from the canonical `ServerName`: nothing else is lost by canonicalising,
/// so 33 bytes stand for a second copy of the name.
package struct ServerNameSpelling: Sendable, BitwiseCopyable {
    private var upperCase = InlineArray<4, UInt64>(repeating: 0)
    private var hasTrailingDot = false

    package init() {}

    /// Traps where `raw` is not a spelling of a server name: more than 254 bytes.
    init(_ raw: Span<UInt8>) {
        precondition(raw.count <= 254)
        for index in raw.indices where raw[index] >= UInt8(ascii: "A") && raw[index] <= UInt8(ascii: "Z") {
            upperCase[index / 64] |= 1 << UInt64(index % 64)
        }
        hasTrailingDot = raw.count > 0 && raw[raw.count - 1] == UInt8(ascii: ".")
    }

    /// Calls `body` with `name` as it was written: letter case and trailing dot kept. Empty for `.none`.
    package func withBytes<Result, Failure: Error>(
        of name: ServerName, _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var raw = InlineArray<254, UInt8>(repeating: 0)
        for index in 0..<name.byteCount { raw[index] = isUpperCase(index) ? name[index] & ~0x20 : name[index] }
        var byteCount = name.byteCount
        if hasTrailingDot {
            raw[byteCount] = UInt8(ascii: ".")
            byteCount += 1
        }
        return try body(raw.span.extracting(first: byteCount))
    }

    private func isUpperCase(_ index: Int) -> Bool { upperCase[index / 64] >> UInt64(index % 64) & 1 == 1 }
}
