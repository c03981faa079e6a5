/// Every key of the native format, once: what the readers know, what `weir schema` prints, and what docs/CONFIGURATION.md is
/// held against.
package enum NativeSchema {
    package static let configuration = NativeShape(
        "configuration", "a configuration",
        [
            NativeKey("listeners", .list(.mapping(listener)), "where clients connect; at least one over all files"),
            NativeKey("clusters", .list(.mapping(cluster)), "named sets of endpoints"),
            NativeKey("sources", .list(.mapping(source)), "named pools of local addresses to connect from"),
            NativeKey(
                "policies", .list(.mapping(policy)),
                "how connections leave that go to no cluster; the first that holds decides"),
            NativeKey(
                "client_labels", .list(.mapping(clientLabels)), "which client addresses have the labels of policies"),
            NativeKey("destinations", .mapping(destinations), "what the guard on resolved addresses lets through"),
            NativeKey("resolver", .mapping(resolver), "how names are resolved"),
            NativeKey("admin", .either([.words(["off"]), .mapping(admin)]), own: "off", "the admin endpoint"),
            NativeKey("log", .mapping(log), "the access log"),
            NativeKey(
                "workers", .either([.words(["auto"]), .number(1...256)]), own: "auto",
                "worker threads; auto: one per available core"),
            NativeKey("limits", .mapping(limits), "limits over all listeners"),
            NativeKey("drain", .mapping(drain), "how a drain goes"),
            NativeKey("upgrade", .mapping(upgrade), "how an upgrade of the binary goes"),
            NativeKey("shadow", .mapping(shadow), "another configuration that is asked beside this one"),
            NativeKey(
                "splice", .words(["auto", "ring", "direct", "off"]), own: "auto",
                "how directions that move in bulk are moved; fixed at start"),
            NativeKey(
                "congestion", .words(["system", "cubic", "bbr"]), own: "system",
                "the congestion control of every connection; system: that of the machine; fixed at start"),
            NativeKey(
                "steering", .words(["hash", "cpu"]), own: "hash",
                "which worker gets a connection: by a hash of its addresses, or that of the CPU that received it"),
            NativeKey("manifests", .mapping(manifests), "what manifests of Kubernetes leave open"),
        ])

    // MARK: Sections that stand once

    static let destinations = NativeShape(
        "destinations", "destinations",
        [
            NativeKey(
                "allow", .list(.exemption),
                "blocks, with ports where given, that names may resolve to although they are not public"),
            NativeKey("deny", .list(.exemption), "blocks that names may not resolve to, public or allowed"),
        ])

    static let resolver = NativeShape(
        "resolver", "resolver",
        [
            NativeKey(
                "servers", .either([.words(["system"]), .atLeastOne(.nameServer)]), own: "system",
                "name servers, port 53 where none is given; system: those of /etc/resolv.conf"),
            NativeKey("ttl", .mapping(ttl), "bounds put on an answer's TTL"),
            NativeKey("negative", .duration(zeroAllowed: true), own: "5s", "how long \"no such name\" is remembered"),
            NativeKey(
                "stale", .duration(zeroAllowed: true), own: "60s",
                "how long past its TTL an answer serves while no server answers"),
            NativeKey("timeout", .duration, own: "5s", "one name's resolution, all tries included"),
            NativeKey("families", .words(["both", "v4", "v6"]), own: "both", "addresses asked for"),
            NativeKey("cache_entries", .number(1...10_000_000), own: 10000, "names held at once"),
        ])

    static let ttl = NativeShape(
        "ttl", "resolver.ttl",
        [
            NativeKey("min", .duration(zeroAllowed: true), own: "1s", "an answer is kept at least so long"),
            NativeKey("max", .duration, own: "5m", "an answer is kept at most so long"),
        ])

    static let admin = NativeShape(
        "admin", "admin",
        [NativeKey("address", .socketAddress, required: true, "where the admin endpoint listens")])

    static let log = NativeShape(
        "log", "log",
        [
            NativeKey(
                "access", .either([.words(["stdout", "off"]), .form("/", example: "/var/log/weir/access.log")]),
                own: "stdout", "where one line per closed session goes: a path has a slash"),
            NativeKey("format", .words(["json"]), own: "json", "the format of a line"),
            NativeKey("events", .list(.words(["close"])), own: ["close"], "what a line is written for"),
        ])

    static let limits = NativeShape(
        "limits", "limits",
        [
            NativeKey(
                "connections", .number(1...100_000_000),
                "sessions at once over all listeners; default: from descriptors and memory"),
            NativeKey(
                "buffer_memory", .size(1 << 20 ... .max),
                "bytes of relay buffers over all workers; default: three eighths of the memory"),
            rate("over all listeners"), burst,
        ], rules: [.needs("burst", "rate")])

    static let drain = NativeShape(
        "drain", "drain",
        [
            NativeKey(
                "delay", .duration(zeroAllowed: true), own: "0s",
                "how long a drain goes on accepting, while readiness is gone already"),
            NativeKey(
                "timeout", .duration(zeroAllowed: true), own: "5m",
                "how long live sessions may go on after a drain has closed the listeners"),
        ])

    static let upgrade = NativeShape(
        "upgrade", "upgrade",
        [NativeKey("timeout", .duration, own: "30s", "how long the new process may take to serve")])

    static let shadow = NativeShape(
        "shadow", "shadow",
        [
            NativeKey(
                "config", .list(.text, counts: 1...10_000), required: true,
                "files and directories, as for --config, that are asked beside these and decide about nobody"),
            NativeKey("sample", .rate, own: "10/s", "differences that are told of at most"),
        ])

    static let manifests = NativeShape(
        "manifests", "manifests",
        [
            NativeKey("address", .address, "the host of the listeners that manifests ask for; default: all addresses"),
            NativeKey("clients", .mapping(clients), "who may connect to them; default: loopback, RFC 1918, fc00::/7"),
            NativeKey(
                "workload_labels", .labels,
                "the labels of the workload that this process is; only what selects them is served"),
            NativeKey("cluster_domain", .serverName, own: "cluster.local", "the DNS domain of the cluster"),
            NativeKey("node", .text, "the name of the node that this process runs on, among the Node documents"),
            NativeKey(
                "gateway_port", .number(1...65535),
                "where the gateways of an egress group listen; without it this process is the gateway"),
        ])

    // MARK: Keys that stand in many places

    static func rate(_ place: String) -> NativeKey {
        NativeKey("rate", .rate, "new sessions \(place): per second, minute or hour")
    }

    static let burst = NativeKey(
        "burst", .number(1...1_000_000),
        "how many of them may come at once after a quiet time; default: the number of the rate")

    static let upstreamKeys = [
        NativeKey("connect", .mapping(connect), "how a connection is made"),
        NativeKey(
            "send_proxy", .either([.words(["v1", "v2", "off"]), .mapping(sendProxy)]), own: "off",
            "the PROXY header sent ahead of the connection"),
        NativeKey(
            "source", .text, "the name of the pool of local addresses to connect from; default: the kernel's choice"),
        NativeKey("source_addresses", .list(.address, counts: 1...64), "a pool of its own, instead of source"),
    ]

    static let upstreamRules: [NativeShape.Rule] = [.excludes("source", ["source_addresses"])]

    static let connect = NativeShape(
        "connect", "connect",
        [
            NativeKey("timeout", .duration, own: "2s", "one attempt"),
            NativeKey("attempts", .number(1...8), own: 3, "addresses and endpoints tried at most"),
            NativeKey("total", .duration, own: "5s", "all attempts; default: 5s, or timeout if longer"),
            NativeKey(
                "retry_early_close", .boolean, own: true,
                "whether a connection that the endpoint ends before its first byte goes on to the next one"),
            NativeKey("keepalive", .mapping(keepalive), "the kernel asks a quiet endpoint whether it is still there"),
        ])

    static let keepalive = NativeShape(
        "keepalive", "connect.keepalive",
        [
            NativeKey("idle", .keepaliveTime, own: "2h", "quiet for so long before the first probe: 1s...32767s"),
            NativeKey("interval", .keepaliveTime, own: "75s", "between two probes: 1s...32767s"),
            NativeKey(
                "probes", .number(1...127), own: 9, "probes without an answer after which the connection is over"),
        ])

    static let sendProxy = NativeShape(
        "send_proxy", "send_proxy",
        [
            NativeKey(
                "version", .words(["v1", "v2"]), required: true, "the version of the header; all other keys need v2"),
            NativeKey("authority", .boolean, own: false, "send the server name (PP2_TYPE_AUTHORITY)"),
            NativeKey("crc32c", .boolean, own: false, "send a checksum (PP2_TYPE_CRC32C)"),
            NativeKey("unique_id", .boolean, own: false, "send the session's id (PP2_TYPE_UNIQUE_ID)"),
            NativeKey("alpn", .boolean, own: false, "send the first protocol that the hello offers (PP2_TYPE_ALPN)"),
            NativeKey(
                "forward_tlvs", .list(.words(["authority", "alpn", "unique_id"])),
                "fields of the client's own PROXY header that are sent on"),
            NativeKey("custom", .customTLVs, "fixed text in up to 4 TLVs of the types 0xE0...0xEF"),
            NativeKey("pad_to", .number(0...512), own: 0, "the least length of the header in bytes"),
        ])
}

