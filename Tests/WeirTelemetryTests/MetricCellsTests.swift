import Testing
import WeirTelemetry

@Suite struct MetricCellsTests {
    @Test func everyCellStartsAtZero() {
        let cells = MetricCells(count: 4096)
        #expect((0..<4096).allSatisfy { cells.value(Int32($0)) == 0 })
    }

    @Test func addsPileUpAndWrap() {
        let cells = MetricCells(count: 8)
        cells.add(7, 3)
        cells.add(7, 4)
        #expect(cells.value(7) == 7)
        cells.set(7, .max)
        cells.add(7, 2)
        #expect(cells.value(7) == 1)
        #expect(cells.value(6) == 0)
    }

    @Test(arguments: [Int32(-1), 8])
    func aCellOutsideIsATrap(cell: Int32) async {
        switch cell {
        case -1: await #expect(processExitsWith: .failure) { MetricCells(count: 8).add(-1, 1) }
        default: await #expect(processExitsWith: .failure) { MetricCells(count: 8).add(8, 1) }
        }
    }

    @Test func aValueFallsInTheFirstBucketWhoseBoundHoldsIt() {
        // Bounds are inclusive, as `le` says.
        #expect(HistogramScale.latency.bucket(of: 0) == 0)
        #expect(HistogramScale.latency.bucket(of: 500_000) == 0)
        #expect(HistogramScale.latency.bucket(of: 500_001) == 1)
        #expect(HistogramScale.latency.bucket(of: 10_000_000_000) == 13)
        #expect(HistogramScale.latency.bucket(of: 10_000_000_001) == 14)
        #expect(HistogramScale.latency.bucket(of: .max) == 14)
    }

    @Test(arguments: [HistogramScale.latency, .session, .hello])
    func boundsAscend(scale: HistogramScale) {
        let bounds = (0..<HistogramScale.boundCount).map { scale.bounds[$0] }
        #expect(bounds == bounds.sorted())
        #expect(Set(bounds).count == bounds.count)
    }

    @Test func anObservationCountsInOneBucketAndInTheSum() {
        let cells = MetricCells(count: 64)
        cells.observe(.latency, at: 16, 3_000_000)
        let touched = (Int32(0)..<64).filter { cells.value($0) != 0 }
        // 3 ms are above 2.5 ms, bucket 2, and within 5 ms, bucket 3; the sum stands in cell 15.
        #expect(touched == [19, 31])
        #expect(cells.value(31) == 3_000_000)
    }
}
