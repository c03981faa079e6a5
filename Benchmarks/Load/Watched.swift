import Foundation
import Glibc

/// A process whose cost is measured: the subject's, or the generator's own.
struct Watched {
    let pid: Int32

    struct Reading {
        /// Of all threads, those that have ended included (CLOCK_PROCESS_CPUTIME_ID of the process).
        var cpuSeconds: Double
        /// As the kernel splits it, in ticks of usually 10 ms.
        var userSeconds: Double
        var systemSeconds: Double
        var residentByteCount: Int
    }

    /// nil: there is no such process any more.
    func read() -> Reading? {
        var clock = clockid_t()
        guard unsafe clock_getcpuclockid(pid, &clock) == 0 else { return nil }
        var time = timespec()
        guard unsafe clock_gettime(clock, &time) == 0 else { return nil }
        guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
            let statm = try? String(contentsOfFile: "/proc/\(pid)/statm", encoding: .utf8),
            let name = stat.lastIndex(of: ")")
        else { return nil }
        // Behind the name: state is field 3 of proc(5), utime 14, stime 15.
        let fields = stat[stat.index(after: name)...].split(separator: " ")
        let pages = statm.split(separator: " ")
        guard fields.count > 12, pages.count > 1, let user = Double(fields[11]), let system = Double(fields[12]),
            let resident = Int(pages[1])
        else { return nil }
        let tick = Double(sysconf(Int32(_SC_CLK_TCK)))
        return Reading(
            cpuSeconds: Double(time.tv_sec) + Double(time.tv_nsec) / 1e9, userSeconds: user / tick,
            systemSeconds: system / tick, residentByteCount: resident * Int(sysconf(Int32(_SC_PAGESIZE))))
    }
}
