import Synchronization
import WeirEngine
import WeirIO
import WeirMemory
import WeirNet
import WeirRouting
import WeirTelemetry
import WeirUpstream

/// One worker on a kernel of its own, and the ends of its rings that other threads hold.
package final class SimulatedWorker {
    package let index: Int
    package let driver: SimulatedDriver
    package let worker: Worker
    package let pool: BufferPool
    package let status: WorkerStatus
    package let cells: MetricCells
    let planter: FaultPlanter?
    let port: ResolverPort
    let commands: SPSCRing<WorkerCommand>
    let records: SPSCRing<LogEntry>

    init(
        index: Int, _ sizes: SimulatedProxy.Sizes, seed: UInt64, faults: SimulatedFaults, planted: PlantedFault?,
        cells: MetricCells, limits: SharedLimits, board: EndpointBoard,
        snapshot: SnapshotCell<RouteTable>, instance: UInt64
    ) {
        self.index = index
        self.cells = cells
        pool = BufferPool(largeCount: sizes.largeBufferCount, blockCount: sizes.blockCount)
        driver = SimulatedDriver(
            pool: pool, bufferRingCount: sizes.bufferRingCount, seed: seed, faults: faults, index: index)
        planter = planted.map { [driver] in FaultPlanter($0, around: driver) }
        status = WorkerStatus()
        port = ResolverPort(requestCount: 64, answerCount: 64, wakeResolver: {}, wakeWorker: driver.wake)
        commands = SPSCRing(capacity: 64)
        records = SPSCRing(capacity: 4096)
        var parts = WorkerParts(
            index: index, driver: driver, pool: pool, snapshot: snapshot.reader(index), resolver: port,
            records: records, commands: commands, cells: cells, limits: limits, status: status,
            sessionCapacity: sizes.sessionCapacity, instance: instance)
        if let planter { parts.driver = planter }
        parts.board = board
        parts.answerCapacity = sizes.answerCapacity
        parts.bulkByteCount = sizes.bulkByteCount
        parts.bulkReceiveCount = sizes.bulkReceiveCount
        worker = Worker(parts)
    }

    func send(_ command: WorkerCommand) {
        precondition(commands.push(command))
        driver.wake()
    }

    /// Every order was carried out, and `listenerCount` listeners are open.
    func hasSettled(listenerCount: Int) -> Bool {
        commands.isEmpty && status.listenerCount.load(ordering: .relaxed) == listenerCount
    }
}
