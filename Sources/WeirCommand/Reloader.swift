import CWeir
import Glibc
import Synchronization
import Weir
import WeirMemory

/// Reads the configuration again on request and when its files change, on a thread of its own.
///
/// A reading that cannot be used, or that the proxy refuses, is reported once and leaves what runs as it is (T-22).
package final class Reloader: Sendable {
    package let counts = ReloadCounts()
    private let read: @Sendable () -> ConfigurationSource.Reading
    private let adopt: @Sendable (Configuration) throws(Proxy.StartFailure) -> Void
    private let say: @Sendable (String) -> Void
    private let progress: @Sendable (Progress) -> Void
    private let adoptShadow: @Sendable (Configuration, ConfigurationSource.Reading.Shadow?) -> Void
    private let wake: WakeDescriptor
    private let isAsked = Atomic(false)
    /// Held during a reload: whether none may begin.
    private let isPaused = Mutex(false)

    package enum Progress: Sendable, Equatable {
        case began
        case ended(succeeded: Bool)
    }

    /// `read` looks at the source, `adopt` makes the running proxy take a configuration over, or throws and leaves it.
    /// `progress` hears of each reload, `adoptShadow` of the configuration in force wherever it or its shadow is another.
    package init(
        read: @escaping @Sendable () -> ConfigurationSource.Reading, say: @escaping @Sendable (String) -> Void,
        progress: @escaping @Sendable (Progress) -> Void = { _ in },
        adoptShadow: @escaping @Sendable (Configuration, ConfigurationSource.Reading.Shadow?) -> Void = { _, _ in },
        adopt: @escaping @Sendable (Configuration) throws(Proxy.StartFailure) -> Void
    ) throws(CommandFailure) {
        self.read = read
        self.say = say
        self.adopt = adopt
        self.progress = progress
        self.adoptShadow = adoptShadow
        wake = try WakeDescriptor()
    }

    /// `reading` is what runs now.
    package func start(from reading: ConfigurationSource.Reading) throws(CommandFailure) {
        do {
            try SystemThread(name: "weir-config") { self.run(from: reading) }.detach()
        } catch {
            throw CommandFailure(.runTime, ["weir: start the configuration thread: \(systemMessage(error.code))"])
        }
    }

    /// Reloads soon even if nothing has changed: names may resolve otherwise, an address may have become free.
    package func request() {
        isAsked.store(true, ordering: .releasing)
        wake.signal()
    }

    /// Returns once no reload is under way; none begins until `resume()`, which makes up for what was missed.
    package func pause() { isPaused.withLock { $0 = true } }

    package func resume() {
        isPaused.withLock { $0 = false }
        wake.signal()
    }

    private func run(from first: ConfigurationSource.Reading) -> Never {
        var watch = DirectoryWatch()
        if watch.descriptor < 0, !first.files.isEmpty {
            say("weir: no inotify instance is left; the configuration is reloaded on SIGHUP only")
        }
        var last = first
        var inForce = first.configuration
        // What changed between the reading at start and this line is seen by reading once more.
        var isDue = cover(&watch, first)
        while true {
            if !isDue { awaitChange(of: &watch) }
            wake.drain()
            _ = watch.drain()
            let wasAsked = isAsked.exchange(false, ordering: .acquiringAndReleasing)
            let began = cweir_monotonic_ns()
            let reading = read()
            isDue = cover(&watch, reading)
            let isLiveDue = !reading.says(last) || wasAsked
            guard isLiveDue || reading.shadow != last.shadow else { continue }
            let isConsidered = isPaused.withLock { isPaused in
                if isPaused { return false }
                if isLiveDue {
                    if consider(reading, after: last, began) { inForce = reading.configuration }
                } else if let inForce {
                    adoptShadow(inForce, reading.shadow)
                }
                return true
            }
            if isConsidered {
                last = reading
            } else if wasAsked {
                isAsked.store(true, ordering: .releasing)
            }
        }
    }

    private func cover(_ watch: inout DirectoryWatch, _ reading: ConfigurationSource.Reading) -> Bool {
        let known = watch.unwatched
        let isNew = watch.cover(files: reading.files, directories: reading.directories)
        let codes = Set(watch.unwatched.values)
        if codes.contains(ENOSPC), !known.values.contains(ENOSPC) {
            say("weir: no inotify watch is left (fs.inotify.max_user_watches); some changes are seen on SIGHUP only")
        }
        for (path, code) in watch.unwatched.sorted(by: { $0.key < $1.key }) where code != ENOSPC && known[path] != code
        {
            say("weir: \(path) cannot be watched: \(systemMessage(code)); its changes are seen on SIGHUP only")
        }
        return isNew
    }

    /// Returns once a burst of changes is over, at once where somebody asks.
    private func awaitChange(of watch: inout DirectoryWatch) {
        var burst = Burst()
        while true {
            let patience = burst.patience(at: Instant(nanoseconds: cweir_monotonic_ns()))
            // Rounded up: a wait of 0 would be none.
            let milliseconds = patience.map { CInt(($0 + 999_999) / 1_000_000) } ?? -1
            let isReadable = wait(for: [wake.descriptor, watch.descriptor], milliseconds: milliseconds)
            if !isReadable || wait(for: [wake.descriptor], milliseconds: 0) { return }
            if watch.drain() { burst.note(at: Instant(nanoseconds: cweir_monotonic_ns())) }
            if patience == 0 { return }
        }
    }

    /// `began`: when `reading` was begun, by the monotonic clock.
    /// Whether it is in force now.
    private func consider(
        _ reading: ConfigurationSource.Reading, after last: ConfigurationSource.Reading, _ began: UInt64
    ) -> Bool {
        progress(.began)
        // What only warns is said once; what keeps the configuration from being used, each time.
        for line in reading.diagnostics where reading.configuration == nil || !last.diagnostics.contains(line) {
            say(line)
        }
        for line in reading.notices where !last.notices.contains(line) { say(line) }
        guard let configuration = reading.configuration else {
            refused(reading.isUnreadable ? .unreadable : .invalid)
            return false
        }
        do {
            try adopt(configuration)
            // The shadow is nobody's reload.
            let elapsed = cweir_monotonic_ns() - began
            adoptShadow(configuration, reading.shadow)
            counts.countSuccess(nanoseconds: elapsed)
            progress(.ended(succeeded: true))
            say("weir: configuration reloaded: \(configuration.summary)")
            return true
        } catch {
            for line in error.lines { say("weir: \(line)") }
            refused(ReloadCounts.Reason(error))
            return false
        }
    }

    private func refused(_ reason: ReloadCounts.Reason) {
        counts.countFailure(reason)
        progress(.ended(succeeded: false))
        say("weir: configuration not reloaded; the one before stays in force")
    }
}
