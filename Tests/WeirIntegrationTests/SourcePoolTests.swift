import Testing
import Weir
import WeirModel
import WeirNet
import WeirTesting

/// S0-5, S0-6: a pool of source addresses on a real kernel.
@Suite struct SourcePoolTests {
    /// 203.0.113.0/24 is for documentation: nobody has it, as if it had been removed from the machine.
    @Test func sessionsComeFromThePoolAndPassOverAnAddressThatIsNotOurs() throws {
        let origin = try TestListener()
        let configuration = Configuration.listening(.to("origin")).cluster("origin", origin.address) {
            $0.upstream.source = "pool"
            $0.upstream.attempts = 1
        }.adjusted {
            let pool = SourcePool(
                name: "pool",
                addresses: [IPAddress(127, 0, 0, 11), IPAddress(203, 0, 113, 10), IPAddress(127, 0, 0, 12)])
            $0.sources = [pool]
            $0.workerCount = 1
        }
        let proxy = try Proxy.start(configuration)
        defer { proxy.stop() }
        let sessions = try (0..<6).map { _ in try proxy.relayed(to: origin) }
        let sources = sessions.map { $0.upstream.peer.ip }
        #expect(Set(sources) == [IPAddress(127, 0, 0, 11), IPAddress(127, 0, 0, 12)])
    }
}
