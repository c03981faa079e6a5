/// An IP address and a TCP port.
public struct SocketAddress: Hashable, Sendable, BitwiseCopyable {
    public var ip: IPAddress
    /// 0 asks the kernel for a free port when it is bound.
    public var port: UInt16

    @inlinable
    public init(_ ip: IPAddress, port: UInt16) {
        self.ip = ip
        self.port = port
    }

    /// Reads `a.b.c.d:port` or `[v6]:port`.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        var host = text[..<colon]
        let digits = text[text.index(after: colon)...]
        let bracketed = host.hasPrefix("[") && host.hasSuffix("]")
        if bracketed { host = host.dropFirst().dropLast() }
        guard let ip = IPAddress(String(host)), bracketed == (ip.family == .v6) else { return nil }
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }), let port = UInt16(digits) else {
            return nil
        }
        self.init(ip, port: port)
    }
}

extension SocketAddress: CustomStringConvertible {
    /// `a.b.c.d:port` or `[v6]:port`.
    public var description: String { ip.family == .v4 ? "\(ip):\(port)" : "[\(ip)]:\(port)" }
}
