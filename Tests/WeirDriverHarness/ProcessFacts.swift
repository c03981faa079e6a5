import Glibc
import WeirMemory

/// Runs `body` on a thread of its own while `whileRunning` runs here; both have ended when it returns.
package func withThread(_ body: @escaping @Sendable () throws -> Void, whileRunning: () throws -> Void) throws {
    let thread = try SystemThread(name: "test") { try! body() }
    defer { thread.join() }
    try whileRunning()
}

/// What this process holds that a driver may leave behind: sockets, rings, epoll sets, wake-ups, and threads that
/// io_uring starts.
/// Means something in a process of its own.
package struct Holdings {
    package let sockets: Set<String>
    package let rings: Set<String>
    package let epollSets: Set<String>
    package let wakeUpCount: Int
    package let kernelThreadCount: Int

    /// Those of now, after the runtime has opened what its timers need. It does so on a thread of its own, which may be late
    /// where the machine is busy, and ends the process where it finds no descriptor.
    package static func settled() async -> Holdings {
        var known: Set<String> = []
        for _ in 0..<1000 {
            try? await Task.sleep(for: .milliseconds(1))
            let kinds = entries(of: "/proc/self/fd").map { "\($0) \(target(ofLink: "/proc/self/fd/\($0)"))" }
            let found = Set(kinds.filter { $0.contains("anon_inode") })
            // Waits, wakes and a clock; the first two are there before the last.
            if found == known, found.contains(where: { $0.hasSuffix("[timerfd]") }) { break }
            known = found
        }
        return Holdings()
    }

    package init() {
        let descriptors = entries(of: "/proc/self/fd").map { ($0, target(ofLink: "/proc/self/fd/\($0)")) }
        sockets = Set(descriptors.filter { $0.1.hasPrefix("socket:") }.map(\.1))
        rings = Set(descriptors.filter { $0.1 == "anon_inode:[io_uring]" }.map(\.0))
        epollSets = Set(descriptors.filter { $0.1 == "anon_inode:[eventpoll]" }.map(\.0))
        wakeUpCount = descriptors.count { $0.1 == "anon_inode:[eventfd]" }
        kernelThreadCount = entries(of: "/proc/self/task").count {
            text(ofFile: "/proc/self/task/\($0)/comm").hasPrefix("iou-wrk")
        }
    }

    /// The same sockets, rings and epoll sets, and no wake-up left of `driverCount` drivers that have gone since.
    package func areUnchanged(since before: Holdings, driverCount: Int) -> Bool {
        sockets == before.sockets && rings == before.rings && epollSets == before.epollSets
            && wakeUpCount - before.wakeUpCount < driverCount
    }
}

private func entries(of path: String) -> [String] {
    guard let directory = unsafe opendir(path) else { return [] }
    defer { unsafe _ = closedir(directory) }
    var names: [String] = []
    while let entry = unsafe readdir(directory) {
        names.append(
            unsafe withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            })
    }
    return names
}

private func target(ofLink path: String) -> String {
    var bytes = [CChar](repeating: 0, count: 64)
    let count = unsafe readlink(path, &bytes, bytes.count)
    return String(decoding: bytes[..<max(0, count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

private func text(ofFile path: String) -> String {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 64)
    let count = unsafe read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes[..<max(0, count)], as: UTF8.self)
}

/// Runs `body` while no descriptor can be opened (RLIMIT_NOFILE). For a process of its own, and a moment: its runtime
/// opens some, too.
package func withoutFreeDescriptors(_ body: () -> Void) {
    var before = rlimit()
    unsafe getrlimit(Int32(RLIMIT_NOFILE.rawValue), &before)
    var lowestFree = Int32(0)
    while fcntl(lowestFree, F_GETFD) >= 0 { lowestFree += 1 }
    var lower = rlimit(rlim_cur: rlim_t(lowestFree), rlim_max: before.rlim_max)
    unsafe setrlimit(Int32(RLIMIT_NOFILE.rawValue), &lower)
    body()
    unsafe setrlimit(Int32(RLIMIT_NOFILE.rawValue), &before)
}
