import WeirModel
import WeirNet

/// What the annotations of an Ingress ask for, as ingress-nginx has them.
///
/// The prefix of its first years, `ingress.kubernetes.io`, means the same.
struct IngressAnnotations {
    var isPassthrough = false
    /// To the service's own address, not to its endpoints.
    var usesVirtualAddress = false
    /// nil: everybody.
    var allowed: [CIDR]?
    var denied: [CIDR] = []
    /// Clients that no limit holds for.
    var unlimited: [CIDR] = []
    var limits = RouteLimits()
    var aliases: [ManifestText] = []
    var balance: Cluster.Balance?
    var connectTimeout: Duration?
    var connectTotal: Duration?
    var attempts: Int?
    /// It adds to another Ingress; on its own it would take that one's place.
    var isCanary = false
    /// Who may pass is decided by something that is not done here.
    var asksWhoMayPass = false
    /// Where the list of those who may connect is written.
    var allowedPosition: SourcePosition?

    /// What decides who may pass is not done here, so nobody may. What is inside TLS has nobody looked at.
    var isGuarded: Bool { asksWhoMayPass && !isPassthrough }
    /// Whether only some are let in to its paths.
    var guardsPaths: Bool {
        let letsInAll = allowed.map(Set.init)?.isSuperset(of: Self.everybody) ?? true
        return asksWhoMayPass || !denied.isEmpty || !letsInAll
    }

    /// Whether clusters need settings of their own.
    var changesClusters: Bool { balance != nil || connectTimeout != nil || connectTotal != nil || attempts != nil }

    private static let everybody = ["0.0.0.0/0", "::/0"].compactMap(CIDR.init)
    private static let prefixes = ["nginx.ingress.kubernetes.io/", "ingress.kubernetes.io/"]
    /// They are about what is inside a request or an answer.
    private static let aboutHTTP: Set<String> = [
        "add-base-url", "affinity-canary-behavior", "affinity-mode", "app-root", "auth-always-set-cookie",
        "auth-cache-duration", "auth-cache-key", "auth-keepalive", "auth-keepalive-requests",
        "auth-keepalive-share-vars", "auth-keepalive-timeout", "auth-method", "auth-proxy-set-headers", "auth-realm",
        "auth-request-redirect", "auth-response-headers", "auth-secret", "auth-secret-type", "auth-signin",
        "auth-signin-redirect-param", "auth-snippet", "auth-tls-error-page", "auth-tls-match-cn",
        "auth-tls-pass-certificate-to-upstream", "auth-tls-verify-client", "auth-tls-verify-depth", "base-url-scheme",
        "client-body-buffer-size", "configuration-snippet", "connection-proxy-header", "cors-allow-credentials",
        "cors-allow-headers", "cors-allow-methods", "cors-allow-origin", "cors-expose-headers", "cors-max-age",
        "custom-headers", "custom-http-errors", "default-backend", "disable-proxy-intercept-errors", "enable-cors",
        "enable-global-auth", "enable-opentelemetry", "enable-opentracing", "enable-owasp-core-rules",
        "enable-rewrite-log", "fastcgi-index", "fastcgi-params-configmap", "force-ssl-redirect",
        "from-to-www-redirect", "grpc-backend", "http2-push-preload", "mirror-host", "mirror-request-body",
        "mirror-target", "modsecurity-snippet", "modsecurity-transaction-id", "opentelemetry-operation-name",
        "opentelemetry-trust-incoming-span", "permanent-redirect", "permanent-redirect-code",
        "preserve-trailing-slash", "proxy-body-size", "proxy-buffer-size", "proxy-buffering", "proxy-buffers-number",
        "proxy-cookie-domain", "proxy-cookie-path", "proxy-http-version", "proxy-max-temp-file-size",
        "proxy-redirect-from", "proxy-redirect-to", "proxy-request-buffering", "proxy-ssl-ciphers", "proxy-ssl-name",
        "proxy-ssl-protocols", "proxy-ssl-secret", "proxy-ssl-server-name", "proxy-ssl-verify",
        "proxy-ssl-verify-depth", "relative-redirects", "rewrite-target", "satisfy", "server-snippet",
        "session-cookie-change-on-failure", "session-cookie-conditional-samesite-none", "session-cookie-domain",
        "session-cookie-expires", "session-cookie-hash", "session-cookie-max-age", "session-cookie-name",
        "session-cookie-partitioned", "session-cookie-path", "session-cookie-samesite", "session-cookie-secure",
        "ssl-ciphers", "ssl-prefer-server-ciphers", "ssl-redirect", "stream-snippet", "temporal-redirect",
        "temporal-redirect-code", "upstream-vhost", "use-port-in-redirects", "use-regex", "x-forwarded-prefix",
    ]
    /// They let through only some of the requests.
    private static let guards: Set<String> = ["auth-tls-secret", "auth-type", "auth-url", "enable-modsecurity"]

