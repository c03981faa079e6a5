import Glibc
import Testing
import Weir
import WeirCommand

@Suite struct ServiceManagerTests {
    @Test(arguments: [
        (nil, ["unknown", "unknown"]), ("one:two", ["one", "two"]), ("one", ["one", "unknown"]),
        ("one:two:three", ["one", "two"]), ("", ["", "unknown"]),
    ])
    func everySocketHasAName(list: String?, names: [String]) {
        #expect(ServiceManager.names(list, count: 2) == names)
    }

    @Test func theTimeToStopIsInMicroseconds() {
        #expect(
            ServiceManager.stopping("why", within: .milliseconds(1500)) == [
                "STOPPING=1", "STATUS=why", "EXTEND_TIMEOUT_USEC=1500000",
            ])
    }

}

@Suite struct WatchdogTests {
    @Test func theFirstLookKnowsOfNobody() {
        var watchdog = Watchdog()
        #expect(watchdog.look([0, 0]) == [])
    }

    @Test func aWorkerThatHasNotTurnedIsStuckUntilItTurns() {
        var watchdog = Watchdog()
        _ = watchdog.look([1, 1, 1])
        #expect(watchdog.look([2, 1, 9]) == [1])
        #expect(watchdog.look([2, 1, 10]) == [0, 1])
        #expect(watchdog.look([3, 2, 11]) == [])
    }
}
