import Glibc
import Synchronization
import Testing
import Weir
import WeirCommand
import WeirNet

/// A running reloader whose proxy is a list.
final class Bench: Sendable {
    let reloader: Reloader
    private let reads: Counter
    private let adopted: Stream<Int>
    private let lines: Stream<String>
    private let shadows: Stream<String>

    /// Returns once the reloader watches: it reads once more after it began to.
    init(_ path: String) throws {
        let reads = Counter()
        let adopted = Stream<Int>()
        let lines = Stream<String>()
        let shadows = Stream<String>()
        let read: @Sendable () -> ConfigurationSource.Reading = {
            defer { reads.increase() }
            return Self.reading(path)
        }
        let adoptShadow: @Sendable (Configuration, ConfigurationSource.Reading.Shadow?) -> Void = { live, shadow in
            shadows.add("\(live.workerCount ?? 0) \(shadow?.diagnostics.joined() ?? "none")")
        }
        reloader = try Reloader(read: read, say: lines.add, adoptShadow: adoptShadow) {
            (configuration) throws(Proxy.StartFailure) in
            let address = SocketAddress(.v4Loopback, port: 1)
            switch configuration.workerCount {
            case 99: throw .driver(reason: "too many")
            case 98: throw .bind(listener: "a", address: address, code: EADDRINUSE)
            case 97: throw .configuration([])
            default: break
            }
            adopted.add(configuration.workerCount!)
        }
        self.reads = reads
        self.adopted = adopted
        self.lines = lines
        self.shadows = shadows
        try reloader.start(from: Self.reading(path))
        while reads.count == 0 { usleep(1000) }
    }

    var readCount: Int { reads.count }

    func read(moreThan count: Int) async {
        while reads.count <= count { await Task.yield() }
    }

    func nextAdopted() async -> Int? { await adopted.next() }
    func nextLine() async -> String? { await lines.next() }
    /// The worker count, and what stands in the shadow's file.
    func nextShadow() async -> String { await shadows.next() }

    /// Seconds since 1970.
    var lastSuccess: Double? {
        let name = "weir_config_last_success_timestamp_seconds "
        let line = reloader.counts.metrics.split(separator: "\n").first { $0.hasPrefix(name) }
        return line.flatMap { Double($0.dropFirst(name.count)) }
    }

    private static func reading(_ path: String) -> ConfigurationSource.Reading {
        let content = HostFacts.text(ofFile: path) ?? ""
        var configuration = Configuration.egressDefault()
        configuration.workerCount = Int(content)
        var reading = ConfigurationSource.Reading(configuration: Int(content) == nil ? nil : configuration)
        if Int(content) == nil { reading.diagnostics = ["weir.yaml:1:1: error: \(content) is not a number"] }
        reading.files = [path, path + ".shadow"]
        if let text = HostFacts.text(ofFile: path + ".shadow") {
            reading.shadow = .init(configuration: nil, diagnostics: [text])
        }
        reading.isUnreadable = content == "none"
        return reading
    }
}

final class Counter: Sendable {
    private let value = Atomic(0)
    var count: Int { value.load(ordering: .acquiring) }
    func increase() { value.add(1, ordering: .acquiringAndReleasing) }
}

/// What another thread hands over, in order.
final class Stream<Element: Sendable>: Sendable {
    private let waiting = Mutex<[Element]>([])

    func add(_ element: Element) { waiting.withLock { $0.append(element) } }

    func next() async -> Element {
        while true {
            let first = waiting.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            if let first { return first }
            try? await Task.sleep(for: .milliseconds(2))
        }
    }
}

/// A temporary directory. Left to whoever cleans up there: the reloader's thread may still look at it.
struct Folder {
    let root: String

    init() throws {
        let parent = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/tmp"
        var template = Array("\(parent)/weir-reloader-XXXXXX".utf8CString)
        let made = unsafe mkdtemp(&template) != nil
        try #require(made)
        root = template.dropLast().reduce(into: "") { $0.unicodeScalars.append(Unicode.Scalar(UInt8(bitPattern: $1))) }
    }

    func path(_ name: String) -> String { "\(root)/\(name)" }

    func write(_ text: String, to name: String) {
        let descriptor = unsafe open(path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        WeirCommand.write(text, to: descriptor)
        close(descriptor)
    }

    func remove(_ name: String) { unsafe _ = Glibc.remove(path(name)) }
    func makeDirectory(_ name: String) { unsafe _ = mkdir(path(name), 0o755) }
    func rename(_ from: String, _ to: String) { unsafe _ = Glibc.rename(path(from), path(to)) }
    func link(_ target: String, _ name: String) { unsafe _ = symlink(target, path(name)) }
}
