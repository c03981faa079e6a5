#if Command
    import NIOHTTP1
    import WeirTelemetry

    /// A page of text, for people or for programs.
    package struct AdminTable: Sendable {
        package static let json = "application/json"
        package static let plain = "text/plain; charset=utf-8"

        let path: String
        let help: String
        let contentType: String
        let text: @Sendable () -> String

        /// `path` begins with a slash. `text` runs on the server's thread.
        package init(
            _ path: String, help: String, contentType: String = AdminTable.plain,
            text: @escaping @Sendable () -> String
        ) {
            self.path = path
            self.help = help
            self.contentType = contentType
            self.text = text
        }

        fileprivate var line: String {
            path + String(repeating: " ", count: max(1, 12 - path.count)) + help + "\n"
        }
    }

    /// What there is to read, by path.
    struct AdminPages: Sendable {
        struct Answer {
            var status: HTTPResponseStatus
            var contentType = AdminTable.plain
            var body: String
        }

        let metrics: @Sendable () -> String
        let isReady: @Sendable () -> Bool
        let tables: [AdminTable]

        /// The answer to a request for `target`, as it stands in the request line.
        func answer(_ method: HTTPMethod, _ target: String) -> Answer {
            let path = target.prefix { $0 != "?" }
            let table = tables.first { $0.path == path }
            guard table != nil || ["/", "/metrics", "/livez", "/readyz"].contains(path) else {
                return Answer(status: .notFound, body: "not found\n")
            }
            guard method == .GET || method == .HEAD else {
                return Answer(status: .methodNotAllowed, body: "only GET and HEAD\n")
            }
            if let table { return Answer(status: .ok, contentType: table.contentType, body: table.text()) }
            switch path {
            case "/metrics":
                return Answer(status: .ok, contentType: Exposition.contentType, body: metrics())
            case "/livez":
                return Answer(status: .ok, body: "alive\n")
            case "/readyz":
                return isReady()
                    ? Answer(status: .ok, body: "ready\n") : Answer(status: .serviceUnavailable, body: "not ready\n")
            default:
                return Answer(
                    status: .ok,
                    body: """
                        weir
                        /metrics    Prometheus text format 0.0.4
                        /livez      200 while the process runs
                        /readyz     200 while it serves and is not draining, else 503

                        """ + tables.map(\.line).joined())
            }
        }
    }
#endif