// MARK: Listeners and routes

extension NativeSchema {
    static let listener = NativeShape(
        "listener", "a listener",
        [
            NativeKey("name", .text, "unique; a metric label; default: the address"),
            NativeKey("address", .socketAddress, required: true, "address with port; port 0 takes a free one"),
            NativeKey("clients", .mapping(clients), "who may connect; default: loopback, RFC 1918, fc00::/7"),
            NativeKey(
                "accept_proxy", .mapping(acceptProxy), "a PROXY header is required, and taken from these peers only"),
            NativeKey(
                "detect", .either([.words(["none"]), .list(.words(["tls", "http"]))]), own: ["tls"],
                "what the first bytes are read as; none: nothing is read before connecting"),
            NativeKey("hello", .mapping(hello), "what is taken for a ClientHello"),
            NativeKey("timeouts", .mapping(timeouts), "how long a session may take"),
            NativeKey("limits", .mapping(listenerLimits), "how many sessions are taken"),
            NativeKey(
                "half_close", .boolean, own: true, "whether one side's end is passed on while the other goes on sending"
            ),
            NativeKey("backlog", .number(1...65535), own: 4096, "length of the kernel's accept queue"),
            NativeKey("takes_ipv4", .boolean, own: false, "on [::]: IPv4 connections are taken too"),
            NativeKey(
                "manifest_port", .number(1...65535),
                "the port that manifests name: what they ask for there is served here"),
            NativeKey("routes", .list(.mapping(route)), "which connections, and where they go"),
        ])

