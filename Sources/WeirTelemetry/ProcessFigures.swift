import Glibc

/// The process as the kernel accounts for it, under the names that every Prometheus client library uses.
package struct ProcessFigures: Sendable {
    package var cpuSeconds: Double
    package var residentByteCount: UInt64
    package var virtualByteCount: UInt64
    package var openDescriptorCount: UInt64
    package var descriptorCountMax: UInt64
    package var threadCount: UInt64
    /// Seconds since 1970.
    package var startTime: Double

    /// Reads them now; nil where /proc is not mounted.
    package static func current() -> ProcessFigures? {
        // Fields stand behind the command's closing parenthesis, since the command may hold anything (proc_pid_stat(5)).
        guard let stat = SystemFile.read("/proc/self/stat"), let close = stat.lastIndex(of: UInt8(ascii: ")")),
            let system = SystemFile.read("/proc/stat", byteCountMax: 1 << 20)
        else { return nil }
        let fields = stat[(close + 1)...].split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\n") }
        /// By the number that the manual gives it; the state, 3, is the first behind the parenthesis.
        func field(_ number: Int) -> UInt64 {
            number - 3 < fields.count ? UInt64(String(decoding: fields[number - 3], as: UTF8.self)) ?? 0 : 0
        }
        var bootTime: UInt64 = 0
        for line in system.split(separator: UInt8(ascii: "\n")) where line.starts(with: Array("btime ".utf8)) {
            bootTime = UInt64(String(decoding: line.dropFirst(6), as: UTF8.self)) ?? 0
        }
        let ticksPerSecond = Double(max(sysconf(Int32(_SC_CLK_TCK)), 1))
        var limit = rlimit()
        unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return ProcessFigures(
            cpuSeconds: Double(field(14) + field(15)) / ticksPerSecond,
            residentByteCount: field(24) * UInt64(max(sysconf(Int32(_SC_PAGESIZE)), 0)),
            virtualByteCount: field(23),
            openDescriptorCount: openDescriptorCount(),
            descriptorCountMax: UInt64(limit.rlim_cur),
            threadCount: field(20),
            startTime: Double(bootTime) + Double(field(22)) / ticksPerSecond)
    }

    private static func openDescriptorCount() -> UInt64 {
        // From Linux 6.2 the directory's size is the count; before it is 0 and the entries are counted.
        var status = stat()
        if unsafe stat("/proc/self/fd", &status) == 0, status.st_size > 0 { return UInt64(status.st_size) }
        guard let directory = unsafe opendir("/proc/self/fd") else { return 0 }
        defer { unsafe closedir(directory) }
        var count: UInt64 = 0
        while unsafe readdir(directory) != nil { count += 1 }
        // `.`, `..` and the directory's own descriptor are not the process's.
        return count > 3 ? count - 3 : 0
    }

    package var families: [MetricFamily] {
        [
            MetricFamily(
                "process_cpu_seconds_total", help: "Total user and system CPU time spent in seconds.", .counter,
                .decimal(cpuSeconds)),
            MetricFamily(
                "process_resident_memory_bytes", help: "Resident memory size in bytes.", .gauge,
                .integer(residentByteCount)),
            MetricFamily(
                "process_virtual_memory_bytes", help: "Virtual memory size in bytes.", .gauge,
                .integer(virtualByteCount)),
            MetricFamily(
                "process_open_fds", help: "Number of open file descriptors.", .gauge, .integer(openDescriptorCount)),
            MetricFamily(
                "process_max_fds", help: "Maximum number of open file descriptors.", .gauge,
                .integer(descriptorCountMax)),
            MetricFamily(
                "process_threads", help: "Number of threads of the process.", .gauge, .integer(threadCount)),
            MetricFamily(
                "process_start_time_seconds", help: "Start time of the process since the epoch in seconds.", .gauge,
                .decimal(startTime)),
        ]
    }
}
