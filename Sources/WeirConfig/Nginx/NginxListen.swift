import WeirModel
import WeirNet

/// One `listen` directive: the addresses it stands for, and what it says of them.
struct NginxListen {
    var addresses: [SocketAddress] = []
    var requiresProxyHeader = false
    var backlog: Int?
    var position: SourcePosition

    /// Ranges (`listen 8000-8010`) are written out; one of thousands of ports is a slip.
    static let portCountMax = Configuration.listenerCountMax

    private static let withoutEffect = [
        "reuseport", "bind", "deferred", "default_server", "so_keepalive", "rcvbuf", "sndbuf", "fastopen",
        "accept_filter", "setfib",
    ]
    private static let known = withoutEffect + ["proxy_protocol", "backlog", "ipv6only", "ssl", "udp"]

    /// nil, and reported, where the address cannot be listened on.
    init?(_ directive: NginxDirective, _ values: NginxValues) {
        position = directive.position
        let word = directive.arguments[0]
        guard let (hosts, ports) = Self.split(word, values) else { return nil }
        var hostsTaken = hosts
        for option in directive.arguments.dropFirst() {
            let (name, value) = values.parameter(option) ?? (option.text, option)
            switch name {
            case "proxy_protocol": requiresProxyHeader = true
            case "backlog" where value.text == "-1": break
            case "backlog": backlog = values.integer(value, 1...65535)
            case "ipv6only":
                // IPv4 clients of a `[::]` socket and those of 0.0.0.0 are the same clients.
                if values.flag(value) == false, hosts == [.v6Any] { hostsTaken.append(.v4Any) }
            case "ssl":
                values.findings.error(
                    option.position, "`listen ... ssl` is not supported: TLS passes through and is never ended here")
            case "udp":
                values.findings.error(option.position, "`listen ... udp` is not supported yet")
            case _ where Self.withoutEffect.contains(name):
                values.findings.notice(option.position, "\(quoted(name)) of `listen` has no effect here")
            default:
                values.findings.error(
                    option.position,
                    "unknown parameter \(quoted(name)) of `listen`\(suggestion(for: name, among: Self.known))")
            }
        }
        for host in hostsTaken {
            for port in ports { addresses.append(SocketAddress(host, port: port)) }
        }
    }

    private static func split(_ word: NginxWord, _ values: NginxValues) -> ([IPAddress], ClosedRange<UInt16>)? {
        let text = word.text
        if text.hasPrefix("unix:") {
            values.findings.error(word.position, "unix sockets are not supported")
            return nil
        }
        let form = "a port, address:port or [v6]:port"
        var host = Substring("*")
        var port = Substring(text)
        if let colon = text.lastIndex(of: ":") {
            host = text[..<colon]
            port = text[text.index(after: colon)...]
        } else if IPAddress(text) != nil {
            values.findings.error(word.position, "`listen` names no port: expected \(form)")
            return nil
        }
        guard let ports = portRange(port), ports.count <= portCountMax else {
            values.expected(form, word)
            return nil
        }
        switch host {
        case "*": return ([.v4Any], ports)
        case "localhost": return ([.v4Loopback], ports)
        case _ where host.hasPrefix("[") && host.hasSuffix("]"):
            if let ip = IPAddress(String(host.dropFirst().dropLast())), ip.family == .v6 { return ([ip], ports) }
        default:
            if let ip = IPAddress(String(host)), ip.family == .v4 { return ([ip], ports) }
        }
        values.expected("\(form) (names are not looked up for this)", word)
        return nil
    }
}
