/// A TLS 1.2 ClientHello (RFC 5246 §7.4.1.2) that names `bench.test` (RFC 6066 §3), padded to 517 bytes as OpenSSL pads
/// (RFC 7685). No server would finish a handshake with it; a proxy that reads the name asks no more.
func benchmarkHello() -> [UInt8] {
    let total = 517
    let name = Array("bench.test".utf8)
    func pair(_ value: Int) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }
    let serverName = pair(0) + pair(name.count + 5) + pair(name.count + 3) + [0] + pair(name.count) + name
    let fixed: [UInt8] = [3, 3] + [UInt8](repeating: 0x5a, count: 32) + [0] + pair(2) + [0x13, 0x01] + [1, 0]
    let paddingCount = total - 5 - 4 - fixed.count - 2 - serverName.count - 4
    let padding = pair(21) + pair(paddingCount) + [UInt8](repeating: 0, count: paddingCount)
    let extensions = serverName + padding
    let body = fixed + pair(extensions.count) + extensions
    return [22, 3, 1] + pair(body.count + 4) + [1, 0] + pair(body.count) + body
}
