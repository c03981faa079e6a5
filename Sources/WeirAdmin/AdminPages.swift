#if Command
    import NIOHTTP1
    import WeirTelemetry

    /// What there is to read, by path.
    struct AdminPages: Sendable {
        struct Answer {
            var status: HTTPResponseStatus
            var contentType = "text/plain; charset=utf-8"
            var body: String
        }

        let metrics: @Sendable () -> String
        let isReady: @Sendable () -> Bool

        /// The answer to a request for `target`, as it stands in the request line.
        func answer(_ method: HTTPMethod, _ target: String) -> Answer {
            let path = target.prefix { $0 != "?" }
            guard ["/", "/metrics", "/livez", "/readyz"].contains(path) else {
                return Answer(status: .notFound, body: "not found\n")
            }
            guard method == .GET || method == .HEAD else {
                return Answer(status: .methodNotAllowed, body: "only GET and HEAD\n")
            }
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
                        /metrics  Prometheus text format 0.0.4
                        /livez    200 while the process runs
                        /readyz   200 while it serves and is not draining, else 503

                        """)
            }
        }
    }
#endif
