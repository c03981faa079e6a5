import Testing
import Weir
import WeirTesting

@Test func aClientGetsThroughAProxy() throws {
    let origin = try TestOrigin.echo()
    var configuration = Configuration.egressDefault(address: SocketAddress(.v4Loopback, port: 0), admin: nil)
    configuration.clusters = [Cluster(name: "origin", endpoints: [Endpoint(origin.address)])]
    configuration.listeners[0].routes = [Route(name: "origin", action: .cluster("origin"))]
    configuration.log.access = .none
    let proxy = try Proxy.start(configuration)
    defer { proxy.stop() }  // ends every thread and closes every descriptor

    let client = try TestConnection.connect(to: proxy.listeners[0].address)  // port 0 became a free one
    let hello = try client.sendHello("example.com")
    #expect(try client.receive(exactly: hello.count) == hello)
}
