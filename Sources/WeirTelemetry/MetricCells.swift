import WeirMemory

/// What one worker has counted. The worker writes, any thread reads; nobody locks.
///
/// Which cell means what is `MetricRegistry`'s to say: it hands out ranges, and `ListenerCell`, `RouteCell`,
/// `ClusterCell`, `EndpointCell` name the offsets in them; `WorkerCell` names cells from zero on.
public final class MetricCells: Sendable {
    /// 1.25 MiB if all are used: 100 listeners, 10,000 routes, 1,000 clusters and 10,000 endpoints fit.
    public static let countDefault = 163840

    @usableFromInline
    let cells: AtomicCells

    public init(count: Int = MetricCells.countDefault) { cells = AtomicCells(count: count) }

    deinit { cells.deallocate() }

    public var count: Int { cells.count }

    /// Adds to a counter. The owning worker only.
    @inlinable
    @inline(__always)
    public func add(_ cell: Int32, _ amount: UInt64) { cells.add(cell, amount) }

    /// Sets a gauge. The owning worker only.
    @inlinable
    @inline(__always)
    public func set(_ cell: Int32, _ value: UInt64) { cells.set(cell, value) }

    /// Any thread; exact for the owning worker.
    @inlinable
    @inline(__always)
    public func value(_ cell: Int32) -> UInt64 { cells.value(cell) }

    /// Counts `value` in the histogram whose first cell is `base`. The owning worker only.
    package func observe(_ scale: HistogramScale, at base: Int32, _ value: UInt64) {
        add(base &+ scale.bucket(of: value), 1)
        add(base &+ HistogramScale.sumOffset, value)
    }
}