    static let clients = NativeShape(
        "clients", "clients",
        [
            NativeKey("allow", .either([.words(["all"]), .list(.block)]), "who may connect"),
            NativeKey("deny", .list(.block), "who may not; asked before allow"),
            NativeKey(
                "rules", .list(.mapping(clientRule)),
                "instead of both: the first rule that holds the client decides; whom none holds is refused"),
        ], rules: [.excludes("rules", ["allow", "deny"])])

    static let clientRule = NativeShape(
        "client_rule", "a rule",
        [
            NativeKey("allow", .either([.words(["all"]), .block]), "clients that may connect; all stands last"),
            NativeKey("deny", .either([.words(["all"]), .block]), "clients that may not; all stands last"),
        ], rules: [.exactlyOne(["allow", "deny"])])

    static let acceptProxy = NativeShape(
        "accept_proxy", "accept_proxy",
        [
            NativeKey(
                "from", .atLeastOne(.block), required: true,
                "peers of which a PROXY header is required; all others are refused"),
            NativeKey("max_header", .size(16...65535), own: 4096, "the longest v2 header taken: addresses and TLVs"),
            NativeKey("accept_ipv4_in_tcp6", .boolean, own: false, "take TCP6 lines that carry IPv4 text"),
        ])

    static let hello = NativeShape(
        "hello", "hello",
        [
            NativeKey("max_size", .size(512...65536), own: "16KiB", "the longest ClientHello taken"),
            NativeKey(
                "ech", .words(["allow", "deny"]), own: "allow",
                "whether a hello with encrypted_client_hello is routed by its outer name"),
        ])

