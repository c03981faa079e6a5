import FuzzHarness
import Glibc
import WeirNet
import WeirWire

/// The ClientHello parser under fuzz.
struct HelloReading: Incremental {
    static let byteCountMax = 16384
    private var parser: ClientHelloParser

    init(byteCountMax: Int = Self.byteCountMax) { parser = ClientHelloParser(byteCountMax: byteCountMax) }

    mutating func feed(_ bytes: Span<UInt8>, at offset: Int) -> Reading<ClientHello, HelloRefusal> {
        switch parser.consume(bytes) {
        case .needMore: .needMore
        case .complete(let hello): .accepted(hello, byteCount: hello.wireByteCount)
        case .refused(let refusal): .refused(refusal)
        }
    }

    static func same(_ one: ClientHello, _ other: ClientHello) -> Bool {
        sameMessage(one, other) && one.recordCount == other.recordCount && one.wireByteCount == other.wireByteCount
    }

    /// The same but for the records the message came in.
    static func sameMessage(_ one: ClientHello, _ other: ClientHello) -> Bool {
        guard one.serverName == other.serverName, one.sawECH == other.sawECH else { return false }
        guard one.legacyVersion == other.legacyVersion, one.alpn.isTruncated == other.alpn.isTruncated else {
            return false
        }
        let sameSpelling = one.withServerNameAsSent { a in other.withServerNameAsSent { b in equal(a, b) } }
        return sameSpelling && one.alpn.withBytes { a in other.alpn.withBytes { b in equal(a, b) } }
    }
}

func equal(_ one: Span<UInt8>, _ other: Span<UInt8>) -> Bool {
    guard one.count == other.count else { return false }
    for index in one.indices where one[index] != other[index] { return false }
    return true
}

func equal(_ one: Span<UInt8>, _ other: ArraySlice<UInt8>) -> Bool {
    guard one.count == other.count else { return false }
    for index in one.indices where one[index] != other[other.startIndex + index] { return false }
    return true
}

/// CH-18...CH-23, T-06: what every server name is, however it came. Asked of libc too, which is what would dial it.
func requireCanonical(_ name: ServerName) {
    require(name.byteCount >= 1 && name.byteCount <= ServerName.byteCountMax, "a name of \(name.byteCount) bytes")
    var labelByteCount = 0
    for index in 0..<name.byteCount {
        switch name[index] {
        case UInt8(ascii: "."):
            require(labelByteCount >= 1, "an empty label in \(name)")
            labelByteCount = 0
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
            UInt8(ascii: "_"):
            labelByteCount += 1
            require(labelByteCount <= 63, "a label of more than 63 bytes in \(name)")
        default:
            fail("byte \(name[index]) in \(name)")
        }
    }
    require(labelByteCount >= 1, "an empty last label in \(name)")
    let again = name.withBytes { try? ServerName(canonicalizing: $0) }
    require(again == name, "\(name) is not its own canonical form")
    // Only what has a digit can be an address.
    guard name[name.byteCount - 1] <= UInt8(ascii: "f") else { return }
    let text = name.description
    var four = in_addr()
    var six = in6_addr()
    require(unsafe inet_aton(text, &four) == 0, "\(name) is an address to inet_aton")
    require(unsafe inet_pton(AF_INET6, text, &six) == 0, "\(name) is an address to inet_pton")
}
