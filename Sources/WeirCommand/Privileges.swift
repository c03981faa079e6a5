import CWeir
import Glibc
import Weir

/// Who the process becomes once its listeners are bound, and how (T-18).
package struct Privileges: Sendable, Equatable {
    package var user: uid_t
    package var group: gid_t
    /// Supplementary groups.
    package var groups: [gid_t]
    /// CAP_NET_BIND_SERVICE stays, for listeners below port 1024 that a reload or an upgrade brings.
    package var keepsLowPorts: Bool

    package init(user: uid_t, group: gid_t, groups: [gid_t], keepsLowPorts: Bool = false) {
        self.user = user
        self.group = group
        self.groups = groups
        self.keepsLowPorts = keepsLowPorts
    }

    /// Reads `NAME[:GROUP]`; either may be a number. Without a group, the user's own; its supplementary groups in any
    /// case.
    package init(_ text: String, keepsLowPorts: Bool = false) throws(CommandFailure) {
        self.keepsLowPorts = keepsLowPorts
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let account = Self.account(parts[0]) else {
            throw CommandFailure(.runTime, ["weir: there is no user \"\(parts[0])\""])
        }
        user = account.user
        group = account.group
        if parts.count == 2 {
            guard let chosen = Self.group(parts[1]) else {
                throw CommandFailure(.runTime, ["weir: there is no group \"\(parts[1])\""])
            }
            group = chosen
        }
        groups = account.name.map { [group] in Self.supplementaryGroups(of: $0, group) } ?? []
    }

    /// Takes on the user and groups for good: no other capability is left and none can be gained. Call it while the
    /// process has one thread and no ring: capabilities are a thread's own, and a ring keeps the rights it was made
    /// with. Verified by what the kernel says. Does nothing where all is so already, as after an upgrade.
    package func assume() throws(Proxy.StartFailure) {
        if let status = HostFacts.text(ofFile: "/proc/self/status"), difference(fromStatus: status) == nil { return }
        if keepsLowPorts { try check("keep capabilities", cweir_keep_capabilities()) }
        try check("setgroups", unsafe cweir_set_groups(groups, groups.count))
        try check("setresgid", cweir_set_group(group))
        try check("setresuid", cweir_set_user(user))
        try check("capset", cweir_set_capabilities(keptCapabilities))
        try check("no_new_privs", cweir_no_new_privileges())
        guard let status = HostFacts.text(ofFile: "/proc/self/status") else {
            throw .system(what: "giving up privileges cannot be verified: /proc/self/status is not readable", code: 0)
        }
        if let difference = difference(fromStatus: status) {
            throw .system(what: "privileges were not given up: \(difference)", code: 0)
        }
    }

    /// The first line of /proc/PID/status that is not as it should be after `assume()`.
    package func difference(fromStatus status: String) -> String? {
        func numbers(_ name: String) -> [UInt32]? {
            HostFacts.field(name, ofStatus: status)?.split { $0 == "\t" || $0 == " " }.compactMap { UInt32($0) }
        }
        // Real, effective, saved, file system.
        if numbers("Uid") != Array(repeating: user, count: 4) { return "Uid" }
        if numbers("Gid") != Array(repeating: group, count: 4) { return "Gid" }
        if numbers("Groups").map(Set.init) != Set(groups) { return "Groups" }
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let bits = HostFacts.field(name, ofStatus: status).flatMap { UInt64($0, radix: 16) }
            if bits != keptCapabilities { return name }
        }
        return HostFacts.field("NoNewPrivs", ofStatus: status) == "1" ? nil : "NoNewPrivs"
    }

    private var keptCapabilities: UInt64 { keepsLowPorts ? 1 << UInt64(CAP_NET_BIND_SERVICE) : 0 }

    private func check(_ what: String, _ code: CInt) throws(Proxy.StartFailure) {
        if code != 0 { throw .system(what: "giving up privileges: \(what)", code: code) }
    }

    /// nil where there is none. A number without an account has no name and is its own group.
    private static func account(_ text: String) -> (name: String?, user: uid_t, group: gid_t)? {
        var entry = unsafe passwd()
        var found: UnsafeMutablePointer<passwd>?
        var strings = [CChar](repeating: 0, count: 16 << 10)
        let code = unsafe getpwnam_r(text, &entry, &strings, strings.count, &found)
        if code == 0, unsafe found != nil { return unsafe (text, entry.pw_uid, entry.pw_gid) }
        return uid_t(text).map { (nil, $0, $0) }
    }

    private static func group(_ text: String) -> gid_t? {
        var entry = unsafe Glibc.group()
        var found: UnsafeMutablePointer<Glibc.group>?
        // A group's entry lists its members.
        var strings = [CChar](repeating: 0, count: 256 << 10)
        let code = unsafe getgrnam_r(text, &entry, &strings, strings.count, &found)
        if code == 0, unsafe found != nil { return unsafe entry.gr_gid }
        return gid_t(text)
    }

    private static func supplementaryGroups(of name: String, _ group: gid_t) -> [gid_t] {
        // NGROUPS_MAX
        var groups = [gid_t](repeating: 0, count: 65536)
        var count = CInt(groups.count)
        guard unsafe getgrouplist(name, group, &groups, &count) >= 0 else { return [group] }
        return Array(groups[..<Int(count)])
    }
}
