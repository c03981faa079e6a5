import Testing
import Weir
import WeirCommand
import WeirNet

@Suite struct BannerTests {
    private func banner(_ address: String, isForCurl: Bool = true) throws -> [String] {
        let line = Banner.Line(name: "egress", address: try #require(SocketAddress(address)), isForCurl: isForCurl)
        return Banner(listeners: [line], driver: "uring", workerCount: 2, admin: nil).lines
    }

    @Test func everyListenerHasALine() throws {
        #expect(
            try banner("127.0.0.1:8443") == [
                "weir \(weirVersion): uring, 2 workers",
                "listener egress: 127.0.0.1:8443",
                "admin: off",
                "try: curl --connect-to ::127.0.0.1:8443 https://example.com/",
            ])
    }

    @Test(arguments: [("0.0.0.0:443", "127.0.0.1:443"), ("[::]:443", "[::1]:443")])
    func curlIsSentToLoopbackWhereEveryAddressIsListenedOn(address: String, shown: String) throws {
        #expect(try banner(address).last == "try: curl --connect-to ::\(shown) https://example.com/")
    }

    @Test func noListenerForTLSMeansNoCurlLine() throws {
        #expect(try banner("127.0.0.1:8443", isForCurl: false).last == "admin: off")
    }
}