    static let timeouts = NativeShape(
        "timeouts", "timeouts",
        [
            NativeKey("preamble", .duration, own: "10s", "from accept to an open upstream, all included"),
            NativeKey(
                "hello", .duration, own: "5s",
                "from accept to the last byte of the PROXY header and the hello; not longer than preamble"),
            NativeKey("idle", .duration, own: "1h", "without a byte in either direction"),
            NativeKey("half_close", .duration, own: "60s", "without a byte after one side has ended"),
            NativeKey("session", .either([.words(["off"]), .duration]), own: "off", "the whole session"),
        ])

    static let listenerLimits = NativeShape(
        "listener_limits", "limits",
        [
            NativeKey("connections", .number(1...100_000_000), "sessions at once"),
            rate(""), burst,
            NativeKey("per_client", .mapping(clientLimits), "the same for one client address (IPv6: for a /64)"),
        ], rules: [.needs("burst", "rate")])

    static let clientLimits = NativeShape(
        "client_limits", "limits.per_client",
        [NativeKey("connections", .number(1...1_000_000), "sessions at once"), rate(""), burst],
        rules: [.needs("burst", "rate")])

    static let route = NativeShape(
        "route", "a route",
        [
            NativeKey("name", .text, "unique in its listener; a metric label; default: route- and its number"),
            NativeKey("match", .mapping(match), "which connections; without it all"),
            NativeKey("to", .mapping(target), "where they go"),
            NativeKey(
                "deny", .words(["unrecognized_name", "access_denied", "reset", "close"]),
                "they are refused: by a TLS alert, RST or FIN"),
            NativeKey("limits", .mapping(listenerLimits), "how many sessions the route takes"),
            NativeKey(
                "on_removed", liveSessions, own: "keep", "what becomes of its live sessions when a reload leaves it out"
            ),
        ], rules: [.exactlyOne(["to", "deny"]), .needs("on_removed", "name")])

    static let liveSessions = NativeValue.either([.words(["keep", "close"]), .mapping(drainOfSessions)])

    static let drainOfSessions = NativeShape(
        "live_sessions", "what becomes of sessions",
        [NativeKey("drain", .duration, required: true, "they go on for at most so long, and are reset then")])

    static let match = NativeShape(
        "match", "match",
        [
            NativeKey(
                "server_names", .atLeastOne(.serverNamePattern),
                "name, *.suffix (one or more labels before the suffix) or * (any name)"),
            NativeKey("clients", .atLeastOne(.block), "the client's address"),
            NativeKey("alpn", .atLeastOne(.text), "the client offers one of these protocols"),
            NativeKey("destinations", .atLeastOne(.block), "the address that the client wanted to reach"),
            NativeKey("except_destinations", .list(.block), "addresses among them that are not meant"),
            NativeKey("destination_ports", .atLeastOne(.ports), "the port that it wanted to reach"),
        ], rules: [.needs("except_destinations", "destinations")])

    static let target = NativeShape(
        "target", "to",
        [
            NativeKey("cluster", .text, "to an endpoint of this cluster"),
            NativeKey(
                "clusters", .atLeastOne(.mapping(clusterShare)),
                "to an endpoint of one of these clusters, drawn by weight once for a session"),
            NativeKey("server_name", .mapping(serverName), "to the server name itself, resolved"),
            NativeKey(
                "proxy_destination", .mapping(proxyDestination),
                "to the destination that the PROXY header names; needs accept_proxy"),
            NativeKey(
                "original_destination", .mapping(originalDestination),
                "to the destination that the client wanted before it was redirected here"),
        ],
        rules: [
            .exactlyOne(["cluster", "clusters", "server_name", "proxy_destination", "original_destination"])
        ])

