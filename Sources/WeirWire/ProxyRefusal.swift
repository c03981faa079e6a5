/// Why bytes are not a PROXY header (HAProxy proxy-protocol.txt 3.4). Always answered by closing: whoever is listed as a
/// trusted peer and sends this is misconfigured or an impostor.
package enum ProxyRefusal: UInt8, Error, Sendable, BitwiseCopyable, CaseIterable {
    /// The first bytes begin neither `PROXY` nor the v2 signature.
    case missing
    /// A v1 line that breaks the grammar in any way.
    case malformed
    /// A v1 line without end in 107 bytes, or a v2 length above the limit.
    case tooLong
    /// A v2 version other than 2.
    case version
    /// A v2 command other than LOCAL and PROXY.
    case command
    /// A v2 family or transport that the specification leaves undefined.
    case family
    /// A v2 block too short for the addresses of its family.
    case length
    /// An address that no host has: unspecified, broadcast or multicast.
    case address
    /// A TLV or sub-TLV that does not fit where it stands, or whose value has a forbidden length.
    case tlv
    /// A checksum that is wrong, has not 4 bytes, or comes twice.
    case checksum

    /// The stable name in metrics and logs.
    package var label: String {
        switch self {
        case .missing: "pp_missing"
        case .malformed: "pp_malformed"
        case .tooLong: "pp_too_long"
        case .version: "pp_bad_version"
        case .command: "pp_bad_command"
        case .family: "pp_bad_family"
        case .length: "pp_bad_length"
        case .address: "pp_bad_address"
        case .tlv: "pp_bad_tlv"
        case .checksum: "pp_crc"
        }
    }
}
