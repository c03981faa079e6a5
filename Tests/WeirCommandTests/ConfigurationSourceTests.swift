import Testing
import Weir
import WeirCommand
import WeirModel
import WeirNet

@Suite struct ConfigurationSourceTests {
    @Test func noFileMeansTheBuiltInConfiguration() {
        let reading = ConfigurationSource().read()
        #expect(reading.configuration == .egressDefault())
        #expect(reading.files.isEmpty)
    }

    @Test func theCommandLineIsHeardOverTheConfiguration() throws {
        var source = ConfigurationSource()
        source.overrides.listen = SocketAddress(.v6Loopback, port: 4443)
        source.overrides.workerCount = 3
        source.overrides.admin = .off
        source.overrides.accessLog = .file("/var/log/weir.log")
        let configuration = try #require(source.read().configuration)
        #expect(configuration.listeners[0].address == SocketAddress(.v6Loopback, port: 4443))
        #expect(configuration.workerCount == 3)
        #expect(configuration.admin == nil)
        #expect(configuration.log.access == .file("/var/log/weir.log"))
    }

    @Test func whatTheCommandLineBreaksIsAFault() {
        var source = ConfigurationSource()
        source.overrides.workerCount = 0
        let reading = source.read()
        #expect(reading.configuration == nil)
        #expect(reading.diagnostics == ["error: workers: 0 is not in 1...256"])
    }

    @Test func theSummaryCountsPartsInWords() {
        var configuration = Configuration.egressDefault()
        #expect(configuration.summary == "1 listener, 1 route, 0 clusters")
        configuration.listeners[0].routes.append(Route(name: "rest", action: .deny(.close)))
        #expect(configuration.summary == "1 listener, 2 routes, 0 clusters")
    }
}
