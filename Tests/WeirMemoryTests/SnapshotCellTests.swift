import Testing
import WeirMemory

/// Holds its number twice; its end spoils one of them, so that a reader of a released snapshot sees two.
private final class Snapshot: Sendable {
    let number: Int
    let first: FlatArray<Int>
    let census: Tally

    init(_ number: Int, _ census: Tally) {
        self.number = number
        first = FlatArray(repeating: number, count: 1)
        self.census = census
        census.add()
    }

    deinit {
        first[0] = -1
        first.deallocate()
        census.add(-1)
    }
}

/// UP-13: a table is swapped whole, and the old one is freed after its last user.
@Suite struct SnapshotCellTests {
    /// How many snapshots are alive.
    private let census = Tally()

    /// What `reader` adopts; apart, since an expectation cannot hold a reader.
    private func number(_ reader: borrowing SnapshotCell<Snapshot>.Reader) -> Int? { reader.adopt()?.number }

    @Test func theFirstAdoptionAnswersTheSnapshotAndTheNextNothing() {
        let cell = SnapshotCell(Snapshot(1, census), readerCount: 1)
        let reader = cell.reader(0)
        #expect(number(reader) == 1)
        #expect(number(reader) == nil)
    }

    @Test func aPublishedSnapshotIsAnsweredOnceToEachReader() {
        let cell = SnapshotCell(Snapshot(1, census), readerCount: 2)
        let a = cell.reader(0)
        let b = cell.reader(1)
        _ = (a.adopt(), b.adopt())
        cell.publish(Snapshot(2, census))
        #expect(number(a) == 2)
        #expect(number(a) == nil)
        #expect(number(b) == 2)
    }

    @Test func onlyTheLastOfSeveralPublicationsIsAnswered() {
        let cell = SnapshotCell(Snapshot(1, census), readerCount: 1)
        let reader = cell.reader(0)
        _ = reader.adopt()
        for number in 2...5 { cell.publish(Snapshot(number, census)) }
        #expect(number(reader) == 5)
        #expect(number(reader) == nil)
    }

    @Test func theOldSnapshotLivesUntilTheLastReaderHasMoved() {
        let cell = SnapshotCell(Snapshot(1, census), readerCount: 2)
        let a = cell.reader(0)
        let b = cell.reader(1)
        _ = (a.adopt(), b.adopt())
        let epoch = cell.publish(Snapshot(2, census))
        #expect(cell.publishedEpoch == epoch)
        _ = a.adopt()
        #expect(!cell.readersHaveAdopted(epoch))
        #expect(cell.reclaim() == 1)
        #expect(census.value == 2)
        _ = b.adopt()
        #expect(cell.readersHaveAdopted(epoch))
        #expect(cell.reclaim() == 0)
        #expect(census.value == 1)
    }

    @Test func aReaderThatStaysBehindHoldsBackAllThatCameAfter() {
        let cell = SnapshotCell(Snapshot(1, census), readerCount: 1)
        let reader = cell.reader(0)
        _ = reader.adopt()
        for number in 2...4 { cell.publish(Snapshot(number, census)) }
        #expect(census.value == 4)
        _ = reader.adopt()
        cell.reclaim()
        #expect(census.value == 1)
    }

    @Test func anOfflineReaderHoldsNothingBack() {
        let cell = SnapshotCell(Snapshot(1, census), readerCount: 2)
        let reader = cell.reader(0)
        _ = reader.adopt()
        reader.offline()
        let epoch = cell.publish(Snapshot(2, census))
        #expect(cell.readersHaveAdopted(epoch))
        #expect(census.value == 1)
        #expect(number(reader) == 2)
    }

    @Test func aReaderThatComesBackIsAnsweredWhatItHadBefore() {
        let cell = SnapshotCell(Snapshot(1, census), readerCount: 1)
        let reader = cell.reader(0)
        _ = reader.adopt()
        reader.offline()
        #expect(number(reader) == 1)
    }

    @Test func theEndOfAReaderIsOffline() {
        let cell = SnapshotCell(Snapshot(1, census), readerCount: 1)
        do {
            let reader = cell.reader(0)
            _ = reader.adopt()
        }
        cell.publish(Snapshot(2, census))
        #expect(census.value == 1)
    }

    @Test func theCellReleasesEverythingWithItself() {
        do {
            let cell = SnapshotCell(Snapshot(1, census), readerCount: 1)
            let reader = cell.reader(0)
            _ = reader.adopt()
            cell.publish(Snapshot(2, census))
            cell.publish(Snapshot(3, census))
            #expect(census.value == 3)
        }
        #expect(census.value == 0)
    }

    /// Readers adopt, look, and now and then leave, while a writer replaces as fast as it can. A snapshot released too
    /// early shows its spoilt number; one kept too long is alive at the end.
    @Test func readersNeverSeeAReleasedSnapshotAndNoneIsLeft() async {
        let census = census
        let cell = SnapshotCell(Snapshot(0, census), readerCount: 3)
        let done = Tally()
        let spoilt = Tally()
        let backwards = Tally()
        await withTaskGroup(of: Void.self) { group in
            for index in 0..<3 {
                group.addTask {
                    let reader = cell.reader(index)
                    var seen = -1
                    var view: FlatArray<Int>?
                    var turn = 0
                    while done.value == 0 {
                        if let next = reader.adopt() {
                            if next.number < seen { backwards.add() }
                            seen = next.number
                            // Kept without a reference, as a worker keeps its view.
                            view = next.first
                        }
                        if let view, view[0] != seen { spoilt.add() }
                        turn += 1
                        if turn % 64 == 63 {
                            view = nil
                            reader.offline()
                        }
                        if turn % 256 == 0 { await Task.yield() }
                    }
                }
            }
            group.addTask {
                for number in 1...3000 {
                    cell.publish(Snapshot(number, census))
                    if number % 16 == 0 { await Task.yield() }
                }
                done.add()
            }
        }
        #expect(spoilt.value == 0)
        #expect(backwards.value == 0)
        cell.reclaim()
        #expect(census.value == 1)
    }
}