    static let clusterShare = NativeShape(
        "cluster_share", "to.clusters",
        [
            NativeKey("name", .text, required: true, "a cluster"),
            NativeKey(
                "weight", .number(0...1_000_000), own: 1, "its share of the sessions, relative to the others; 0: none"),
        ])

    static let serverName = NativeShape(
        "server_name", "to.server_name",
        [
            NativeKey(
                "port", .either([.words(["listener"]), .number(1...65535)]), required: true,
                "the port to connect to; listener: the listener's own")
        ] + upstreamKeys, rules: upstreamRules)

    static let proxyDestination = NativeShape(
        "proxy_destination", "to.proxy_destination", upstreamKeys, rules: upstreamRules)

    static let originalDestination = NativeShape(
        "original_destination", "to.original_destination", upstreamKeys, rules: upstreamRules)
}

// MARK: Clusters, source pools and policies

extension NativeSchema {
    static let cluster = NativeShape(
        "cluster", "a cluster",
        [
            NativeKey("name", .text, required: true, "unique; a metric label"),
            NativeKey(
                "endpoints", .atLeastOne(.either([.endpointAddress, .mapping(endpoint)])), required: true,
                "host:port, or a mapping with address"),
        ] + upstreamKeys + [
            NativeKey(
                "private_names", .words(["allow", "deny"]), own: "deny",
                "whether names of its endpoints may resolve to private networks"),
            NativeKey(
                "health_check", .mapping(healthCheck), "every endpoint is asked again and again whether it serves"),
            NativeKey(
                "balance", .words(["round_robin", "least_connections", "random", "source_hash", "maglev"]),
                own: "round_robin", "which endpoint a session goes to"),
            NativeKey(
                "overprovisioning_factor", .number(100...1000),
                "percent: a group of priority of which h percent is good takes h times this of the connections"),
            NativeKey(
                "max_active_endpoints", .number(1...65535),
                "of each priority so many good endpoints serve, the first as written; default: all"),
            NativeKey(
                "slow_start", .duration,
                "over so long an endpoint that is new or good again gets from a tenth of its share to all of it"),
            NativeKey(
                "outlier_detection", .mapping(outlierDetection), "when an endpoint whose connects fail is ejected"),
            NativeKey("limits", .mapping(clusterLimits), "what the cluster takes over all workers"),
            NativeKey("max_connection_age", .duration, "sessions are reset after so long, give or take a tenth"),
            NativeKey(
                "on_unhealthy", liveSessions, own: "keep",
                "what becomes of an endpoint's live sessions when it is ejected or its checks fail"),
            NativeKey(
                "on_removed", liveSessions, own: "keep",
                "the same when a reload leaves the endpoint or its cluster out"),
        ], rules: upstreamRules)

    static let endpoint = NativeShape(
        "endpoint", "an endpoint",
        [
            NativeKey("address", .endpointAddress, required: true, "host:port; names are resolved when used"),
            NativeKey("weight", .number(1...65535), own: 1, "share of new connections"),
            NativeKey(
                "priority", .number(0...255), own: 0,
                "a higher group serves only while no endpoint of a lower one can be tried"),
            NativeKey("down", .boolean, own: false, "never chosen"),
            NativeKey(
                "max_fails", .number(0...65535), own: 1, "failures within fail_timeout after which it rests; 0: never"),
            NativeKey("fail_timeout", .duration, own: "10s", "the time counted in, and the time it rests"),
            NativeKey("max_connections", .number(1...100_000_000), "sessions at once over all workers"),
        ])

    static let clusterLimits = NativeShape(
        "cluster_limits", "limits",
        [
            NativeKey("connections", .number(1...100_000_000), "sessions at once"),
            NativeKey("pending", .number(1...100_000_000), "of them, those that are still connecting"),
            rate(""), burst,
        ], rules: [.needs("burst", "rate")])

