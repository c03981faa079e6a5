import WeirModel
import WeirNet

/// What `stream` and `server` may both say. A server that says nothing takes what `stream` says, wherever it stands.
struct NginxScope {
    struct Resolver: Equatable {
        var servers: [SocketAddress]
        var valid: Duration?
        var families: ResolverSettings.AddressFamilies
        var position: SourcePosition
    }

    enum AccessBlock: Equatable {
        case all
        case block(CIDR)
    }

    struct AccessRule: Equatable {
        var allow: Bool
        var block: AccessBlock
        var position: SourcePosition
    }

    enum Bind: Equatable {
        case off
        case address(IPAddress)
    }

    var sslPreread: Bool?
    var prereadTimeout: Duration?
    var prereadByteCountMax: Int?
    var proxyTimeout: Duration?
    var connectTimeout: Duration?
    var nextUpstream: Bool?
    /// 0: no limit.
    var nextUpstreamTries: Int?
    /// Zero: no limit.
    var nextUpstreamTimeout: Duration?
    var sendProxy: Bool?
    var sendProxyVersion: SendProxy.Version?
    var proxyProtocolTimeout: (Duration, SourcePosition)?
    var halfClose: Bool?
    var bind: Bind?
    var resolver: Resolver?
    var resolverTimeout: Duration?
    var accessLog: (LogSettings.Target, SourcePosition)?
    // Lists: the ones of `stream` count only where a server has none of its own, as in nginx.
    var accessRules: [AccessRule] = []
    var connectionLimits: [Int] = []
    var realIPFrom: [(CIDR, SourcePosition)] = []

    /// What has been said at this level, and where.
    private var said: [String: SourcePosition] = [:]

    /// Directives that may repeat.
    private static let repeatable: Set<String> = ["allow", "deny", "limit_conn", "set_real_ip_from", "access_log"]

    /// This level's own settings, and `outer`'s for the rest.
    func over(_ outer: NginxScope) -> NginxScope {
        var scope = self
        scope.sslPreread = sslPreread ?? outer.sslPreread
        scope.prereadTimeout = prereadTimeout ?? outer.prereadTimeout
        scope.prereadByteCountMax = prereadByteCountMax ?? outer.prereadByteCountMax
        scope.proxyTimeout = proxyTimeout ?? outer.proxyTimeout
        scope.connectTimeout = connectTimeout ?? outer.connectTimeout
        scope.nextUpstream = nextUpstream ?? outer.nextUpstream
        scope.nextUpstreamTries = nextUpstreamTries ?? outer.nextUpstreamTries
        scope.nextUpstreamTimeout = nextUpstreamTimeout ?? outer.nextUpstreamTimeout
        scope.sendProxy = sendProxy ?? outer.sendProxy
        scope.sendProxyVersion = sendProxyVersion ?? outer.sendProxyVersion
        scope.proxyProtocolTimeout = proxyProtocolTimeout ?? outer.proxyProtocolTimeout
        scope.halfClose = halfClose ?? outer.halfClose
        scope.bind = bind ?? outer.bind
        scope.resolver = resolver ?? outer.resolver
        scope.resolverTimeout = resolverTimeout ?? outer.resolverTimeout
        scope.accessLog = accessLog ?? outer.accessLog
        if accessRules.isEmpty { scope.accessRules = outer.accessRules }
        if connectionLimits.isEmpty { scope.connectionLimits = outer.connectionLimits }
        if realIPFrom.isEmpty { scope.realIPFrom = outer.realIPFrom }
        return scope
    }

    /// Reads one directive that the vocabulary admitted. `zones` are the `limit_conn_zone`s known so far.
    mutating func read(_ directive: NginxDirective, _ values: NginxValues, zones: Set<String>) {
        let findings = values.findings
        if let first = said[directive.name], !Self.repeatable.contains(directive.name) {
            return findings.error(directive.position, "\(quoted(directive.name)) repeats line \(first.line)")
        }
        said[directive.name] = directive.position
        let word = directive.arguments[0]
        switch directive.name {
        case "ssl_preread": sslPreread = values.flag(word)
        case "preread_timeout": prereadTimeout = values.timeAboveZero(word)
        case "preread_buffer_size": prereadByteCountMax = values.byteCount(word)
        case "proxy_timeout": proxyTimeout = values.timeAboveZero(word)
        case "proxy_connect_timeout": connectTimeout = values.timeAboveZero(word)
        case "proxy_next_upstream": nextUpstream = values.flag(word)
        case "proxy_next_upstream_tries": nextUpstreamTries = values.integer(word, 0...1_000_000)
        case "proxy_next_upstream_timeout": nextUpstreamTimeout = values.time(word)
        case "proxy_protocol": sendProxy = values.flag(word)
        case "proxy_protocol_version":
            sendProxyVersion = values.integer(word, 1...2).map { $0 == 1 ? .v1 : .v2 }
        case "proxy_protocol_timeout":
            proxyProtocolTimeout = values.timeAboveZero(word).map { ($0, directive.position) }
        case "proxy_half_close": halfClose = values.flag(word)
        case "proxy_bind": readBind(directive, values)
        case "resolver": readResolver(directive, values)
        case "resolver_timeout": resolverTimeout = values.timeAboveZero(word)
        case "allow", "deny": readAccess(directive, values)
        case "limit_conn": readConnectionLimit(directive, values, zones)
        case "set_real_ip_from":
            if word.text == "unix:" {
                findings.error(word.position, "unix sockets are not supported")
            } else if let block = values.block(word) {
                realIPFrom.append((block, directive.position))
            }
        case "access_log": readAccessLog(directive, values)
        default: preconditionFailure("\(directive.name) is in the vocabulary but is not read")
        }
    }

