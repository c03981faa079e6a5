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

    /// The next thing that is adopted is the file's own change.
    @Test func aShadowThatChangesIsAdoptedAndNothingElse() async throws {
        let folder = try Folder()
        folder.write("2", to: "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        folder.write("one", to: "weir.yaml.shadow")
        #expect(await bench.nextShadow() == "2 one")
        folder.write("3", to: "weir.yaml")
        #expect(await bench.nextAdopted() == 3)
        #expect(await bench.nextShadow() == "3 one")
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

    /// Each write is a change; the writer ends only after one of them has been adopted.
    @Test func aStreamOfWritesThatDoesNotEndIsFollowed() async throws {
        let folder = try Folder()
        folder.write("2", to: "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        let writer = Task {
            var number = 3
            while !Task.isCancelled {
                folder.write("\(number)", to: "weir.yaml.new")
                folder.rename("weir.yaml.new", "weir.yaml")
                number += 1
                try? await Task.sleep(for: .milliseconds(2))
            }
        }
        #expect(try #require(await bench.nextAdopted()) > 2)
        writer.cancel()
        await writer.value
    }

    @Test(arguments: [
        ("99", ReloadCounts.Reason.system), ("98", .bind), ("97", .invalid), ("many", .invalid), ("none", .unreadable),
    ])
    func whyAReloadFailedIsCounted(content: String, reason: ReloadCounts.Reason) async throws {
        let folder = try Folder()
        folder.write("2", to: "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        folder.write(content, to: "weir.yaml")
        while await bench.nextLine() != "weir: configuration not reloaded; the one before stays in force" {}
        for each in ReloadCounts.Reason.allCases {
            let line = "weir_config_reload_failures_total{reason=\"\(each.rawValue)\"} \(each == reason ? 1 : 0)\n"
            #expect(bench.reloader.counts.metrics.contains(line))
        }
    }

    @Test func theMomentOfTheLastSuccessIsTheLastSuccess() async throws {
        let folder = try Folder()
        folder.write("2", to: "weir.yaml")
        let bench = try Bench(folder.path("weir.yaml"))
        let atStart = bench.lastSuccess
        folder.write("many", to: "weir.yaml")
        while await bench.nextLine() != "weir: configuration not reloaded; the one before stays in force" {}
        #expect(bench.lastSuccess == atStart)
        folder.write("3", to: "weir.yaml")
        while await bench.nextLine() != "weir: configuration reloaded: 1 listener, 1 route, 0 clusters" {}
        #expect(try #require(bench.lastSuccess) > #require(atStart))
    }
}
