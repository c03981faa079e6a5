import Glibc
import Synchronization
import Testing
import Weir
import WeirCommand
import WeirNet

/// T-22: the reloader on real files. The content of the file, a number, becomes the worker count.
@Suite struct ReloaderTests {
    @Test func aFileReplacedByARenameIsAdopted() async throws {
        let folder = try Folder()
        folder.write("2", to: "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        folder.write("3", to: "weir.yaml.new")
        folder.rename("weir.yaml.new", "weir.yaml")
        #expect(await bench.nextAdopted() == 3)
    }

    @Test func aFileWrittenInPlaceIsAdopted() async throws {
        let folder = try Folder()
        folder.write("2", to: "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        folder.write("3", to: "weir.yaml")
        #expect(await bench.nextAdopted() == 3)
    }

    /// weir.yaml → ..data/weir.yaml, ..data → a directory per version; an update swaps ..data.
    @Test func aKubernetesVolumeIsFollowedThroughTwoUpdates() async throws {
        let folder = try Folder()
        for (version, content) in [("..1", "2"), ("..2", "3"), ("..3", "4")] {
            folder.makeDirectory(version)
            folder.write(content, to: "\(version)/weir.yaml")
        }
        folder.link("..1", "..data")
        folder.link("..data/weir.yaml", "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        folder.link("..2", "..data_tmp")
        folder.rename("..data_tmp", "..data")
        #expect(await bench.nextAdopted() == 3)
        folder.link("..3", "..data_tmp")
        folder.rename("..data_tmp", "..data")
        #expect(await bench.nextAdopted() == 4)
    }

    @Test func aFileThatIsALinkIsFollowedToItsTarget() async throws {
        let folder = try Folder()
        folder.makeDirectory("elsewhere")
        folder.write("2", to: "elsewhere/real.yaml")
        folder.link("elsewhere/real.yaml", "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        folder.write("3", to: "elsewhere/real.yaml")
        #expect(await bench.nextAdopted() == 3)
    }

    /// The proof that nothing happened is the next thing that does.
    @Test func aFileWithTheSameContentIsNotAdoptedAgain() async throws {
        let folder = try Folder()
        folder.write("2", to: "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        let readCount = bench.readCount
        folder.write("2", to: "weir.yaml")
        await bench.read(moreThan: readCount)
        folder.write("3", to: "weir.yaml")
        #expect(await bench.nextAdopted() == 3)
    }

    @Test func aRequestAdoptsWhatHasNotChanged() async throws {
        let folder = try Folder()
        folder.write("2", to: "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        bench.reloader.request()
        #expect(await bench.nextAdopted() == 2)
    }

    @Test func aBadFileIsReportedCountedAndReplacedByTheNextGoodOne() async throws {
        let folder = try Folder()
        folder.write("2", to: "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        folder.write("many", to: "weir.yaml")
        #expect(await bench.nextLine() == "weir.yaml:1:1: error: many is not a number")
        #expect(await bench.nextLine() == "weir: configuration not reloaded; the one before stays in force")
        #expect(bench.reloader.counts.metrics.contains("weir_config_reloads_total{result=\"failed\"} 1\n"))
        #expect(bench.reloader.counts.metrics.contains("weir_config_last_reload_successful 0\n"))
        folder.write("2", to: "weir.yaml")
        #expect(await bench.nextAdopted() == 2)
        #expect(await bench.nextLine() == "weir: configuration reloaded: 1 listener, 1 route, 0 clusters")
        #expect(bench.reloader.counts.metrics.contains("weir_config_reloads_total{result=\"ok\"} 1\n"))
        #expect(bench.reloader.counts.metrics.contains("weir_config_last_reload_successful 1\n"))
    }

    @Test func aConfigurationThatTheProxyRefusesIsReported() async throws {
        let folder = try Folder()
        folder.write("2", to: "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        folder.write("99", to: "weir.yaml")
        #expect(await bench.nextLine() == "weir: no I/O driver: too many")
        #expect(await bench.nextLine() == "weir: configuration not reloaded; the one before stays in force")
    }

    @Test func theDirectoryOfAPathIsFound() {
        #expect(DirectoryWatch.directory(of: "weir.yaml") == ".")
        #expect(DirectoryWatch.directory(of: "/weir.yaml") == "/")
        #expect(DirectoryWatch.directory(of: "/etc/weir/weir.yaml") == "/etc/weir")
    }
}

/// A running reloader whose proxy is a list.
private final class Bench: Sendable {
    let reloader: Reloader
    private let reads: Counter
    private let adopted: Stream<Int>
    private let lines: Stream<String>

    /// Returns once the reloader watches: it reads once more after it began to.
    init(_ path: String) throws {
        let reads = Counter()
        let adopted = Stream<Int>()
        let lines = Stream<String>()
        let read: @Sendable () -> ConfigurationSource.Reading = {
            defer { reads.increase() }
            return Self.reading(path)
        }
        reloader = try Reloader(read: read, say: lines.add) { (configuration) throws(Proxy.StartFailure) in
            if configuration.workerCount == 99 { throw .driver(reason: "too many") }
            adopted.add(configuration.workerCount!)
        }
        self.reads = reads
        self.adopted = adopted
        self.lines = lines
        try reloader.start(from: Self.reading(path))
        while reads.count == 0 { usleep(1000) }
    }

    var readCount: Int { reads.count }

    func read(moreThan count: Int) async {
        while reads.count <= count { await Task.yield() }
    }

    func nextAdopted() async -> Int? { await adopted.next() }
    func nextLine() async -> String? { await lines.next() }

    private static func reading(_ path: String) -> ConfigurationSource.Reading {
        let content = HostFacts.text(ofFile: path) ?? ""
        var configuration = Configuration.egressDefault()
        configuration.workerCount = Int(content)
        var reading = ConfigurationSource.Reading(configuration: Int(content) == nil ? nil : configuration)
        if Int(content) == nil { reading.diagnostics = ["weir.yaml:1:1: error: \(content) is not a number"] }
        reading.files = [path]
        return reading
    }
}

private final class Counter: Sendable {
    private let value = Atomic(0)
    var count: Int { value.load(ordering: .acquiring) }
    func increase() { value.add(1, ordering: .acquiringAndReleasing) }
}

/// What another thread hands over, in order.
private final class Stream<Element: Sendable>: Sendable {
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
private struct Folder {
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

    func makeDirectory(_ name: String) { unsafe _ = mkdir(path(name), 0o755) }
    func rename(_ from: String, _ to: String) { unsafe _ = Glibc.rename(path(from), path(to)) }
    func link(_ target: String, _ name: String) { unsafe _ = symlink(target, path(name)) }
}
