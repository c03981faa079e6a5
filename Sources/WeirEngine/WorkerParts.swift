import Synchronization
import WeirIO
import WeirMemory
import WeirNet
import WeirRouting
import WeirSession
import WeirTelemetry
import WeirUpstream

/// What the control thread tells a worker. A plain value in the worker's ring.
package struct WorkerCommand: BitwiseCopyable, Sendable {
    package enum Kind: BitwiseCopyable, Sendable {
        /// Accept on `socket`, for the listener in `slot`, bound to `address`; beside the sockets it has already.
        case addListener
        /// Stop accepting for `slot` and close its sockets. Whoever has come by then is served.
        case removeListener
        /// The same, but whoever waits is left to the process that the sockets' owner starts next.
        case leaveListener
        /// End every session with RST and leave.
        case stop
        /// End every session with RST because a drain ran out of time.
        case endSessions
        /// End with RST the open sessions of the endpoint whose place is `slot`, those that are still there after so many
        /// nanoseconds.
        case endEndpoint(CloseReason.Other, after: UInt64 = 0)
        /// The same for the route whose metric is `slot`.
        case endRoute(after: UInt64 = 0)
    }

    package var kind: Kind
    package var slot: Int32
    package var socket: Socket
    package var address: SocketAddress

    package init(
        _ kind: Kind, slot: Int32 = -1, socket: Socket = .none, address: SocketAddress = SocketAddress(.v4Any, port: 0)
    ) {
        self.kind = kind
        self.slot = slot
        self.socket = socket
        self.address = address
    }
}

/// What a worker lets other threads see of itself.
package final class WorkerStatus: Sendable {
    /// Sessions that hold a slot.
    package let sessionCount = Atomic<Int>(0)
    /// Listening sockets on which it accepts or could. One of a listener that is removed counts until it is closed.
    package let listenerCount = Atomic<Int>(0)
    /// Commands carried out since the beginning. A removed listener may still be closing then.
    package let commandCount = Atomic<Int>(0)
    /// The worker has left its loop.
    package let hasLeft = Atomic<Bool>(false)

    package init() {}
}

/// Limits that hold over all workers. One atomic add per connection, none per operation.
package final class SharedLimits: Sendable {
    /// Slots for listeners.
    package static let listenerCountMax = RouteView.slotCount

    package let sessions: SharedCounter
    /// By slot.
    package let listeners: [SharedCounter]
    package let clients: ConnectionCounter
    /// Sessions at once over all listeners.
    package let sessionCountMax: Int
    /// New sessions over all listeners.
    package let rate = SharedRate()
    package let rateMax: RateBound
    /// New sessions, by slot.
    package let listenerRates: [SharedRate]
    package let clientRates: ClientRates
    /// The ports of connections that are made from configured source addresses.
    package let ports: PortLedger
    /// Most of the memory that we may use is used: no worker accepts.
    package let isMemoryShort = Atomic<Bool>(false)

    /// Clients whose bucket is not full, at once; 4 MiB if all are there.
    private static let clientRateCount = 65536

    package init(sessionCountMax: Int, rateMax: RateBound = .none, ports: PortLedger = PortLedger()) {
        self.ports = ports
        self.sessionCountMax = sessionCountMax
        self.rateMax = rateMax
        sessions = SharedCounter()
        listeners = (0..<Self.listenerCountMax).map { _ in SharedCounter() }
        listenerRates = (0..<Self.listenerCountMax).map { _ in SharedRate() }
        clientRates = ClientRates(clientCount: Self.clientRateCount)
        clients = ConnectionCounter(clientCount: min(max(sessionCountMax, 1024), 1 << 20))
    }
}

/// What a worker is made of. All of it belongs to the worker's thread afterwards but for the ends of rings that
/// others hold.
package struct WorkerParts: ~Copyable {
    package var index: Int
    package var driver: any Driver
    package var pool: BufferPool
    package var snapshot: SnapshotCell<RouteTable>.Reader
    package var resolver: ResolverPort
    package var records: SPSCRing<LogEntry>
    package var commands: SPSCRing<WorkerCommand>
    package var cells: MetricCells
    package var limits: SharedLimits
    /// Shared by all workers of a proxy; unless it is set, this worker's own.
    package var board = EndpointBoard()
    package var status: WorkerStatus
    /// Slots for sessions of this worker.
    package var sessionCapacity: Int
    /// Answers of the resolver that this worker keeps at once.
    package var answerCapacity = 4096
    /// A receive of so many bytes or more is one of bulk; a buffer's worth.
    package var bulkByteCount = Int32(BufferPool.largeByteCount)
    /// So many in a row, and a direction is pumped.
    package var bulkReceiveCount = SessionMachine.bulkReceiveCountDefault
    /// Names this process in the unique ids of PROXY headers; the same for all workers, unpredictable.
    package var instance: UInt64

    package init(
        index: Int, driver: any Driver, pool: BufferPool, snapshot: consuming SnapshotCell<RouteTable>.Reader,
        resolver: ResolverPort, records: SPSCRing<LogEntry>, commands: SPSCRing<WorkerCommand>,
        cells: MetricCells, limits: SharedLimits, status: WorkerStatus, sessionCapacity: Int, instance: UInt64
    ) {
        self.index = index
        self.driver = driver
        self.pool = pool
        self.snapshot = snapshot
        self.resolver = resolver
        self.records = records
        self.commands = commands
        self.cells = cells
        self.limits = limits
        self.status = status
        self.sessionCapacity = sessionCapacity
        self.instance = instance
    }
}
