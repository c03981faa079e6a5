import WeirNet

/// Why bytes are not a ClientHello that can be routed. Never the same as "no server name": a malformed hello is
/// refused, not sent to the route for clients without a name.
package enum HelloRefusal: UInt8, Error, Sendable, BitwiseCopyable, CaseIterable {
    /// The first bytes are no TLS record: first byte other than 22, or major version other than 3.
    case notTLS
    /// A ClientHello in SSLv2 framing (RFC 5246 App. E.2, RFC 6176), which has no room for a server name.
    case sslv2
    /// The message announces more bytes than the limit.
    case helloTooLarge
    /// More than `ClientHelloParser.recordCountMax` records before the message ended.
    case tooManyRecords
    /// A handshake record without payload (RFC 8446 §5.1).
    case emptyRecord
    /// A record of more than 2^14 bytes (RFC 8446 §5.1).
    case recordOverflow
    /// Another content type between the records of the hello (RFC 8446 §5.1).
    case interleavedRecord
    /// A later record with a major version other than 3.
    case recordVersion
    /// A handshake message of another type.
    case notClientHello
    /// The message is too short for its fixed fields.
    case messageLength
    case sessionIDLength
    case cipherSuitesLength
    case compressionMethodsLength
    /// The extension block does not end where the message ends, or an extension does not fit into the block.
    case extensionsLength
    /// Two server_name extensions (RFC 8446 §4.2).
    case duplicateServerName
    /// Two host names in one server_name extension (RFC 6066 §3).
    case multipleHostNames
    /// A name of a type other than host_name, alone or beside one.
    case unknownNameType
    /// A length inside server_name that is zero or does not agree with the one around it.
    case serverNameLength
    /// More than 253 bytes, or a label of more than 63 (RFC 1035 §2.3.4).
    case serverNameTooLong
    case serverNameEmptyLabel
    case serverNameForbiddenByte
    /// An address, in any spelling that `inet_aton` or a URL parser takes for one (RFC 6066 §3).
    case serverNameAddressLiteral

    init(_ refusal: ServerName.Refusal) {
        switch refusal {
        case .empty: self = .serverNameLength
        case .tooLong: self = .serverNameTooLong
        case .emptyLabel: self = .serverNameEmptyLabel
        case .forbiddenByte: self = .serverNameForbiddenByte
        case .addressLiteral: self = .serverNameAddressLiteral
        }
    }

    /// The client does not speak TLS; a route for other protocols may take the connection. An SSLv2 hello is TLS of a
    /// kind that has no server name and that nobody should serve (RFC 6176), so no route takes it.
    package var isOtherProtocol: Bool { self == .notTLS }

    /// What the client is told; nil: the connection is closed without a word.
    package var alert: TLSAlert? {
        switch self {
        case .notTLS, .sslv2, .helloTooLarge, .tooManyRecords: nil
        case .emptyRecord, .interleavedRecord, .notClientHello: .unexpectedMessage
        case .recordOverflow: .recordOverflow
        case .recordVersion, .messageLength, .sessionIDLength, .cipherSuitesLength, .compressionMethodsLength,
            .extensionsLength, .unknownNameType, .serverNameLength:
            .decodeError
        case .duplicateServerName, .multipleHostNames: .illegalParameter
        case .serverNameTooLong, .serverNameEmptyLabel, .serverNameForbiddenByte, .serverNameAddressLiteral:
            .unrecognizedName
        }
    }

    /// The stable name in metrics and logs.
    package var label: String {
        switch self {
        case .notTLS: "not_tls"
        case .sslv2: "sslv2"
        case .helloTooLarge: "hello_too_large"
        case .tooManyRecords: "hello_too_many_records"
        case .emptyRecord: "hello_empty_record"
        case .recordOverflow: "hello_record_overflow"
        case .interleavedRecord: "hello_interleaved_record"
        case .recordVersion: "hello_record_version"
        case .notClientHello: "not_client_hello"
        case .messageLength: "hello_message_length"
        case .sessionIDLength: "hello_session_id_length"
        case .cipherSuitesLength: "hello_cipher_suites_length"
        case .compressionMethodsLength: "hello_compression_methods_length"
        case .extensionsLength: "hello_extensions_length"
        case .duplicateServerName: "sni_duplicate"
        case .multipleHostNames: "sni_multiple_host_names"
        case .unknownNameType: "sni_unknown_name_type"
        case .serverNameLength: "sni_length"
        case .serverNameTooLong: "sni_too_long"
        case .serverNameEmptyLabel: "sni_empty_label"
        case .serverNameForbiddenByte: "sni_forbidden_byte"
        case .serverNameAddressLiteral: "sni_address_literal"
        }
    }
}