    private mutating func readBind(_ directive: NginxDirective, _ values: NginxValues) {
        let word = directive.arguments[0]
        if directive.arguments.count == 2 {
            let option = directive.arguments[1]
            let message = option.text == "transparent" ? "`transparent` is not supported yet" : nil
            values.findings.error(
                option.position, message ?? "unknown parameter \(quoted(option.text)) of `proxy_bind`")
        } else if word.text == "off" {
            bind = .off
        } else if let address = IPAddress(word.text) {
            bind = .address(address)
        } else if word.text.contains("$") {
            values.findings.error(word.position, "`proxy_bind` with variables is not supported yet")
        } else {
            values.expected("an IP address without port, or off", word)
        }
    }

    private mutating func readResolver(_ directive: NginxDirective, _ values: NginxValues) {
        var found = Resolver(servers: [], valid: nil, families: .both, position: directive.position)
        var isOff: (v4: Bool, v6: Bool) = (false, false)
        for word in directive.arguments {
            guard let (name, value) = values.parameter(word) else {
                guard let server = SocketAddress(nameServer: word.text) else {
                    values.expected("the address of a name server (names are not looked up for this)", word)
                    continue
                }
                found.servers.append(server)
                continue
            }
            switch name {
            case "valid": found.valid = values.timeAboveZero(value)
            case "ipv4": isOff.v4 = values.flag(value) == false
            case "ipv6": isOff.v6 = values.flag(value) == false
            case "status_zone": values.findings.notice(word.position, "\"status_zone\" has no effect here")
            default:
                let known = ["valid", "ipv4", "ipv6", "status_zone"]
                values.findings.error(
                    word.position,
                    "unknown parameter \(quoted(name)) of `resolver`\(suggestion(for: name, among: known))")
            }
        }
        if isOff.v4, isOff.v6 {
            values.findings.error(directive.position, "ipv4=off and ipv6=off together leave no address to find")
        }
        if isOff.v6 { found.families = .v4Only } else if isOff.v4 { found.families = .v6Only }
        if found.servers.isEmpty, !directive.arguments.contains(where: { !$0.text.contains("=") }) {
            values.findings.error(directive.position, "`resolver` names no name server")
        }
        resolver = found
    }

    private mutating func readAccess(_ directive: NginxDirective, _ values: NginxValues) {
        let word = directive.arguments[0]
        let block: AccessBlock
        switch word.text {
        case "all": block = .all
        case "unix:": return values.findings.error(word.position, "unix sockets are not supported")
        default:
            guard let cidr = values.block(word) else { return }
            block = .block(cidr)
        }
        accessRules.append(AccessRule(allow: directive.name == "allow", block: block, position: directive.position))
    }

    private mutating func readConnectionLimit(_ directive: NginxDirective, _ values: NginxValues, _ zones: Set<String>)
    {
        let (zone, count) = (directive.arguments[0], directive.arguments[1])
        if !zones.contains(zone.text) {
            values.findings.error(
                zone.position,
                "there is no `limit_conn_zone` \(quoted(zone.text))"
                    + (nearestWord(to: zone.text, among: zones).map { "; did you mean \(quoted($0))?" } ?? ""))
        }
        if let limit = values.integer(count, 1...1_000_000) { connectionLimits.append(limit) }
    }

    private mutating func readAccessLog(_ directive: NginxDirective, _ values: NginxValues) {
        let word = directive.arguments[0]
        let target: LogSettings.Target
        switch word.text {
        case "off": target = .none
        case "/dev/stdout": target = .standardOutput
        case _ where word.text.hasPrefix("syslog:"):
            return values.findings.error(word.position, "logging to syslog is not supported yet")
        case _ where word.text.contains("$"):
            return values.findings.error(word.position, "a log path with variables is not supported")
        default: target = .file(word.text)
        }
        for parameter in directive.arguments.dropFirst() {
            values.findings.notice(
                parameter.position,
                "\(quoted(parameter.text)) of `access_log` has no effect here: the access log is JSON")
        }
        if accessLog == nil {
            accessLog = (target, directive.position)
        } else {
            values.findings.error(directive.position, "a second access log is not supported yet")
        }
    }
}
