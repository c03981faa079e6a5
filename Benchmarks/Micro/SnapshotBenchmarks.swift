import Benchmark
import WeirMemory
import WeirModel
import WeirRouting

func registerSnapshotBenchmarks() {
    // What every turn of a worker costs.
    measure(
        "snapshot-adopt-nothing", scale: .mega, of: Snapshots(), prepare: { $0.settle() },
        run: { $0.adoptNothing($1) })
    measure("snapshot-adopt-new", of: Snapshots(), prepare: { $0.publish() }, run: { $0.adoptNew($1) })
}

private struct Snapshots: ~Copyable {
    private let cell: SnapshotCell<RouteTable>
    /// One for each operation of a round.
    private let readers: InlineArray<1000, SnapshotCell<RouteTable>.Reader>

    init() {
        let cell = SnapshotCell(Self.table(), readerCount: 1000)
        self.cell = cell
        readers = InlineArray { cell.reader($0) }
    }

    private static func table() -> RouteTable {
        RouteTable(compiling: Configuration(), slots: [:], generation: 1, metricIndex: { _ in 0 })
    }

    func publish() { cell.publish(Self.table()) }

    func settle() { _ = readers[0].adopt() }

    func adoptNothing(_ count: Int) {
        for _ in 0..<count { precondition(readers[0].adopt() == nil) }
    }

    func adoptNew(_ count: Int) {
        precondition(count == readers.count)
        for index in 0..<count { precondition(readers[index].adopt() != nil) }
    }
}
