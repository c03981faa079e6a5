import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// Limits hold exactly over two workers, and what is given back can be had again.
@Suite struct LimitTests {
    private static let everyLoopback = [CIDR(IPAddress(127, 0, 0, 0), prefixLength: 8)]

    @Test func aListenerTakesAsManySessionsAsItMay() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.main.limits.connections = 20
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        var served = try open(60, at: proxy)
        #expect(served.count == 20)
        proxy.expectClosed(40, "local_listener_limit")
        served.removeLast(7)
        eventually("seven have left") { proxy.sessionCount == 13 }
        #expect(try open(30, at: proxy).count == 7)
    }

    @Test func theProcessTakesAsManySessionsAsItMay() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.limits.connections = 16
            $0.listeners.append(.local("second", [.to("origin")]))
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let first = try open(10, at: proxy)
        let second = try open(10, at: proxy, listener: 1)
        #expect(first.count == 10 && second.count == 6)
        proxy.expectClosed(4, "local_connection_limit")
    }

    @Test func aClientHasAsManySessionsAsItMayAndTheNextOneTheSame() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.main.limits.connectionsPerClient = 5
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        var first = try open(20, at: proxy, from: IPAddress(127, 0, 0, 11))
        let second = try open(20, at: proxy, from: IPAddress(127, 0, 0, 12))
        #expect(first.count == 5 && second.count == 5)
        proxy.expectClosed(30, "local_client_limit")
        first.removeLast(2)
        eventually("two have left") { proxy.sessionCount == 8 }
        #expect(try open(10, at: proxy, from: IPAddress(127, 0, 0, 11)).count == 2)
    }

    /// T-14: an hour passes before the next, so what is served is the burst, over both workers.
    @Test func aClientBeginsAsManySessionsAsItsRateAdmits() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.main.limits.ratePerClient = RateLimit(1, per: .seconds(3600), burst: 5)
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let first = try open(20, at: proxy, from: IPAddress(127, 0, 0, 11))
        let second = try open(20, at: proxy, from: IPAddress(127, 0, 0, 12))
        #expect(first.count == 5 && second.count == 5)
        proxy.expectClosed(30, "local_client_rate")
    }

    @Test func aListenerBeginsAsManySessionsAsItsRateAdmitsWhoeverAsks() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.main.limits.rate = RateLimit(1, per: .seconds(3600), burst: 6)
            $0.main.limits.ratePerClient = RateLimit(1, per: .seconds(3600), burst: 4)
            $0.listeners.append(.local("second", [.to("origin")]))
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        // What the first client is refused by its own rate does not use up the listener's.
        let first = try open(20, at: proxy, from: IPAddress(127, 0, 0, 11))
        let second = try open(20, at: proxy, from: IPAddress(127, 0, 0, 12))
        #expect(first.count == 4 && second.count == 2)
        proxy.expectClosed(32, "local_client_rate")
        proxy.expectClosed(2, "local_listener_rate")
        #expect(try open(10, at: proxy, listener: 1).count == 10)
    }

    @Test func theProcessBeginsAsManySessionsAsItsRateAdmits() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.limits.rate = RateLimit(1, per: .seconds(3600), burst: 7)
            $0.listeners.append(.local("second", [.to("origin")]))
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let first = try open(5, at: proxy)
        let second = try open(5, at: proxy, listener: 1)
        #expect(first.count == 5 && second.count == 2)
        proxy.expectClosed(3, "local_connection_rate")
    }

    /// T-14 with PP-27: whoever is behind one trusted peer is counted by the address in its header.
    @Test func clientsBehindAPeerAreCountedByTheirOwnAddress() throws {
        let origin = try TestOrigin.echo()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address).adjusted {
            $0.main.limits.connectionsPerClient = 3
            $0.main.clients = .everyone
            $0.main.acceptProxy = AcceptProxy(from: Self.everyLoopback)
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        var served: [TestConnection] = []
        for host in 1...2 {
            let header = "PROXY TCP4 192.0.2.\(host) 198.51.100.7 4000 443\r\n"
            let these = try open(8, at: proxy, header: header)
            #expect(these.count == 3)
            served += these
        }
        // Of one /64: IPv6 customers have that many addresses.
        let these = try (1...8).flatMap {
            try open(1, at: proxy, header: "PROXY TCP6 2001:db8::\($0) 2001:db8:1::1 4000 443\r\n")
        }
        #expect(these.count == 3)
    }

    /// Connects `count` times at once and says hello; answers those that were served. The others must be reset.
    private func open(
        _ count: Int, at proxy: Proxy, listener: Int = 0, from source: IPAddress? = nil, header: String = ""
    ) throws -> [TestConnection] {
        let hello = HelloBuilder().records()
        var served: [TestConnection] = []
        // All are accepted, on either worker, before the first is asked how it went.
        let clients = try (0..<count).compactMap { _ in
            do { return try proxy.connect(listener, from: source) } catch TestFailure.reset { return nil }
        }
        for client in clients {
            do {
                try client.send(Array(header.utf8) + hello)
                #expect(try client.receive(exactly: hello.count) == hello)
                served.append(client)
            } catch TestFailure.reset {
                continue
            }
        }
        return served
    }
}
