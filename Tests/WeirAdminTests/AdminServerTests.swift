#if Command
    import Glibc
    import Synchronization
    import Testing
    import Weir
    import WeirAdmin
    import WeirNet

    @Suite struct AdminServerTests {
        /// A running server on a free port, stopped at the end of the test.
        private final class Ground: Sendable {
            let server: AdminServer

            init(limits: AdminServer.Limits = AdminServer.Limits()) throws {
                let flag = ReadyFlag()
                ready = flag
                server = try AdminServer.start(
                    address: SocketAddress(.v4Loopback, port: 0), limits: limits,
                    metrics: { "weir_test_total 1\n" }, isReady: { flag.isReady.load(ordering: .relaxed) })
            }

            deinit { server.stop() }

            let ready: ReadyFlag
            var port: UInt16 { server.boundAddress.port }
        }

        private final class ReadyFlag: Sendable { let isReady = Atomic<Bool>(true) }

        private func exchange(_ ground: Ground, _ request: String) throws -> (
            status: String, head: String, body: String
        ) {
            let client = HTTPClient(port: ground.port)
            client.send(request)
            let text = try #require(client.receiveToEnd())
            let parts = text.split(separator: "\r\n\r\n", maxSplits: 1, omittingEmptySubsequences: false)
            let status = text.split(separator: " ", maxSplits: 2).dropFirst().first.map(String.init) ?? ""
            return (status, parts.first.map(String.init) ?? "", parts.count > 1 ? String(parts[1]) : "")
        }

        private func get(_ ground: Ground, _ path: String, method: String = "GET") throws -> (
            status: String, head: String, body: String
        ) {
            try exchange(ground, "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        }

        @Test func metricsComeInThePrometheusFormat() throws {
            let answer = try get(Ground(), "/metrics")
            #expect(answer.status == "200")
            #expect(answer.body == "weir_test_total 1\n")
            #expect(answer.head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"))
            #expect(answer.head.contains("Content-Length: 18"))
        }

        @Test func aQueryIsIgnored() throws {
            #expect(try get(Ground(), "/metrics?name[]=up").status == "200")
        }

        @Test func theProcessIsAliveWhileItAnswers() throws {
            let ground = try Ground()
            ground.ready.isReady.store(false, ordering: .relaxed)
            #expect(try get(ground, "/livez").status == "200")
        }

        @Test func readinessFollowsTheProxy() throws {
            let ground = try Ground()
            #expect(try get(ground, "/readyz").status == "200")
            ground.ready.isReady.store(false, ordering: .relaxed)
            #expect(try get(ground, "/readyz").status == "503")
        }

        @Test func theRootListsWhatThereIs() throws {
            let answer = try get(Ground(), "/")
            #expect(answer.status == "200")
            for path in ["/metrics", "/livez", "/readyz"] { #expect(answer.body.contains(path)) }
        }

        @Test func headHasTheHeadersAndNoBody() throws {
            let answer = try get(Ground(), "/metrics", method: "HEAD")
            #expect(answer.status == "200")
            #expect(answer.head.contains("Content-Length: 18"))
            #expect(answer.body == "")
        }

        @Test func anotherPathIsNotFound() throws {
            #expect(try get(Ground(), "/admin").status == "404")
            #expect(try get(Ground(), "/metrics/").status == "404")
        }

        @Test(arguments: ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
        func anotherMethodIsNotAllowed(method: String) throws {
            let answer = try get(Ground(), "/metrics", method: method)
            #expect(answer.status == "405")
            #expect(answer.head.contains("Allow: GET, HEAD"))
        }

        @Test func twoRequestsShareAConnection() throws {
            let ground = try Ground()
            let answer = try exchange(
                ground,
                "GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            #expect(answer.head.contains("Connection: keep-alive"))
            #expect(answer.body.contains("alive\n"))
            #expect(answer.body.hasSuffix("ready\n"))
        }

        @Test func anHTTP10RequestIsAnsweredAndClosed() throws {
            let answer = try exchange(Ground(), "GET /livez HTTP/1.0\r\n\r\n")
            #expect(answer.status == "200")
            #expect(answer.head.contains("Connection: close"))
        }

        @Test func aClientThatEndsItsDirectionIsStillAnswered() throws {
            let ground = try Ground()
            let client = HTTPClient(port: ground.port)
            client.send("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            client.endOutput()
            let text = try #require(client.receiveToEnd())
            #expect(text.hasPrefix("HTTP/1.1 200"))
        }

        /// T-21: a head that does not end is refused at its limit, and the refusal arrives.
        @Test func aHeadThatIsTooLongIsRefused() throws {
            let padding = String(repeating: "a", count: 32768)
            let answer = try exchange(Ground(), "GET /metrics HTTP/1.1\r\nHost: a\r\nX-Padding: \(padding)")
            #expect(answer.status == "431")
            #expect(answer.head.contains("Connection: close"))
        }

        /// T-21: so is a body without end, although nobody reads it.
        @Test func aBodyThatIsTooLongIsRefused() throws {
            let body = String(repeating: "a", count: 32768)
            let answer = try exchange(
                Ground(), "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n\(body)")
            #expect(answer.status == "431")
        }

        @Test func manySmallRequestsAreNotOneLongOne() throws {
            let one = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
            let ground = try Ground()
            let client = HTTPClient(port: ground.port)
            for _ in 0..<1000 {
                client.send(one)
                let answer = try #require(client.receive())
                #expect(answer.hasPrefix("HTTP/1.1 200"))
            }
        }

        @Test func whatIsNotHTTPIsRefused() throws {
            #expect(try exchange(Ground(), "\u{16}\u{3}\u{1}nonsense\r\n\r\n").status == "400")
        }

        /// T-21: time is per request, not per byte, so a slow head ends as a silent client does.
        @Test func aRequestThatDoesNotEndInTimeIsClosed() throws {
            var limits = AdminServer.Limits()
            limits.exchangeTimeout = .milliseconds(50)
            let ground = try Ground(limits: limits)
            let client = HTTPClient(port: ground.port)
            client.send("GET /metrics HTTP/1.1\r\n")
            #expect(client.receiveToEnd() == "")
        }

        /// T-21: one connection more than the limit is closed unanswered; the others are served.
        @Test func connectionsBeyondTheLimitAreClosed() throws {
            var limits = AdminServer.Limits()
            limits.connections = 1
            let ground = try Ground(limits: limits)
            let request = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
            let first = HTTPClient(port: ground.port)
            first.send(request)
            #expect(first.receive()?.hasPrefix("HTTP/1.1 200") == true)
            let second = HTTPClient(port: ground.port)
            #expect((second.receiveToEnd() ?? "") == "")
            first.send(request)
            #expect(first.receive()?.hasPrefix("HTTP/1.1 200") == true)
        }

        @Test func aPlaceIsFreeAgainWhenAConnectionEnds() throws {
            var limits = AdminServer.Limits()
            limits.connections = 1
            let ground = try Ground(limits: limits)
            for _ in 0..<5 {
                // The end of one may be seen after the next has come; it is then refused, and asks again.
                var status: String? = nil
                for _ in 0..<1000 where status != "200" {
                    let client = HTTPClient(port: ground.port)
                    client.send("GET /livez HTTP/1.0\r\n\r\n")
                    status = client.receiveToEnd()?.split(separator: " ").dropFirst().first.map(String.init)
                }
                #expect(status == "200")
            }
        }

        @Test func anAddressInUseIsAnError() throws {
            let ground = try Ground()
            let failure = #expect(throws: AdminServer.Failure.self) {
                try AdminServer.start(address: ground.server.boundAddress, metrics: { "" }, isReady: { true })
            }
            #expect(failure?.code == EADDRINUSE)
        }

        /// P-08: another process has the socket, too.
        @Test func aServerThatLeavesAnswersWhomItHasAndTakesNobodyElse() throws {
            let socket = try ExclusiveSocket(listeningOn: SocketAddress(.v4Loopback, port: 0))
            let shared = dup(socket.descriptor)
            defer { close(shared) }
            let server = try AdminServer.start(socket: socket, metrics: { "" }, isReady: { true })
            let (silent, kept) = (HTTPClient(port: socket.address.port), HTTPClient(port: socket.address.port))
            let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
            kept.send(request)
            #expect(kept.receive()?.contains("Connection: keep-alive") == true)
            server.leave()
            #expect(kept.receive() == "")
            let late = HTTPClient(port: socket.address.port)
            late.send(request)
            silent.send(request)
            let answer = try #require(silent.receiveToEnd())
            #expect(answer.contains("Connection: close") && answer.hasSuffix("alive\n"))
            server.stop()
            // Whoever came later waits for the process that serves.
            let next = accept(shared, nil, nil)
            #expect(next >= 0)
            close(next)
        }

        @Test func afterAStopThePortIsFree() throws {
            let ground = try Ground()
            let client = HTTPClient(port: ground.port)
            ground.server.stop()
            ground.server.stop()
            #expect((client.receiveToEnd() ?? "") == "")
            let next = try AdminServer.start(address: ground.server.boundAddress, metrics: { "" }, isReady: { true })
            next.stop()
        }
    }
#endif
