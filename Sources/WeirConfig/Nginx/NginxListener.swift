import WeirModel
import WeirNet

/// A listener without its routes, from one address of a `listen` and the settings in force there.
struct NginxListener {
    private(set) var listener: Listener

    init(_ address: SocketAddress, _ listen: NginxListen, _ scope: NginxScope, _ values: NginxValues) {
        listener = Listener(name: address.description, address: address)
        listener.clients = Self.clients(scope)
        listener.detect = scope.sslPreread == true ? [.tls] : []
        if let value = scope.halfClose { listener.halfClose = value }
        if let value = listen.backlog { listener.backlog = value }
        if let value = scope.proxyTimeout { listener.timeouts.idle = value }
        listener.limits.connectionsPerClient = scope.connectionLimits.min()
        if let value = scope.prereadByteCountMax {
            listener.hello.byteCountMax = min(max(value, 512), 65536)
            if listener.hello.byteCountMax != value {
                values.findings.notice(
                    listen.position, "preread_buffer_size \(value) is taken as \(listener.hello.byteCountMax)")
            }
        }
        acceptProxy(listen, scope, values)
        timeouts(listen, scope)
    }

    /// In the order written; the first that holds the address decides, as in nginx. Where nginx lets in everyone no
    /// rule names, here the private networks are let in.
    private static func clients(_ scope: NginxScope) -> ClientPolicy {
        var rules: [ClientPolicy.Rule] = []
        for rule in scope.accessRules {
            switch rule.block {
            case .all: return ClientPolicy(rules: rules, otherwiseAllow: rule.allow)
            case .block(let block): rules.append(ClientPolicy.Rule(allow: rule.allow, block: block))
            }
        }
        return ClientPolicy(rules: rules + ClientPolicy.privateNetworks.rules, otherwiseAllow: false)
    }

    private mutating func acceptProxy(_ listen: NginxListen, _ scope: NginxScope, _ values: NginxValues) {
        guard listen.requiresProxyHeader else {
            if let (_, position) = scope.realIPFrom.first {
                values.findings.notice(
                    position, "\"set_real_ip_from\" has no effect on \(listener.name): it reads no PROXY header")
            }
            if let (_, position) = scope.proxyProtocolTimeout {
                values.findings.notice(
                    position, "\"proxy_protocol_timeout\" has no effect on \(listener.name): it reads no PROXY header")
            }
            return
        }
        var from = scope.realIPFrom.map(\.0)
        if from.isEmpty {
            // T-08: nginx believes a header from anyone; here only from networks that clients are let in from anyway.
            from = ClientPolicy.privateNetworks.rules.map(\.block)
            values.findings.notice(
                listen.position,
                "PROXY headers are believed from loopback and private addresses only; "
                    + "`set_real_ip_from` names others")
        }
        var acceptProxy = AcceptProxy(from: from)
        // nginx takes them, and a dual-stack nginx in front sends them.
        acceptProxy.acceptIPv4InTCP6 = true
        listener.acceptProxy = acceptProxy
    }

    /// nginx times the PROXY header and the hello one after the other; here one deadline holds both, and a second one
    /// holds everything up to the open upstream. Both are made long enough for what the file asks.
    private mutating func timeouts(_ listen: NginxListen, _ scope: NginxScope) {
        let ownHello = ListenerTimeouts().hello
        let header = listen.requiresProxyHeader ? scope.proxyProtocolTimeout?.0 : nil
        let hello = scope.sslPreread == true ? scope.prereadTimeout : nil
        switch (header, hello) {
        case (nil, nil): break
        case (let header?, nil) where scope.sslPreread == true: listener.timeouts.hello = header + ownHello
        case (let header?, let hello): listener.timeouts.hello = header + (hello ?? .zero)
        case (nil, let hello?): listener.timeouts.hello = hello
        }
        let resolver = scope.resolverTimeout ?? ResolverSettings().timeout
        let needed = listener.timeouts.hello + resolver + scope.upstreamOptions.connectTotal
        let isAsked = scope.connectTimeout != nil || scope.nextUpstreamTimeout != nil || header != nil || hello != nil
        if isAsked || scope.resolverTimeout != nil {
            listener.timeouts.preamble = max(listener.timeouts.preamble, needed)
        }
    }
}

extension NginxScope {
    /// How a server of these settings connects.
    var upstreamOptions: UpstreamOptions {
        var options = UpstreamOptions()
        if nextUpstream == false {
            options.attempts = 1
        } else if let tries = nextUpstreamTries {
            // 0 is no limit in nginx; here the most there is.
            options.attempts = tries == 0 ? 8 : min(tries, 8)
        }
        if let connectTimeout {
            options.connectTimeout = connectTimeout
            options.connectTotal = connectTimeout * options.attempts
        }
        if let limit = nextUpstreamTimeout, limit > .zero { options.connectTotal = max(limit, options.connectTimeout) }
        if sendProxy == true { options.sendProxy = SendProxy(sendProxyVersion ?? .v1) }
        if case .address(let address)? = bind { options.sourceAddresses = [address] }
        return options
    }
}
