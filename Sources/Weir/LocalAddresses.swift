import CWeir
import Glibc
import WeirNet

/// The addresses of this machine's interfaces: what a listener on a wildcard can be reached at (T-07).
package enum LocalAddresses {
    package static func current() -> [IPAddress] {
        var found: [IPAddress] = []
        unsafe withUnsafeMutablePointer(to: &found) { list in
            _ = unsafe cweir_each_local_address(list) { state, isV6, high, low in
                let ip = isV6 == 0 ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : IPAddress(v6High: high, low: low)
                unsafe state?.assumingMemoryBound(to: [IPAddress].self).pointee.append(ip)
            }
        }
        return found
    }

    /// The number of an interface of this machine; nil where it has none of that name.
    static func interfaceIndex(_ name: String) -> Int32? {
        let index = unsafe if_nametoindex(name)
        return index == 0 ? nil : Int32(bitPattern: index)
    }
}
