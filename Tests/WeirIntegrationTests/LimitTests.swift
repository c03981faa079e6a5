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

    // MARK: Routes

    /// Of two routes to one origin the first has a limit.
    private func limited(_ origin: TestOrigin, _ change: (inout RouteLimits) -> Void) -> Configuration {
        Configuration.listening(.to("origin", "one.test"), .to("same")).cluster("origin", origin.address)
            .cluster("same", origin.address).adjusted { change(&$0.main.routes[0].limits) }
    }

    /// S2: what a route may have is no other route's, and what is given back can be had again.
    @Test func aRouteTakesAsManySessionsAsItMay() throws {
        let origin = try TestOrigin.echo()
        let proxy = try Proxy.start(limited(origin) { $0.connections = 9 })
        defer { proxy.stop() }
        var served = try open(30, at: proxy, name: "one.test")
        #expect(served.count == 9)
        proxy.expectClosed(21, "local_route_limit")
        #expect(try open(12, at: proxy, name: "two.test").count == 12)
        served.removeLast(4)
        eventually("four have left") { proxy.sessionCount == 5 }
        #expect(try open(10, at: proxy, name: "one.test").count == 4)
    }

    @Test func aRouteBeginsAsManySessionsAsItsRateAdmits() throws {
        let origin = try TestOrigin.echo()
        let proxy = try Proxy.start(limited(origin) { $0.rate = RateLimit(1, per: .seconds(3600), burst: 6) })
        defer { proxy.stop() }
        #expect(try open(20, at: proxy, name: "one.test").count == 6)
        proxy.expectClosed(14, "local_route_rate")
        #expect(try open(10, at: proxy, name: "two.test").count == 10)
    }

    @Test func aClientHasOnARouteWhatItMayHaveThere() throws {
        let origin = try TestOrigin.echo()
        let configuration = limited(origin) {
            $0.connectionsPerClient = 3
            $0.ratePerClient = RateLimit(1, per: .seconds(3600), burst: 5)
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let (first, second) = (IPAddress(127, 0, 0, 11), IPAddress(127, 0, 0, 12))
        var served = try open(8, at: proxy, from: first, name: "one.test")
        let others = try open(8, at: proxy, from: second, name: "one.test")
        #expect(served.count == 3 && others.count == 3)
        proxy.expectClosed(10, "local_client_limit")
        served.removeAll()
        eventually("they have left") { proxy.sessionCount == 3 }
        #expect(try open(8, at: proxy, from: first, name: "one.test").count == 2)
        proxy.expectClosed(6, "local_client_rate")
    }

    /// UP-13: a route is the same one as long as its name and its listener's are.
    @Test func aReloadLeavesARoutesSessionsCounted() throws {
        let origin = try TestOrigin.echo()
        let configuration = limited(origin) { $0.connections = 5 }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let served = try open(5, at: proxy, name: "one.test")
        #expect(served.count == 5)
        try proxy.reload(configuration.adjusted { $0.main.routes[0].limits.connections = 7 })
        let more = try open(5, at: proxy, name: "one.test")
        #expect(more.count == 2)
        proxy.expectClosed(3, "local_route_limit")
    }

    /// Connects `count` times at once and says hello; answers those that were served. The others must be reset.
    private func open(
        _ count: Int, at proxy: Proxy, listener: Int = 0, from source: IPAddress? = nil, header: String = "",
        name: String = "good.test"
    ) throws -> [TestConnection] {
        let hello = HelloBuilder(serverName: name).records()
        var served: [TestConnection] = []
        // All are accepted, on either worker, before the first is asked how it went.
        let clients = try (0..<count).compactMap { _ in
            do { return try proxy.connect(listener, from: source) } catch TestFailure.reset { return nil }
        }
        for client in clients {
            do {
                try client.send(Array(header.utf8) + hello)
                let answer = try client.receive(exactly: 7)
                // What is refused once its route is known is told so.
                if answer == alert(80) { continue }
                #expect(try answer + client.receive(exactly: hello.count - 7) == hello)
                served.append(client)
            } catch TestFailure.reset {
                continue
            }
        }
        return served
    }
}
