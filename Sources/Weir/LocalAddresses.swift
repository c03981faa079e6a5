import CWeir
import WeirNet

/// The addresses of this machine's interfaces: what a listener on a wildcard can be reached at (T-07).
enum LocalAddresses {
    static func current() -> [IPAddress] {
        var found: [IPAddress] = []
        unsafe withUnsafeMutablePointer(to: &found) { list in
            _ = unsafe cweir_each_local_address(list) { state, isV6, high, low in
                let ip = isV6 == 0 ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : IPAddress(v6High: high, low: low)
                unsafe state?.assumingMemoryBound(to: [IPAddress].self).pointee.append(ip)
            }
        }
        return found
    }
}
