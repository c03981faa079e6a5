import Glibc
import Testing
import WeirConfig
import WeirModel

/// Several files, and files that include others.
@Suite struct FilesTests {
    private static let yaml = "listeners: [ { name: a, address: 127.0.0.1:1, routes: [ { deny: close } ] } ]\n"

    @Test func laterFilesAddListenersAndReplaceSettings() throws {
        let result = ConfigReader.read(texts: [
            (name: "1", text: Self.yaml + "workers: 2\nresolver: { timeout: 1s, stale: 1s }\n"),
            (name: "2", text: "stream { server { listen 2; proxy_pass 10.0.0.1:1; } }"),
            (name: "3", text: "workers: 3\nresolver: { timeout: 2s }\n"),
        ])
        let configuration = try #require(result.configuration, "\(result.diagnostics.map(\.description))")
        #expect(configuration.listeners.map(\.name) == ["a", "0.0.0.0:2"])
        #expect(configuration.workerCount == 3)
        #expect(configuration.resolver.timeout == .seconds(2))
        #expect(configuration.resolver.staleTTL == .seconds(1))
        #expect(result.files == ["1", "2", "3"])
    }

    @Test func aNameInTwoFilesNamesBothPlaces() {
        let result = ConfigReader.read(texts: [(name: "1", text: Self.yaml), (name: "2", text: Self.yaml)])
        #expect(
            result.diagnostics.map(\.description).first?.hasPrefix(
                "2:1:22: error: listener \"a\" is already defined at 1:1:22") == true)
    }

    @Test func oneTargetInTwoNginxFilesIsOneCluster() throws {
        let result = ConfigReader.read(texts: [
            (name: "1", text: "stream { server { listen 1; proxy_pass 10.0.0.1:1; } }"),
            (name: "2", text: "stream { server { listen 2; proxy_pass 10.0.0.1:1; } }"),
            (name: "3", text: "stream { server { listen 3; proxy_pass 10.0.0.1:1; proxy_protocol on; } }"),
        ])
        #expect(try #require(result.configuration).clusters.map(\.name) == ["10.0.0.1:1", "10.0.0.1:1@0.0.0.0:3"])
    }

    @Test func anErrorInOneFileDoesNotHideThoseOfTheNext() {
        let result = ConfigReader.read(texts: [
            (name: "1", text: "workers: x\n"), (name: "2", text: "stream { nonsense; }"),
        ])
        #expect(result.diagnostics.map(\.file) == ["1", "2"])
    }

    // MARK: Includes

    /// A directory with the given files, gone when `body` has returned.
    private func withFiles(_ files: [String: String], _ body: (String) throws -> Void) throws {
        let directory = "/tmp/weir-config-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        try #require(unsafe mkdir(directory, 0o700) == 0)
        try #require(unsafe mkdir("\(directory)/conf.d", 0o700) == 0)
        defer {
            for path in files.keys { unsafe unlink("\(directory)/\(path)") }
            unsafe rmdir("\(directory)/conf.d")
            unsafe rmdir(directory)
        }
        for (path, text) in files {
            let descriptor = unsafe creat("\(directory)/\(path)", 0o600)
            let bytes = Array(text.utf8)
            #expect(unsafe write(descriptor, bytes, bytes.count) == bytes.count)
            close(descriptor)
        }
        try body(directory)
    }

    @Test func includesAreReadInPlaceAndListed() throws {
        let files = [
            "nginx.conf": "include conf.d/none-*.conf;\nstream {\n  include conf.d/*.conf;\n}\n",
            "conf.d/a.conf": "server { listen 1; include conf.d/target; }\n",
            "conf.d/b.conf": "server { listen 2; include conf.d/target; }\n",
            "conf.d/target": "proxy_pass 10.0.0.1:1;\n",
        ]
        try withFiles(files) { directory in
            let result = ConfigReader.read(files: ["\(directory)/nginx.conf"])
            let configuration = try #require(result.configuration, "\(result.diagnostics.map(\.description))")
            #expect(configuration.listeners.map(\.name) == ["0.0.0.0:1", "0.0.0.0:2"])
            let names = ["nginx.conf", "conf.d/a.conf", "conf.d/target", "conf.d/b.conf"]
            #expect(result.files == names.map { "\(directory)/\($0)" })
        }
    }

    @Test func entriesOfAMapMayBeIncluded() throws {
        let files = [
            "nginx.conf": """
            stream {
                map $ssl_preread_server_name $t { include names; default 10.0.0.2:2; }
                server { listen 443; ssl_preread on; proxy_pass $t; }
            }
            """, "names": "a.example 10.0.0.1:1;\n",
        ]
        try withFiles(files) { directory in
            let result = ConfigReader.read(files: ["\(directory)/nginx.conf"])
            #expect(
                result.configuration?.listeners[0].routes.map(\.action) == [
                    .cluster("10.0.0.1:1"), .cluster("10.0.0.2:2"),
                ])
        }
    }

    @Test func anErrorInAnIncludeNamesThatFile() throws {
        try withFiles(["nginx.conf": "stream { include inner; }\n", "inner": "\n  server { lisen 1; }\n"]) {
            directory in
            let result = ConfigReader.read(files: ["\(directory)/nginx.conf"])
            let text =
                "\(directory)/inner:2:12: error: unknown directive \"lisen\" in `server`; did you mean \"listen\"?"
            #expect(result.diagnostics.map(\.description).contains { $0.hasPrefix(text) })
        }
    }

    @Test func aMissingIncludeIsAnErrorWhereItIsAskedFor() throws {
        try withFiles(["nginx.conf": "stream {\n  include gone.conf;\n}\n"]) { directory in
            let result = ConfigReader.read(files: ["\(directory)/nginx.conf"])
            #expect(
                result.errorLines == ["2:11 \"\(directory)/gone.conf\" cannot be read: No such file or directory"])
            #expect(result.files.last == "\(directory)/gone.conf")
        }
    }

    @Test func aRingOfIncludesIsRefused() throws {
        try withFiles(["nginx.conf": "include nginx.conf; include nginx.conf;\n"]) { directory in
            let result = ConfigReader.read(files: ["\(directory)/nginx.conf"])
            #expect(result.errors.contains { $0.message == "includes nested deeper than 10 levels" })
            #expect(result.errors.count <= 3)
        }
    }

    @Test func anIncludeOfADirectoryIsAnError() throws {
        try withFiles(["nginx.conf": "include conf.d;\n"]) { directory in
            let result = ConfigReader.read(files: ["\(directory)/nginx.conf"])
            #expect(result.errorLines == ["1:9 \"\(directory)/conf.d\" cannot be read: Is a directory"])
        }
    }
}
