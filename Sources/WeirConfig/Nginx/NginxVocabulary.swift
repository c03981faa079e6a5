/// Where a directive may stand.
struct NginxPlace: OptionSet, Sendable {
    let rawValue: Int

    static let main = NginxPlace(rawValue: 1)
    static let events = NginxPlace(rawValue: 2)
    static let stream = NginxPlace(rawValue: 4)
    static let server = NginxPlace(rawValue: 8)
    static let upstream = NginxPlace(rawValue: 16)

    /// In the words of a message.
    var name: String {
        let names: [(NginxPlace, String)] = [
            (.main, "at the top level"), (.events, "in `events`"), (.stream, "in `stream`"), (.server, "in `server`"),
            (.upstream, "in `upstream`"),
        ]
        return names.filter { contains($0.0) }.map(\.1).joined(separator: " or ")
    }
}

/// Every directive this reader knows, with what it makes of it.
struct NginxVocabulary {
    enum Meaning: Sendable, Equatable {
        case read
        /// Accepted; it tunes nginx itself.
        case noEffect
        /// Accepted; the reason says what happens instead.
        case noEffectBecause(String)
        case refused(String)
    }

    struct Entry: Sendable {
        var places: NginxPlace
        var meaning: Meaning
        var arguments: ClosedRange<Int>
        var hasBlock = false
    }

    private static let some = 1...Int.max
    private static let notYet = "is not supported yet"
    private static let endsTLS = "is not supported: TLS passes through and is never ended here"

    static let entries: [String: Entry] = {
        var entries: [String: Entry] = [:]
        func add(
            _ names: String, _ places: NginxPlace, _ meaning: Meaning, _ arguments: ClosedRange<Int>,
            block: Bool = false
        ) {
            for name in names.split(separator: " ") {
                entries[String(name)] = Entry(places: places, meaning: meaning, arguments: arguments, hasBlock: block)
            }
        }
        // Read.
        add("stream events", .main, .read, 0...0, block: true)
        add("worker_processes worker_shutdown_timeout", .main, .read, 1...1)
        add("map", .stream, .read, 2...2, block: true)
        add("upstream", .stream, .read, 1...1, block: true)
        add("limit_conn_zone", .stream, .read, 2...2)
        add("listen", .server, .read, some)
        add("proxy_pass", .server, .read, 1...1)
        add(
            "ssl_preread preread_timeout preread_buffer_size proxy_timeout proxy_connect_timeout proxy_next_upstream"
                + " proxy_next_upstream_tries proxy_next_upstream_timeout proxy_protocol proxy_protocol_version"
                + " proxy_protocol_timeout proxy_half_close resolver_timeout allow deny set_real_ip_from",
            [.stream, .server], .read, 1...1)
        add("proxy_bind", [.stream, .server], .read, 1...2)
        add("limit_conn", [.stream, .server], .read, 2...2)
        add("resolver access_log", [.stream, .server], .read, some)
        // Accepted without effect.
        add(
            "user pid daemon master_process load_module pcre_jit worker_priority worker_cpu_affinity"
                + " worker_rlimit_nofile worker_rlimit_core working_directory thread_pool timer_resolution lock_file env"
                + " debug_points ssl_engine",
            .main, .noEffect, some)
        add(
            "worker_connections multi_accept use accept_mutex accept_mutex_delay debug_connection worker_aio_requests",
            .events, .noEffect, some)
        add("error_log", [.main, .stream, .server], .noEffectBecause("errors go to standard error"), some)
        add("log_format", .stream, .noEffectBecause("the access log is JSON"), some)
        add(
            "variables_hash_max_size variables_hash_bucket_size map_hash_max_size map_hash_bucket_size", .stream,
            .noEffect,
            some)
        add(
            "proxy_buffer_size tcp_nodelay proxy_socket_keepalive limit_conn_log_level open_log_file_cache",
            [.stream, .server], .noEffect, some)
        add("zone", .upstream, .noEffect, 1...2)
        add("hash", .upstream, .read, 1...2)
        add("least_conn", .upstream, .read, 0...0)
        add("random", .upstream, .read, 0...2)
        // Refused.
        let onlyStream = "is not supported: only `stream` is served"
        add("http mail", .main, .refused(onlyStream), 0...0, block: true)
        add("geo split_clients", .stream, .refused(notYet), 1...2, block: true)
        add("set return pass server_name status_zone", .server, .refused(notYet), some)
        add("proxy_upload_rate proxy_download_rate limit_conn_dry_run", [.stream, .server], .refused(notYet), some)
        add(
            "proxy_requests proxy_responses", [.stream, .server], .refused("is not supported: UDP is not proxied"), some
        )
        add(
            "least_time ip_hash sticky state", .upstream,
            .refused(notYet), 0...Int.max)
        add("proxy_ssl", [.stream, .server], .refused(endsTLS), some)
        return entries
    }()

