import Testing
import WeirUpstream

/// S0-5: how many ports there are towards one destination.
@Suite struct PortRangeTests {
    @Test func aRangeIsTwoPorts() throws {
        let range = try #require(PortRange(localRange: "32768\t60999\n", reserved: "\n"))
        #expect(range == .standard)
        #expect(range.portCount == 28232)
    }

    @Test(arguments: [
        ("30000", 1), ("30000,30002", 2), ("30000-30009", 10), ("29990-30000,30009-30020", 2), ("8080,9148-9150", 0),
        ("30000-30004,30003-30006", 7), ("0-65535", 10),
    ])
    func reservedPortsInsideTheRangeAreOff(reserved: String, count: Int) throws {
        let range = try #require(PortRange(localRange: "30000 30009", reserved: "\(reserved)\n"))
        #expect(range.reservedCount == count)
        #expect(range.portCount == max(1, 10 - count))
    }

    @Test(arguments: [
        ("", ""), ("1", ""), ("1 2 3", ""), ("2 1", ""), ("0 9", ""), ("1 65536", ""), ("a b", ""), ("-1 5", ""),
        ("1 9", "x"), ("1 9", "5-"), ("1 9", "-5"), ("1 9", "7-5"), ("1 9", "70000"), ("1 9", "1-2-3"),
    ])
    func whatTheKernelWouldNotWriteIsNoRange(range: String, reserved: String) {
        #expect(PortRange(localRange: range, reserved: reserved) == nil)
    }
}
