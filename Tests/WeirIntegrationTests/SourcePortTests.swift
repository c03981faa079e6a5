import Testing
import Weir
import WeirMemory
import WeirNet
import WeirTelemetry
import WeirUpstream

/// S0-5, S1-4: what is said of source ports.
@Suite struct SourcePortTests {
    private static let source = IPAddress(192, 0, 2, 1)
    private static let destination = SocketAddress(IPAddress(198, 51, 100, 1), port: 443)

    private static func at(_ seconds: UInt64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

    private static func reading(_ used: Int, port: UInt16 = 443) -> PortLedger.Reading {
        var reading = PortLedger.Reading(source: source, destination: SocketAddress(destination.ip, port: port))
        reading.standing.inUse = used - used / 4
        reading.standing.timeWait = used / 4
        return reading
    }

    // MARK: The machine

    @Test func theMachinesSettingsAreRead() {
        let ports = SourcePorts(localRange: "1000\t1999\n", reserved: "1000-1009\n", reuse: "0\n")
        #expect(ports.range.portCount == 990)
        #expect(ports.reuse == .none)
        #expect(ports.ledger().limit == 990)
    }

    @Test func withoutThemTheKernelsDefaultsHold() {
        #expect(SourcePorts(localRange: nil, reserved: nil, reuse: nil) == SourcePorts())
        #expect(SourcePorts().range.portCount == 28232)
        #expect(SourcePorts().reuse == .loopback)
    }

    @Test func thisMachineHasPorts() { #expect((1...65535).contains(SourcePorts.here().range.portCount)) }

    // MARK: The watch

    @Test func aPairIsSaidOnceWhenItPassesFourFifths() {
        var watch = SourcePortWatch()
        #expect(watch.lines([Self.reading(799)], limit: 1000) == [])
        #expect(
            watch.lines([Self.reading(800)], limit: 1000) == [
                "source ports get scarce: 800 of 1000 from 192.0.2.1 to 198.51.100.1:443 are used, 200 of them in "
                    + "TIME_WAIT; add source addresses or endpoints, or widen net.ipv4.ip_local_port_range"
            ])
        for used in [900, 1000, 800, 750, 800] { #expect(watch.lines([Self.reading(used)], limit: 1000) == []) }
    }

    @Test func aPairIsSaidAgainBelowSevenTenths() {
        var watch = SourcePortWatch()
        _ = watch.lines([Self.reading(900)], limit: 1000)
        #expect(watch.lines([Self.reading(700)], limit: 1000) == [])
        #expect(
            watch.lines([Self.reading(699)], limit: 1000)
                == ["enough source ports again from 192.0.2.1 to 198.51.100.1:443"])
        #expect(watch.lines([Self.reading(800)], limit: 1000).count == 1)
    }

    @Test func aPairThatIsGoneHasEnough() {
        var watch = SourcePortWatch()
        _ = watch.lines([Self.reading(900)], limit: 1000)
        #expect(watch.lines([], limit: 1000) == ["enough source ports again from 192.0.2.1 to 198.51.100.1:443"])
        #expect(watch.lines([], limit: 1000) == [])
    }

    @Test func manyPairsAtOnceAreSummedUp() {
        var watch = SourcePortWatch()
        let lines = watch.lines((1...50).map { Self.reading(900, port: $0) }, limit: 1000)
        #expect(lines.count == 21)
        #expect(lines.last == "30 more pairs are short of source ports")
    }

    // MARK: Metrics

    /// Ports 1, 2, 3 of a destination, with as many connects in use; one more has succeeded and one failed on the last.
    private static func ledger() -> PortLedger {
        let ledger = PortLedger(limit: 10, reuse: .none, pairCount: 100, key: SipKey(low: 1, high: 2))
        for port in 1...3 as ClosedRange<UInt16> {
            for number in 1...port + 1 {
                let destination = SocketAddress(destination.ip, port: port)
                let answer = ledger.reserve(worker: 0, from: source, to: destination, now: at(100))
                guard case .granted(let entry) = answer, number > port else { continue }
                ledger.succeeded(entry, after: 250_000_000, now: at(100))
                if port == 3 { ledger.failed(entry, 113, now: at(101)) }
                ledger.release(entry, leavesTimeWait: true, now: at(101))
            }
        }
        return ledger
    }

    private static func text(_ family: MetricFamily) -> [String] {
        family.samples.map { sample in
            let labels = sample.labels.map { "\($0.name)=\($0.value)" }.joined(separator: ",")
            return switch sample.value {
            case .integer(let value): "\(labels) \(value)"
            case .decimal(let value): "\(labels) \(value)"
            }
        }
    }

    @Test func thePairsWithTheMostPortsStandByThemselvesAndTheRestIsSummed() {
        let families = SourcePortFamilies(Self.ledger(), now: Self.at(102), pairCountMax: 1).families()
        var lines: [String: [String]] = [:]
        for family in families { lines[family.name] = Self.text(family) }
        let (first, other) = ("source=192.0.2.1,destination=198.51.100.1:3", "source=192.0.2.1,destination=other")
        #expect(
            lines == [
                "weir_source_ports_in_use": ["\(first) 3", "\(other) 3"],
                "weir_source_ports_time_wait": ["\(first) 1", "\(other) 2"],
                "weir_source_ports_limit": ["\(first) 10"],
                "weir_source_ports_headroom": ["\(first) 6"],
                "weir_source_connects_total": [
                    "\(first),result=success 1", "\(first),result=failure 1", "\(other),result=success 2",
                    "\(other),result=failure 0",
                ],
                "weir_source_connect_seconds_total": ["\(first) 0.25"],
                "weir_source_untracked_total": [" 0"],
            ])
    }

    /// S1-4.
    @Test func theMatrixSaysWhoReachedWhom() {
        let ledger = Self.ledger()
        let v6 = SocketAddress(IPAddress(v6High: 0x2001_0db8 << 32, low: 1), port: 8443)
        let answer = ledger.reserve(worker: 0, from: .v6Loopback, to: v6, now: Self.at(102))
        if case .granted(let entry) = answer { ledger.exclude(entry, now: Self.at(102)) }
        #expect(
            SourcePortFamilies(ledger, now: Self.at(103)).matrix(now: Self.at(103)) == [
                "source     destination         state        used  time_wait  ok  ok_ago  failed  failed_ago  error",
                "192.0.2.1  198.51.100.1:3      in           4     1          1   3s      1       2s          No route to host",
                "192.0.2.1  198.51.100.1:2      in           3     1          1   3s      0       -           -",
                "192.0.2.1  198.51.100.1:1      in           2     1          1   3s      0       -           -",
                "::1        [2001:db8::1]:8443  out for 29s  1     0          0   -       0       -           -",
            ])
    }
}
