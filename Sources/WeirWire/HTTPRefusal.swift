/// Why bytes are not an HTTP/1 request head that can be routed (RFC 9112).
package enum HTTPRefusal: UInt8, Error, Sendable, BitwiseCopyable, CaseIterable {
    /// The request line breaks the grammar.
    case requestLine
    /// A version other than HTTP/1.0 and HTTP/1.1.
    case version
    /// CONNECT asks us to be a proxy that it names; we forward what is meant for others.
    case connectMethod
    /// An absolute-form target with a scheme other than http.
    case scheme
    /// LF without CR, or CR without LF.
    case lineEnd
    /// A header line continued by leading whitespace (RFC 9112 §5.2).
    case foldedLine
    /// A header line that breaks the grammar: no colon, whitespace before it, a control byte.
    case headerLine
    /// No Host, or an empty one.
    case hostMissing
    /// More than one Host (RFC 9112 §3.2).
    case hostDuplicate
    /// Host and absolute-form target name different authorities.
    case hostMismatch
    /// A host that is no server name.
    case hostMalformed
    /// A host that is an address in any spelling.
    case addressLiteral
    /// Anything but 1...65535 without leading zero behind the host's colon.
    case port
    /// The head is longer than the limit.
    case headTooLarge

    /// The status code to answer with.
    package var status: Int {
        switch self {
        case .requestLine, .scheme, .lineEnd, .foldedLine, .headerLine, .hostMissing, .hostDuplicate, .hostMismatch,
            .hostMalformed, .port:
            400
        case .connectMethod: 405
        case .addressLiteral: 421
        case .headTooLarge: 431
        case .version: 505
        }
    }

    /// The stable name in metrics and logs.
    package var label: String {
        switch self {
        case .requestLine: "http_request_line"
        case .version: "http_version"
        case .connectMethod: "http_connect_method"
        case .scheme: "http_scheme"
        case .lineEnd: "http_line_end"
        case .foldedLine: "http_folded_line"
        case .headerLine: "http_header_line"
        case .hostMissing: "http_host_missing"
        case .hostDuplicate: "http_host_duplicate"
        case .hostMismatch: "http_host_mismatch"
        case .hostMalformed: "http_host_malformed"
        case .addressLiteral: "http_address_literal"
        case .port: "http_port"
        case .headTooLarge: "http_head_too_large"
        }
    }
}
