import Glibc
import Testing
import Weir
import WeirCommand

/// UP-13: what is watched for a configuration of real files, and what of it is noticed. inotify(7) has an event in its
/// queue when the call that caused it returns, so nothing here waits.
@Suite struct WatchTests {
    private static func text(_ workers: Int) -> String {
        "workers: \(workers)\nlisteners: [ { name: a, address: 127.0.0.1:1, routes: [ { deny: close } ] } ]\n"
    }

    private static func listener(_ name: String) -> String {
        "listeners: [ { name: \(name), address: \"127.0.0.1:1\", routes: [ { deny: close } ] } ]\n"
    }

    // MARK: Files

    @Test func aFileThatVanishesAndComesBackIsNoticedBothTimes() throws {
        let folder = try Folder()
        folder.write(Self.text(2), to: "weir.yaml")
        let eye = Eye(folder.path("weir.yaml"))
        folder.remove("weir.yaml")
        #expect(eye.notices())
        #expect(eye.reading.isUnreadable)
        folder.write(Self.text(3), to: "weir.yaml")
        #expect(eye.notices())
        #expect(eye.workers == 3)
    }

    @Test func aFileWhoseDirectoryVanishesAndComesBackIsNoticedBothTimes() throws {
        let folder = try Folder()
        folder.makeDirectory("etc")
        folder.makeDirectory("etc/weir")
        folder.write(Self.text(2), to: "etc/weir/weir.yaml")
        let eye = Eye(folder.path("etc/weir/weir.yaml"))
        folder.rename("etc", "gone")
        #expect(eye.notices())
        #expect(eye.reading.configuration == nil)
        folder.makeDirectory("etc")
        #expect(eye.notices())
        folder.makeDirectory("etc/weir")
        #expect(eye.notices())
        folder.write(Self.text(3), to: "etc/weir/weir.yaml")
        #expect(eye.notices())
        #expect(eye.workers == 3)
    }

    @Test func aLinkOnTheWayToADirectoryMayBeSwapped() throws {
        let folder = try Folder()
        for (version, workers) in [("1", 2), ("2", 3)] {
            folder.makeDirectory(version)
            folder.makeDirectory("\(version)/conf")
            folder.write(Self.text(workers), to: "\(version)/conf/weir.yaml")
        }
        folder.link("1", "current")
        let eye = Eye(folder.path("current/conf/weir.yaml"))
        folder.link("2", "next")
        folder.rename("next", "current")
        #expect(eye.notices())
        #expect(eye.workers == 3)
    }

    @Test func aLinkInTheMiddleOfAChainMayBeSwapped() throws {
        let folder = try Folder()
        folder.makeDirectory("middle")
        folder.write(Self.text(2), to: "old.yaml")
        folder.write(Self.text(3), to: "new.yaml")
        folder.link("../old.yaml", "middle/link")
        folder.link("middle/link", "weir.yaml")
        let eye = Eye(folder.path("weir.yaml"))
        folder.link("../new.yaml", "middle/next")
        folder.rename("middle/next", "middle/link")
        #expect(eye.notices())
        #expect(eye.workers == 3)
    }

    @Test func linksThatGoRoundInARingLeadNowhere() throws {
        let folder = try Folder()
        folder.link("b", "a")
        folder.link("a", "b")
        var trace = NameTrace()
        #expect(trace.follow(folder.path("a")) == nil)
    }

    @Test func anotherFileBesideItIsNotNoticed() throws {
        let folder = try Folder()
        folder.write(Self.text(2), to: "weir.yaml")
        let eye = Eye(folder.path("weir.yaml"))
        folder.write("x", to: "other.yaml")
        #expect(!eye.notices())
    }