    /// The entry for the directive `name` where it stands at `place`; nil where it is unknown.
    static func entry(_ name: String, at place: NginxPlace) -> Entry? {
        switch name {
        case "server" where place == .upstream:
            return Entry(places: .upstream, meaning: .read, arguments: some)
        case "server":
            return Entry(places: .stream, meaning: .read, arguments: 0...0, hasBlock: true)
        case "resolver" where place == .upstream, "resolver_timeout" where place == .upstream:
            return Entry(places: .upstream, meaning: .refused(notYet), arguments: some)
        default:
            break
        }
        if let entry = entries[name] { return entry }
        if name.hasPrefix("ssl_") || name.hasPrefix("proxy_ssl_") {
            return Entry(places: [.stream, .server], meaning: .refused(endsTLS), arguments: some)
        }
        if name.hasPrefix("js_") {
            let meaning = Meaning.refused("is not supported: scripts are not run")
            return Entry(places: [.stream, .server], meaning: meaning, arguments: some)
        }
        return nil
    }

    /// Names that could have been meant at `place`.
    static func names(at place: NginxPlace) -> [String] {
        var names = entries.filter { $0.value.places.contains(place) }.map(\.key)
        if place == .stream || place == .upstream { names.append("server") }
        return names
    }

    /// Checks `directive` at `place` and reports what is wrong or without effect; true where it is to be read.
    static func admits(_ directive: NginxDirective, at place: NginxPlace, _ findings: Findings) -> Bool {
        let name = directive.name
        guard let entry = entry(name, at: place) else {
            findings.error(
                directive.position,
                "unknown directive \(quoted(name)) \(place.name)"
                    + (nearestWord(to: name, among: names(at: place)).map { "; did you mean \(quoted($0))?" } ?? ""))
            return false
        }
        guard entry.places.contains(place) else {
            findings.error(directive.position, "\(quoted(name)) stands \(entry.places.name), not \(place.name)")
            return false
        }
        if case .refused(let reason) = entry.meaning {
            // Turned off, what is not supported is just what happens.
            if name.hasPrefix("proxy_") || name == "limit_conn_dry_run",
                ["off", "0"].contains(directive.arguments.first?.text)
            {
                return false
            }
            findings.error(directive.position, "\(quoted(name)) \(reason)")
            return false
        }
        if entry.hasBlock != (directive.block != nil) {
            let need = entry.hasBlock ? "needs a block `{ ... }`" : "takes no block"
            findings.error(directive.position, "\(quoted(name)) \(need)")
            return false
        }
        guard entry.arguments.contains(directive.arguments.count) else {
            findings.error(directive.position, argumentCountMessage(directive, entry.arguments))
            return false
        }
        switch entry.meaning {
        case .read:
            return true
        case .noEffect:
            findings.notice(directive.position, "\(quoted(name)) has no effect here")
        case .noEffectBecause(let reason):
            findings.notice(directive.position, "\(quoted(name)) has no effect here: \(reason)")
        case .refused:
            break
        }
        return false
    }

    private static func argumentCountMessage(_ directive: NginxDirective, _ range: ClosedRange<Int>) -> String {
        let count =
            range.upperBound == .max
            ? "at least \(range.lowerBound)"
            : range.lowerBound == range.upperBound
                ? "\(range.lowerBound)" : "\(range.lowerBound) or \(range.upperBound)"
        var message = "\(quoted(directive.name)) takes \(count) argument\(count.hasSuffix("1") ? "" : "s")"
        message += ", not \(directive.arguments.count)"
        if let stray = directive.arguments.first(where: { $0.position.line > directive.position.line }) {
            message += "; is a `;` missing before line \(stray.position.line)?"
        }
        return message
    }
}