    static let outlierDetection = NativeShape(
        "outlier_detection", "outlier_detection",
        [
            NativeKey(
                "consecutive_local_origin_failures", .number(0...65535), own: 5,
                "failures in a row after which an endpoint is ejected; 0: never"),
            NativeKey(
                "interval", .duration, own: "10s",
                "for each of these that an endpoint stays good it is forgiven one ejection"),
            NativeKey("base_ejection_time", .duration, own: "30s", "the n-th ejection lasts n times this"),
            NativeKey(
                "max_ejection_time", .duration, own: "5m", "at most; default: 5m, or base_ejection_time if longer"),
            NativeKey(
                "max_ejection_percent", .number(0...100), own: 10,
                "of the endpoints, ejected at once; one may always be"),
            NativeKey(
                "min_health_percent", .number(0...100), own: 0, "where fewer of the endpoints are good all serve"),
        ])

    static let healthCheck = NativeShape(
        "health_check", "health_check",
        [
            NativeKey(
                "type", .words(["tcp", "proxy", "tls", "http"]), own: "tcp", "what a check does once it has connected"),
            NativeKey("interval", .duration, own: "1s", "from the start of a check to that of the next: 10ms...1d"),
            NativeKey(
                "timeout", .duration, own: "1s", "one check, name and connect included; not longer than interval"),
            NativeKey("fall", .number(1...100), own: 2, "failures in a row that make an endpoint unhealthy"),
            NativeKey("rise", .number(1...100), own: 2, "successes in a row that make it healthy"),
            NativeKey("jitter", .number(0...50), own: 10, "how late a check may be, in percent of the interval"),
            NativeKey("port", .number(1...65535), "where checks connect; default: the endpoint's"),
            NativeKey("server_name", .serverName, "the SNI of tls, the Host of http; default: the endpoint's name"),
            NativeKey("path", .path, own: "/", "what http asks for"),
            NativeKey("expected", .atLeastOne(.status), own: ["200-399"], "statuses that are success for http"),
        ])

    static let source = NativeShape(
        "source", "a source",
        [
            NativeKey("name", .text, required: true, "unique; what source of a cluster or a route names"),
            NativeKey(
                "addresses", .list(.address, counts: 1...64), "local addresses to connect from, of one family or both"),
            NativeKey(
                "select", .words(["least_ports", "round_robin", "client_hash", "destination_hash"]), own: "least_ports",
                "which address is next"),
            NativeKey("interface", .interface, "connections leave through this interface only (SO_BINDTODEVICE)"),
            NativeKey("mark", .mark, "firewall mark of their packets (SO_MARK)"),
        ], rules: [.atLeastOne(["addresses", "interface"])])

    static let policy = NativeShape(
        "policy", "a policy",
        [
            NativeKey("name", .text, "unique; a metric label; default: policy- and its number"),
            NativeKey("match", .mapping(policyMatch), "which connections; without it all"),
            NativeKey("source", .text, "the source to connect from"),
            NativeKey("gateways", .text, "the cluster to connect through; it needs send_proxy"),
            NativeKey("to", .words(["route"]), "as the route says; policies behind it are not asked"),
        ], rules: [.exactlyOne(["source", "gateways", "to"])])

    static let policyMatch = NativeShape(
        "policy_match", "match",
        [
            NativeKey("clients", .atLeastOne(.block), "the client's address"),
            NativeKey("client_labels", .labels, "the client's address is in client_labels with all of these labels"),
            NativeKey("server_names", .atLeastOne(.serverNamePattern), "as for routes"),
            NativeKey("destinations", .atLeastOne(.block), "the address that is connected to"),
            NativeKey("except_destinations", .list(.block), "addresses among them that are not meant"),
        ], rules: [.needs("except_destinations", "destinations")])

    static let clientLabels = NativeShape(
        "client_labels", "client labels",
        [
            NativeKey("labels", .labels, required: true, "text by text, such as app: billing"),
            NativeKey("addresses", .list(.block), required: true, "the clients that have them"),
        ])
}
