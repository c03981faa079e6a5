import WeirNet
import WeirUpstream

/// What the machine says of the ports of connections that are made: how many there are, and when one is free again.
package struct SourcePorts: Sendable, Equatable {
    package var range = PortRange.standard
    package var reuse = PortLedger.TimeWaitReuse.loopback

    package init() {}

    /// Of the network namespace that the process is in. What cannot be read is taken to be as the kernel has it by default.
    package static func here() -> SourcePorts {
        func setting(_ name: String) -> String? { HostFacts.text(ofFile: "/proc/sys/net/ipv4/\(name)") }
        return SourcePorts(
            localRange: setting("ip_local_port_range"), reserved: setting("ip_local_reserved_ports"),
            reuse: setting("tcp_tw_reuse"))
    }

    /// The texts of net.ipv4.ip_local_port_range, ip_local_reserved_ports and tcp_tw_reuse.
    package init(localRange: String?, reserved: String?, reuse: String?) {
        if let localRange, let range = PortRange(localRange: localRange, reserved: reserved ?? "") {
            self.range = range
        }
        switch reuse.map(HostFacts.firstLine) {
        case "0": self.reuse = .none
        case "1": self.reuse = .all
        default: self.reuse = .loopback
        }
    }

    /// A ledger for such a machine.
    package func ledger() -> PortLedger { PortLedger(limit: range.portCount, reuse: reuse) }
}
