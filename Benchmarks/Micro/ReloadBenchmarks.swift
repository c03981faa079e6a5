import Benchmark
import WeirConfig
import WeirMemory
import WeirModel
import WeirNet
import WeirRouting

/// 10,000 exact names, 1,000 wildcards and 10,000 blocks of addresses: what reading, compiling and publishing them costs
/// the thread that reloads, and what looking something up among them costs a worker.
func registerReloadBenchmarks() {
    measure("reload-publish", scale: .one, allocates: true, of: Reload()) { reload, _ in reload.publish() }
    measure("reload-yaml-publish", scale: .one, allocates: true, of: Reload()) { reload, _ in
        reload.read()
        reload.publish()
    }
    measure("reload-lookup", of: Reload()) { $0.lookUp($1) }
}

private struct Reload {
    private static let exactCount = 10_000
    private static let wildcardCount = 1000
    private static let blockCount = 10_000

    private let text = Array(Self.yaml().utf8)
    private var configuration = Configuration()
    private let cell: SnapshotCell<RouteTable>
    private let view: RouteView
    private let table: RouteTable
    private let names: FlatArray<ServerName>
    private let clients: FlatArray<IPAddress>

    init() {
        guard let configuration = ConfigReader.read(sources: [(name: "weir.yaml", bytes: text)]).configuration else {
            preconditionFailure("the text is no configuration")
        }
        self.configuration = configuration
        table = Self.compiled(configuration)
        view = table.view
        // No reader: what was published before is freed at once, which is a part of a reload, too.
        cell = SnapshotCell(table, readerCount: 0)
        names = FlatArray(
            (0..<1000).map { index in
                let name =
                    index % 10 == 9
                    ? "www.zone-\(index * 7919 % Self.wildcardCount).example.net"
                    : "host-\(index * 7919 % Self.exactCount).example.com"
                do { return try ServerName(name) } catch { preconditionFailure("\(error)") }
            })
        clients = FlatArray((0..<1000).map { Self.block($0 * 7919 % Self.blockCount) })
    }

    private static func block(_ index: Int) -> IPAddress {
        IPAddress(100, UInt8(64 + index >> 12), UInt8(index >> 4 & 255), UInt8(index << 4 & 255))
    }

    /// As people write it: a route per name, and whom one of them is for.
    private static func yaml() -> String {
        var text = "listeners:\n  - name: main\n    address: 127.0.0.1:443\n    clients:\n      allow:\n"
        for index in 0..<blockCount { text += "        - \(block(index))/28\n" }
        text += "    routes:\n"
        for index in 0..<exactCount { text += route("host-\(index).example.com") }
        for index in 0..<wildcardCount { text += route("*.zone-\(index).example.net") }
        return text + "clusters:\n  - name: partners\n    endpoints: [10.0.0.1:443]\n"
    }

    private static func route(_ name: String) -> String {
        "      - name: to-\(name)\n        match: { server_names: [\"\(name)\"] }\n        to: { cluster: partners }\n"
    }

    private static func compiled(_ configuration: Configuration) -> RouteTable {
        RouteTable(
            compiling: configuration, slots: ["main": 0], generation: 1, key: SipKey(low: 1, high: 2),
            metricIndex: { _ in 0 })
    }

    mutating func read() {
        guard let read = ConfigReader.read(sources: [(name: "weir.yaml", bytes: text)]).configuration else {
            preconditionFailure("the text is no configuration")
        }
        configuration = read
    }

    func publish() { cell.publish(Self.compiled(configuration)) }

    /// May this client connect, and where to?
    func lookUp(_ count: Int) {
        precondition(count == names.count)
        var total = 0
        for index in 0..<count {
            guard view.allowsClient(listener: 0, clients[index]) else { continue }
            if view.route(listener: 0, name: names[index], client: clients[index], alpn: .none) != nil { total += 1 }
        }
        precondition(total == count)
    }
}
