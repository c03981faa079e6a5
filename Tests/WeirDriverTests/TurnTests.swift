import Glibc
import Synchronization
import Testing
import WeirDriverHarness
import WeirIO
import WeirMemory
import WeirNet

@Suite struct TurnTests {
    private func limit(_ harness: DriverHarness) -> Instant {
        harness.driver.now().advanced(byNanoseconds: DriverHarness.patience)
    }

    @Test(arguments: DriverKind.here) func waitEndsAtItsDeadline(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        for _ in 0..<3 {
            let deadline = harness.driver.now().advanced(byNanoseconds: 5_000_000)
            let after = harness.turn(until: deadline)
            #expect(after >= deadline)
            #expect(after <= harness.driver.now())
        }
        #expect(harness.arrived.isEmpty)
    }

    @Test(arguments: DriverKind.here) func deadlineInThePastDoesNotWait(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let limit = limit(harness)
        for _ in 0..<100 { harness.turn(until: Instant(nanoseconds: 0)) }
        #expect(harness.driver.now() < limit)
    }

    @Test(arguments: DriverKind.here) func completionEndsAWait(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let (near, far) = try Loopback.pair()
        far.send([1])
        harness.ask(.receive(), .receive(near.socket, isContinuing: false))
        // A wait without end would hang here.
        harness.turn(until: .distantFuture)
        #expect(harness.take(try harness.completion(of: .receive())) == [1])
    }

    /// U-14
    @Test(arguments: DriverKind.here) func wakeBeforeTheWaitIsNotLost(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let limit = limit(harness)
        let wake = harness.driver.wake
        for _ in 0..<20 {
            wake()
            wake()
            #expect(harness.turn(until: limit) < limit)
            #expect(harness.arrived.isEmpty)
        }
    }

    /// U-14
    @Test(arguments: DriverKind.here) func wakeFromAnotherThreadEndsAWait(on kind: DriverKind) throws {
        let harness = try DriverHarness(kind)
        let limit = limit(harness)
        let wake = harness.driver.wake
        let rung = Atomic<Int>(0)
        let answered = Atomic<Int>(0)
        try withThread {
            // The next only after the last was heard, so that each has a wait of its own to end.
            for round in 1...100 {
                rung.store(round, ordering: .releasing)
                wake()
                while answered.load(ordering: .acquiring) < round { usleep(20) }
            }
        } whileRunning: {
            for round in 1...100 {
                while rung.load(ordering: .acquiring) < round { _ = harness.turn(until: limit) }
                #expect(harness.driver.now() < limit)
                answered.store(round, ordering: .releasing)
            }
        }
    }

    /// A late signal must not reach a descriptor that is somebody else's by then.
    @Test(arguments: DriverKind.here) func wakeOutlivesTheDriver(on kind: DriverKind) async {
        await #expect(processExitsWith: .success) { [kind] in
            let before = await Holdings.settled()
            for _ in 0..<5 {
                var wakes: [@Sendable () -> Void] = []
                for _ in 0..<10 {
                    let harness = try DriverHarness(kind)
                    harness.turn()
                    wakes.append(harness.driver.wake)
                }
                // The drivers are gone; each wake still holds a descriptor of its own.
                #expect(Holdings().wakeUpCount > before.wakeUpCount + 5)
                for wake in wakes { wake() }
            }
            #expect(Holdings().areUnchanged(since: before, driverCount: 50))
        }
    }

    @Test(arguments: DriverKind.here, [UInt32(4), 1024])
    func batchMayBeLargerThanTheQueue(on kind: DriverKind, submissionCount: UInt32) throws {
        let harness = try DriverHarness(kind, submissionCount: submissionCount)
        let (near, far) = try Loopback.pair()
        far.send([1])
        // Cancels of nothing: they complete, and nobody hears of it.
        for index in 0..<5000 { harness.ask(.cancel(Token(kind: 2, index: UInt32(index), generation: 9))) }
        harness.ask(.receive(), .receive(near.socket, isContinuing: false))
        for index in 0..<5000 { harness.ask(.cancel(Token(kind: 2, index: UInt32(index), generation: 9))) }
        #expect(harness.take(try harness.completion(of: .receive())) == [1])
        #expect(harness.operations.isEmpty)
        #expect(harness.arrived.isEmpty)
    }
}
