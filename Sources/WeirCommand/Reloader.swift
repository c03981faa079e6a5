import Synchronization
import Weir
import WeirMemory

/// Reads the configuration again on request and when its files change, on a thread of its own.
///
/// A reading that cannot be used, or that the proxy refuses, is reported once and leaves what runs as it is (T-22).
package final class Reloader: Sendable {
    /// Files are written in bursts; this long after the first sign the burst is over.
    package static let burstMilliseconds: CInt = 100

    package let counts = ReloadCounts()
    private let read: @Sendable () -> ConfigurationSource.Reading
    private let adopt: @Sendable (Configuration) throws(Proxy.StartFailure) -> Void
    private let say: @Sendable (String) -> Void
    private let progress: @Sendable (Progress) -> Void
    private let wake: WakeDescriptor
    private let isAsked = Atomic(false)
    /// Held during a reload: whether none may begin.
    private let isPaused = Mutex(false)

    package enum Progress: Sendable, Equatable {
        case began
        case ended(succeeded: Bool)
    }

    /// `read` looks at the source, `adopt` makes the running proxy take a configuration over, or throws and leaves it.
    /// `progress` hears of each reload.
    package init(
        read: @escaping @Sendable () -> ConfigurationSource.Reading, say: @escaping @Sendable (String) -> Void,
        progress: @escaping @Sendable (Progress) -> Void = { _ in },
        adopt: @escaping @Sendable (Configuration) throws(Proxy.StartFailure) -> Void
    ) throws(CommandFailure) {
        self.read = read
        self.say = say
        self.adopt = adopt
        self.progress = progress
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
        // What changed between the reading at start and this line is seen by reading once more.
        var isDue = watch.cover(first.files)
        while true {
            if !isDue {
                wait(for: [wake.descriptor, watch.descriptor])
                if !isAsked.load(ordering: .acquiring) {
                    wait(for: [wake.descriptor], milliseconds: Self.burstMilliseconds)
                }
            }
            wake.drain()
            watch.drain()
            let wasAsked = isAsked.exchange(false, ordering: .acquiringAndReleasing)
            let reading = read()
            isDue = watch.cover(reading.files)
            guard reading != last || wasAsked else { continue }
            let isConsidered = isPaused.withLock { isPaused in
                if !isPaused { consider(reading, after: last) }
                return !isPaused
            }
            if isConsidered {
                last = reading
            } else if wasAsked {
                isAsked.store(true, ordering: .releasing)
            }
        }
    }

    private func consider(_ reading: ConfigurationSource.Reading, after last: ConfigurationSource.Reading) {
        progress(.began)
        for line in reading.diagnostics { say(line) }
        for line in reading.notices where !last.notices.contains(line) { say(line) }
        guard let configuration = reading.configuration else { return refused() }
        do {
            try adopt(configuration)
            counts.count(succeeded: true)
            progress(.ended(succeeded: true))
            say("weir: configuration reloaded: \(configuration.summary)")
        } catch {
            for line in error.lines { say("weir: \(line)") }
            refused()
        }
    }

    private func refused() {
        counts.count(succeeded: false)
        progress(.ended(succeeded: false))
        say("weir: configuration not reloaded; the one before stays in force")
    }
}

/// How reloads went. One thread counts, any thread reads.
package final class ReloadCounts: Sendable {
    private let succeeded = Atomic(0)
    private let failed = Atomic(0)
    private let lastSucceeded = Atomic(true)

    package init() {}

    package func count(succeeded isGood: Bool) {
        if isGood {
            succeeded.add(1, ordering: .relaxed)
        } else {
            failed.add(1, ordering: .relaxed)
        }
        lastSucceeded.store(isGood, ordering: .relaxed)
    }

    /// In Prometheus text format 0.0.4.
    package var metrics: String {
        """
        # HELP weir_config_reloads_total Reloads of the configuration, by result.
        # TYPE weir_config_reloads_total counter
        weir_config_reloads_total{result="ok"} \(succeeded.load(ordering: .relaxed))
        weir_config_reloads_total{result="failed"} \(failed.load(ordering: .relaxed))
        # HELP weir_config_last_reload_successful Whether the newest configuration is the one in force.
        # TYPE weir_config_last_reload_successful gauge
        weir_config_last_reload_successful \(lastSucceeded.load(ordering: .relaxed) ? 1 : 0)

        """
    }
}