    init(_ manifest: Manifest) {
        var reader = Reader(manifest: manifest)
        for (name, text) in manifest.annotations.sorted(by: { $0.key < $1.key }) {
            if let prefix = Self.prefixes.first(where: name.hasPrefix) {
                reader.values[String(name.dropFirst(prefix.count))] = (name, text)
            } else if name.hasPrefix("nginx.org/") || name.hasPrefix("nginx.com/") {
                reader.unsupported(name, text, "of another controller, is not known here")
            }
        }
        readChoices(&reader)
        readClients(&reader)
        readLimits(&reader)
        readConnect(&reader)
        reportRest(&reader)
    }

    private mutating func readChoices(_ reader: inout Reader) {
        isPassthrough = reader.boolean("ssl-passthrough") ?? false
        usesVirtualAddress = reader.boolean("service-upstream") ?? false
        isCanary = reader.boolean("canary") ?? false
        if isCanary {
            for name in reader.values.keys where name.hasPrefix("canary-") { reader.values[name] = nil }
        }
        aliases = reader.list("server-alias")
        if let (name, text) = reader.take("upstream-hash-by") {
            if ["$remote_addr", "$binary_remote_addr"].contains(text.value) {
                balance = .sourceHash
            } else {
                reader.unsupported(name, text, "only the client's address is hashed: $remote_addr")
            }
        }
        if let (name, text) = reader.take("load-balance") {
            switch text.value {
            case "round_robin": break
            case "least_conn": balance = balance ?? .leastConnections
            case "ip_hash": balance = balance ?? .sourceHash
            default: reader.unsupported(name, text, "\(quoted(text.value)) is not known here")
            }
        }
        if let (name, text) = reader.take("affinity") {
            reader.unsupported(name, text, "cookies are HTTP's; `upstream-hash-by: $remote_addr` keeps clients too")
        }
        for key in ["backend-protocol", "secure-backends"] {
            guard let (name, text) = reader.take(key) else { continue }
            // What is passed through arrives as the client sent it.
            let fits = isPassthrough || ["HTTP", "AUTO_HTTP", "FALSE"].contains(text.value.uppercased())
            if !fits { reader.unsupported(name, text, "nothing is encrypted here that the client did not") }
        }
    }

    private mutating func readClients(_ reader: inout Reader) {
        for key in ["whitelist-source-range", "allowlist-source-range"] {
            guard let (_, text) = reader.values[key], let blocks = reader.blocks(key) else { continue }
            allowed = (allowed ?? []) + blocks
            allowedPosition = text.position
        }
        for key in ["denylist-source-range", "blacklist-source-range"] { denied += reader.blocks(key) ?? [] }
        for key in ["limit-whitelist", "limit-allowlist"] { unlimited += reader.blocks(key) ?? [] }
    }

    private mutating func readLimits(_ reader: inout Reader) {
        let most = RateLimit.countRange.upperBound
        let multiplier = reader.integer("limit-burst-multiplier") ?? 5
        if let connections = reader.integer("limit-connections"), connections > 0 {
            limits.connectionsPerClient = min(connections, most)
        }
        for (key, period) in [("limit-rps", Duration.seconds(1)), ("limit-rpm", .seconds(60))] {
            guard let (name, text) = reader.values[key], let count = reader.integer(key), count > 0 else { continue }
            // ingress-nginx says of the two that the first takes precedence.
            if limits.ratePerClient != nil {
                reader.unsupported(name, text, "there is one rate for each client, and limit-rps is taken")
                continue
            }
            let burst = count.multipliedReportingOverflow(by: max(multiplier, 1))
            limits.ratePerClient = RateLimit(
                min(count, most), per: period, burst: burst.overflow ? most : min(burst.partialValue, most))
            reader.say(text, "\(name) counts connections here: requests are not looked at")
        }
        for key in ["limit-rate", "limit-rate-after"] {
            guard let (name, text) = reader.take(key), text.value != "0" else { continue }
            reader.unsupported(name, text, "how fast bytes move is not limited here")
        }
    }