    /// Half of a document may be a document.
    @Test func aNewFileIsNoticedWhenItsWriterHasClosedIt() throws {
        let folder = try Folder()
        let eye = Eye(folder.path("weir.yaml"))
        let descriptor = unsafe open(folder.path("weir.yaml"), O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
        WeirCommand.write(Self.text(2), to: descriptor)
        #expect(!eye.notices())
        close(descriptor)
        #expect(eye.notices())
        #expect(eye.workers == 2)
    }

    // MARK: Directories

    @Test func filesThatComeIntoADirectoryChangeAndGoAreNoticed() throws {
        let folder = try Folder()
        folder.write(Self.listener("a"), to: "a.yaml")
        let eye = Eye(folder.root)
        #expect(eye.listeners == ["a"])
        folder.write(Self.listener("b").replacing("127.0.0.1:1", with: "127.0.0.1:2"), to: "b.yaml")
        #expect(eye.notices())
        #expect(eye.listeners == ["a", "b"])
        folder.write(Self.listener("c").replacing("127.0.0.1:1", with: "127.0.0.1:2"), to: "b.yaml")
        #expect(eye.notices())
        #expect(eye.listeners == ["a", "c"])
        folder.remove("a.yaml")
        #expect(eye.notices())
        #expect(eye.listeners == ["c"])
    }

    @Test func subdirectoriesThatComeChangeAndGoAreNoticed() throws {
        let folder = try Folder()
        folder.write(Self.listener("a"), to: "a.yaml")
        let eye = Eye(folder.root)
        folder.makeDirectory("more")
        folder.makeDirectory("more/deep")
        #expect(eye.notices())
        folder.write(Self.listener("b").replacing("127.0.0.1:1", with: "127.0.0.1:2"), to: "more/deep/b.yaml")
        #expect(eye.notices())
        #expect(eye.listeners == ["a", "b"])
        folder.remove("more/deep/b.yaml")
        #expect(eye.notices())
        folder.remove("more/deep")
        #expect(eye.notices())
        #expect(eye.listeners == ["a"])
    }

    /// Each update makes the new version's directory, swaps `..data`, and then makes and removes the visible links.
    @Test func aKubernetesVolumeIsFollowedAsADirectory() throws {
        let folder = try Folder()
        folder.makeDirectory("..1")
        folder.write(Self.listener("a"), to: "..1/a.yaml")
        folder.link("..1", "..data")
        folder.link("..data/a.yaml", "a.yaml")
        let eye = Eye(folder.root)
        #expect(eye.listeners == ["a"])
        folder.makeDirectory("..2")
        folder.write(Self.listener("b"), to: "..2/a.yaml")
        folder.write(Self.listener("c").replacing("127.0.0.1:1", with: "127.0.0.1:2"), to: "..2/c.yaml")
        folder.link("..2", "..data_tmp")
        _ = eye.notices()
        folder.rename("..data_tmp", "..data")
        #expect(eye.notices())
        #expect(eye.listeners == ["b"])
        folder.link("..data/c.yaml", "c.yaml")
        #expect(eye.notices())
        #expect(eye.listeners == ["b", "c"])
        folder.remove("..1/a.yaml")
        folder.remove("..1")
        folder.write(Self.listener("d"), to: "..2/a.yaml")
        #expect(eye.notices())
        #expect(eye.listeners == ["d", "c"])
    }

    @Test func hiddenFilesInADirectoryAreNotNoticed() throws {
        let folder = try Folder()
        folder.write(Self.listener("a"), to: "a.yaml")
        let eye = Eye(folder.root)
        folder.write("x", to: ".a.yaml.swp")
        folder.remove(".a.yaml.swp")
        #expect(!eye.notices())
    }

    // MARK: nginx

    @Test func includedFilesAreNoticedAlsoThoseThatComeToAPattern() throws {
        let folder = try Folder()
        folder.write("stream { include conf.d/*.conf; include sites/*/site.conf; }\n", to: "nginx.conf")
        let eye = Eye(folder.path("nginx.conf"))
        folder.makeDirectory("conf.d")
        #expect(eye.notices())
        folder.write("server { listen 1; proxy_pass 10.0.0.1:1; }\n", to: "conf.d/a.conf")
        #expect(eye.notices())
        #expect(eye.listeners == ["0.0.0.0:1"])
        folder.write("server { listen 2; proxy_pass 10.0.0.1:1; }\n", to: "conf.d/a.conf")
        #expect(eye.notices())
        #expect(eye.listeners == ["0.0.0.0:2"])
        folder.makeDirectory("sites")
        #expect(eye.notices())
        folder.makeDirectory("sites/one")
        #expect(eye.notices())
        folder.write("server { listen 3; proxy_pass 10.0.0.1:1; }\n", to: "sites/one/site.conf")
        #expect(eye.notices())
        #expect(eye.listeners == ["0.0.0.0:2", "0.0.0.0:3"])
    }
}

/// One turn of the reloader at a time, without its thread.
private final class Eye {
    private let source: ConfigurationSource
    private var watch = DirectoryWatch()
    private(set) var reading: ConfigurationSource.Reading

    init(_ path: String) {
        source = ConfigurationSource(files: [path])
        reading = source.read()
        look()
    }

    var workers: Int? { reading.configuration?.workerCount }
    var listeners: [String] { reading.configuration?.listeners.map(\.name) ?? [] }

    /// Whether something of interest has happened since the last look; then looks again.
    func notices() -> Bool {
        guard watch.drain() else { return false }
        look()
        return true
    }

    private func look() {
        repeat {
            reading = source.read()
        } while watch.cover(files: reading.files, directories: reading.directories)
        _ = watch.drain()
    }
}
