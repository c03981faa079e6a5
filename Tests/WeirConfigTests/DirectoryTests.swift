import Glibc
import Testing
import WeirConfig
import WeirModel

/// A directory in place of a file: which of its files are read, in which order, and how often.
@Suite struct DirectoryTests {
    private static func listener(_ name: String, _ port: Int) -> String {
        "listeners: [ { name: \(name), address: \"127.0.0.1:\(port)\", routes: [ { deny: close } ] } ]\n"
    }

    /// Files by path, and links (from path to target), in a directory of their own that is gone when `body` has returned.
    private func withTree(
        _ files: [String: String], links: [String: String] = [:], _ body: (String) throws -> Void
    ) throws {
        let root = "/tmp/weir-tree-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        var directories: [String] = []
        func make(_ path: String) throws {
            try #require(unsafe mkdir(path, 0o700) == 0)
            directories.append(path)
        }
        try make(root)
        defer { for path in directories.reversed() { unsafe rmdir(path) } }
        defer { for path in Array(files.keys) + Array(links.keys) { unsafe unlink("\(root)/\(path)") } }
        for (path, text) in files.sorted(by: { $0.key < $1.key }) {
            var directory = root
            for part in path.split(separator: "/").dropLast() {
                directory += "/\(part)"
                if !directories.contains(directory) { try make(directory) }
            }
            let descriptor = unsafe creat("\(root)/\(path)", 0o600)
            let bytes = Array(text.utf8)
            #expect(unsafe write(descriptor, bytes, bytes.count) == bytes.count)
            close(descriptor)
        }
        for (path, target) in links { try #require(unsafe symlink(target, "\(root)/\(path)") == 0) }
        try body(root)
    }

    @Test func filesAreReadInTheOrderOfTheirNamesThroughSubdirectories() throws {
        let files = [
            "b.yaml": Self.listener("b", 2), "a.conf": "stream { server { listen 1; proxy_pass 10.0.0.1:1; } }",
            "c/z.yml": Self.listener("c", 3), "c/a/x.json": #"{"workers": 3}"#, "d.yaml": Self.listener("d", 4),
            "B.yaml": Self.listener("B", 5),
        ]
        try withTree(files) { root in
            let result = ConfigReader.read(files: [root])
            let configuration = try #require(result.configuration, "\(result.diagnostics.map(\.description))")
            #expect(configuration.listeners.map(\.name) == ["B", "0.0.0.0:1", "b", "c", "d"])
            #expect(configuration.workerCount == 3)
            #expect(
                result.files
                    == ["B.yaml", "a.conf", "b.yaml", "c/a/x.json", "c/z.yml", "d.yaml"].map { "\(root)/\($0)" })
            #expect(result.directories == [root, "\(root)/c", "\(root)/c/a"])
        }
    }

    @Test func hiddenNamesAndOtherSuffixesAreNotRead() throws {
        let files = [
            "a.yaml": Self.listener("a", 1), ".b.yaml": "x", "a.yaml~": "x", "README.md": "x", "..old/c.yaml": "x",
        ]
        try withTree(files) { root in
            #expect(ConfigReader.read(files: [root]).files == ["\(root)/a.yaml"])
        }
    }

    /// Kubernetes: file → ..data/file, ..data → the directory of a version.
    @Test func theFilesOfAKubernetesVolumeAreReadOnceByTheirVisibleNames() throws {
        let files = ["..2024_01/a.yaml": Self.listener("a", 1), "..2024_01/b.yaml": Self.listener("b", 2)]
        let links = ["..data": "..2024_01", "a.yaml": "..data/a.yaml", "b.yaml": "..data/b.yaml"]
        try withTree(files, links: links) { root in
            let result = ConfigReader.read(files: [root])
            #expect(result.configuration?.listeners.map(\.name) == ["a", "b"])
            #expect(result.files == ["\(root)/a.yaml", "\(root)/b.yaml"])
        }
    }

    @Test func aDirectoryThatALinkLeadsBackToIsReadOnce() throws {
        try withTree(["a.yaml": Self.listener("a", 1)], links: ["again": "."]) { root in
            #expect(ConfigReader.read(files: [root]).configuration?.listeners.map(\.name) == ["a"])
        }
    }

    @Test func aDirectoryWithoutConfigurationIsAnError() throws {
        try withTree(["empty/notes.txt": "x"]) { root in
            let result = ConfigReader.read(files: ["\(root)/empty/"])
            #expect(
                result.diagnostics.map(\.description) == [
                    "\(root)/empty: error: the directory holds no configuration: no *.yaml, *.yml, *.json, *.conf in it "
                        + "or below"
                ])
            #expect(result.isUnreadable)
            #expect(result.directories == ["\(root)/empty"])
        }
    }

    @Test func directoriesAndFilesAddUpInTheOrderGiven() throws {
        let files = ["x/a.yaml": Self.listener("a", 1), "b.yaml": Self.listener("b", 2), "c/c.yaml": "workers: 2\n"]
        try withTree(files) { root in
            let result = ConfigReader.read(files: ["\(root)/b.yaml", "\(root)/x", "\(root)/c"])
            #expect(result.configuration?.listeners.map(\.name) == ["b", "a"])
            #expect(result.configuration?.workerCount == 2)
        }
    }

    @Test func aNameWithPatternCharactersIsThatDirectory() throws {
        try withTree(["[a]*?/a.yaml": Self.listener("a", 1)]) { root in
            #expect(ConfigReader.read(files: ["\(root)/[a]*?"]).files == ["\(root)/[a]*?/a.yaml"])
        }
    }
}
