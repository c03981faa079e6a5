#if Command
    import Glibc
    import Testing
    import Weir
    import WeirAdmin
    import WeirNet

    @Suite struct AdminClientTests {
        private func serving(_ page: String) throws -> AdminServer {
            try AdminServer.start(
                address: SocketAddress(.v4Loopback, port: 0), metrics: { "" }, isReady: { false },
                tables: [AdminTable("/page", help: "") { page }])
        }

        private func failure(_ client: AdminClient, _ path: String) -> AdminClient.Failure? {
            do {
                _ = try client.page(path)
                return nil
            } catch {
                return error
            }
        }

        @Test func aPageIsReadWhole() throws {
            let page = String(repeating: "0123456789\n", count: 100_000)
            let server = try serving(page)
            defer { server.stop() }
            let client = try #require(AdminClient("http://\(server.boundAddress)"))
            #expect(try client.page("/page") == page)
        }

        @Test func aPageThatIsTooLongIsGivenUp() throws {
            let server = try serving(String(repeating: "x", count: AdminClient.byteCountMax + 1))
            defer { server.stop() }
            let client = try #require(AdminClient("\(server.boundAddress)"))
            #expect(failure(client, "/page") == .tooLong)
        }

        @Test func aPageThatIsNotThereIsAFailure() throws {
            let server = try serving("")
            defer { server.stop() }
            let client = try #require(AdminClient("\(server.boundAddress)"))
            #expect(failure(client, "/other") == .status(404))
        }

        @Test func aServerThatSaysNothingIsGivenUp() throws {
            // Listens and never accepts.
            let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(socket) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            unsafe withUnsafeMutablePointer(to: &address) {
                unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    _ = unsafe bind(socket, $0, length)
                    _ = listen(socket, 1)
                    _ = unsafe getsockname(socket, $0, &length)
                }
            }
            let port = UInt16(bigEndian: address.sin_port)
            let client = try #require(AdminClient("127.0.0.1:\(port)", timeout: .milliseconds(50)))
            #expect(failure(client, "/page") == .timedOut)
        }

        @Test(arguments: ["127.0.0.1:9901", "http://127.0.0.1:9901", "http://localhost:9901/", "http://[::1]:9901"])
        func theAddressOfAnEndpointIsTaken(_ url: String) { #expect(AdminClient(url) != nil) }

        @Test(arguments: [
            "", "127.0.0.1", "https://127.0.0.1:9901", "http://a:b", "::1:9901", "http://a:0", "http://a\r\nb:1",
            "http://u@a:1",
        ])
        func whatIsNoAddressOfAnEndpointIsNot(_ url: String) { #expect(AdminClient(url) == nil) }
    }
#endif