    private mutating func readConnect(_ reader: inout Reader) {
        if let seconds = reader.seconds("proxy-connect-timeout"), seconds > .zero { connectTimeout = seconds }
        if let tries = reader.integer("proxy-next-upstream-tries") { attempts = tries == 0 ? 8 : min(tries, 8) }
        if let seconds = reader.seconds("proxy-next-upstream-timeout"), seconds > .zero { connectTotal = seconds }
        if let (name, text) = reader.take("proxy-next-upstream") {
            let conditions = Set(text.value.split(separator: " "))
            if conditions.contains("off") { attempts = 1 }
            let others = conditions.subtracting(["off", "error", "timeout"]).sorted().joined(separator: ", ")
            if !others.isEmpty { reader.unsupported(name, text, "answers are not looked at, so not for \(others)") }
        }
        for key in ["proxy-read-timeout", "proxy-send-timeout"] {
            guard let (name, text) = reader.take(key) else { continue }
            reader.unsupported(
                name, text, "silence is timed for the whole listener: its `timeouts.idle` in native YAML")
        }
    }

    private mutating func reportRest(_ reader: inout Reader) {
        for (key, (name, text)) in reader.values.sorted(by: { $0.key < $1.key }) {
            // Switched off it asks for nothing.
            let isOff = ["false", "off"].contains(text.value.lowercased())
            if Self.guards.contains(key) {
                if isOff { continue }
                reader.unsupported(
                    name, text,
                    isPassthrough
                        ? "what is inside TLS is not looked at"
                        : "who is let through is not decided by this here, so that nobody is")
                asksWhoMayPass = true
            } else if Self.aboutHTTP.contains(key) {
                if isOff { continue }
                reader.unsupported(name, text, "it is about HTTP, which is passed on as it comes")
            } else if key == "enable-access-log" {
                if isOff { reader.unsupported(name, text, "there is one log for all: `log.access` in native YAML") }
            } else {
                reader.unsupported(name, text, "is not known here")
            }
        }
    }

    /// The annotations by their names without prefix, until someone has taken them.
    private struct Reader {
        let manifest: Manifest
        var values: [String: (name: String, text: ManifestText)] = [:]

        mutating func take(_ key: String) -> (name: String, text: ManifestText)? { values.removeValue(forKey: key) }

        mutating func boolean(_ key: String) -> Bool? {
            guard let (name, text) = take(key) else { return nil }
            // As Go's strconv.ParseBool takes them.
            if ["true", "TRUE", "True", "t", "T", "1"].contains(text.value) { return true }
            if ["false", "FALSE", "False", "f", "F", "0"].contains(text.value) { return false }
            error(name, text, "expected true or false")
            return nil
        }

        mutating func integer(_ key: String) -> Int? {
            guard let (name, text) = take(key) else { return nil }
            guard let value = decimal(text.value) else {
                error(name, text, "expected a number")
                return nil
            }
            return value
        }

        /// Seconds, with or without their unit.
        mutating func seconds(_ key: String) -> Duration? {
            guard let (name, text) = take(key) else { return nil }
            let value = decimal(text.value) == nil ? goDuration(text.value) : goDuration("\(text.value)s")
            if value == nil { error(name, text, "expected a number of seconds") }
            return value
        }

        mutating func list(_ key: String) -> [ManifestText] {
            guard let (_, text) = take(key) else { return [] }
            return text.value.split(separator: ",").map {
                ManifestText(value: Self.trimmed($0), position: text.position)
            }.filter { !$0.value.isEmpty }
        }

        mutating func blocks(_ key: String) -> [CIDR]? {
            guard let (name, text) = values[key] else { return nil }
            return list(key).compactMap { item in
                if let block = CIDR(item.value) { return block }
                error(name, text, "\(quoted(item.value)) is no address and no block of addresses")
                return nil
            }
        }

        func unsupported(_ name: String, _ text: ManifestText, _ message: String) {
            manifest.fields.unsupported(at: text.position, "annotation \(name): \(message)")
        }

        func say(_ text: ManifestText, _ message: String) {
            manifest.fields.say(text.position, "annotation \(message)")
        }

        private func error(_ name: String, _ text: ManifestText, _ message: String) {
            manifest.fields.error(text.position, "annotation \(name)", "\(message), found \(quoted(text.value))")
        }

        private static func trimmed(_ text: Substring) -> String {
            String(text.drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
        }
    }
}
