import FuzzHarness
import WeirConfig
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

/// What must hold of how configuration files are read, whoever wrote them and whatever stands in them.
enum ConfigurationReading {
    /// nil where reading would open other files: what they say is not in the input.
    static func check(_ sources: [(name: String, bytes: [UInt8])]) -> String? {
        guard !sources.contains(where: { contains($0.bytes, "include") }) else { return nil }
        let result = ConfigReader.read(sources: sources)
        require(
            (result.configuration == nil) == !result.errors.isEmpty, "neither a configuration nor an error, or both")
        require(result.diagnostics.count <= 100, "\(result.diagnostics.count) diagnostics")
        require(result.notices.count <= 1000, "\(result.notices.count) notices")
        require(result.files == sources.map(\.name), "other files were read: \(result.files)")
        for diagnostic in result.diagnostics {
            requirePlace(diagnostic, sources)
            requirePrintable(diagnostic.message)
            requirePrintable(diagnostic.description)
        }
        for notice in result.notices { requirePrintable(notice) }
        let first = sources[0].bytes
        var random = FuzzRandom(of: first.span)
        if random.oneIn(8) {
            // T-22: the same files mean the same.
            let again = ConfigReader.read(sources: sources)
            let isSame = again.diagnostics == result.diagnostics && again.notices == result.notices
            require(isSame, "read again, it is something else")
        }
        guard let configuration = result.configuration else { return "refused" }
        requireUsable(configuration)
        return "accepted"
    }

    private static func contains(_ bytes: [UInt8], _ word: String) -> Bool {
        let word = Array(word.utf8)
        guard bytes.count >= word.count else { return false }
        return (0...bytes.count - word.count).contains { bytes[$0..<$0 + word.count].elementsEqual(word) }
    }

    /// A place that an editor can go to.
    private static func requirePlace(_ diagnostic: ConfigDiagnostic, _ sources: [(name: String, bytes: [UInt8])]) {
        guard let source = sources.first(where: { $0.name == diagnostic.file }) else {
            fail("a diagnostic about the file \(diagnostic.file)")
        }
        let lineCount = source.bytes.count { $0 == 0x0a } + 1
        require(
            diagnostic.line >= 0 && diagnostic.line <= lineCount, "\(lineCount) lines, but: \(diagnostic)")
        require(
            (diagnostic.line == 0) == (diagnostic.column == 0), "column \(diagnostic.column), line \(diagnostic.line)")
        require(diagnostic.column >= 0 && diagnostic.column <= source.bytes.count + 1, "column \(diagnostic.column)")
    }

    /// T-15: nothing in it steers the terminal that shows it.
    private static func requirePrintable(_ text: String) {
        for scalar in text.unicodeScalars where scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) {
            require(scalar == "\n" || scalar == "\t", "a control character in \(text.debugDescription)")
        }
    }

    /// It can be compiled and asked.
    private static func requireUsable(_ configuration: Configuration) {
        require(configuration.faults().isEmpty, "accepted with faults: \(configuration.faults().map(\.description))")
        require(!configuration.listeners.isEmpty, "accepted without a listener")
        var slots: [String: Int] = [:]
        for (slot, listener) in configuration.listeners.enumerated() { slots[listener.name] = slot }
        require(slots.count == configuration.listeners.count, "two listeners of one name")
        let table = RouteTable(compiling: configuration, slots: slots, generation: 1, metricIndex: { _ in 0 })
        let view = table.view
        for listener in configuration.listeners {
            guard let slot = slots[listener.name] else { fail("a listener without a slot") }
            var names = [ServerName.none]
            names += ["good.test", "www.good.test", "a.b.c.d.example.com"].compactMap { try? ServerName($0) }
            for name in names {
                for client in [IPAddress(10, 0, 0, 1), IPAddress(203, 0, 113, 9), .v6Loopback] {
                    _ = view.allowsClient(listener: slot, client)
                    _ = view.trustsProxyPeer(listener: slot, client)
                    guard let route = view.route(listener: slot, name: name, client: client, alpn: .none) else {
                        continue
                    }
                    require(route >= 0 && route < view.routes.count, "route \(route) of \(view.routes.count)")
                    require(!table.routeName(route).isEmpty, "a route without a name")
                }
            }
        }
        withExtendedLifetime(table) {}
    }
}
