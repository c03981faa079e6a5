import WeirModel
import WeirNet
import WeirWire

/// The bytes that a check sends once it has connected: the same for every check of a target, so they are made once.
enum CheckOpening {
    /// Room for the longest: a PROXY header and a hello, or a request with the longest path and host.
    static let byteCountMax = 2048

    /// `seed` fills what is random in a hello. Empty for a check that only connects.
    static func bytes(_ target: CheckTarget, seed: UInt64) -> [UInt8] {
        var bytes = proxyHeader(target)
        switch target.policy.kind {
        case .tcp, .proxy:
            break
        case .tls:
            var hello = [UInt8](repeating: 0, count: CheckHello.byteCountMax)
            var span = hello.mutableSpan
            let count = CheckHello.write(serverName: target.serverName, seed: seed, into: &span)
            bytes += hello[..<count]
        case .http:
            bytes += request(target).utf8
        }
        precondition(bytes.count <= byteCountMax)
        return bytes
    }

    private static func proxyHeader(_ target: CheckTarget) -> [UInt8] {
        let version = target.sendProxy ?? (target.policy.kind == .proxy ? .v2 : nil)
        guard let version else { return [] }
        var header = [UInt8](repeating: 0, count: 128)
        var span = header.mutableSpan
        let count: Int
        switch version {
        case .v1:
            count = ProxyHeaderEncoder.writeV1(source: nil, destination: nil, into: &span)
        case .v2:
            let local = ProxyHeaderEncoder.V2(source: nil, destination: nil, into: &span)
            count = local.finish(into: &span)
        }
        return Array(header[..<count])
    }

    private static func request(_ target: CheckTarget) -> String {
        """
        GET \(target.policy.path) HTTP/1.1\r
        Host: \(host(target))\r
        User-Agent: weir-health\r
        Accept: */*\r
        Connection: close\r
        \r

        """
    }

    /// RFC 9110 §7.2: with the port, unless it is the one that goes without saying.
    private static func host(_ target: CheckTarget) -> String {
        let name: String
        if !target.serverName.isNone {
            name = target.serverName.description
        } else if case .address(let ip) = target.host {
            name = ip.family == .v6 ? "[\(ip)]" : "\(ip)"
        } else {
            preconditionFailure("an endpoint has a name or an address")
        }
        return target.port == 80 ? name : "\(name):\(target.port)"
    }
}
