import ArgumentParser
import Glibc
import Weir
import WeirAdmin
import WeirExplain

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Read configuration files and say what is wrong with them; nothing is opened.",
        discussion: """
            With --against it also says what a running instance would do with them: listeners that open and close, \
            sessions that lose their route, and server names of the last hour whose decision changes.

            Exit status: 0 where nothing changes for anybody, 6 where something does, 1 where the configuration cannot \
            be used, 3 where the instance cannot be asked.
            """)

    @Option(
        name: .customLong("config"), parsing: .upToNextOption,
        help: ArgumentHelp("The files and directories, as for `run`.", valueName: "path"))
    var files: [String]

    @Flag(help: "What a manifest asks for and is not supported is an error.")
    var strict = false

    @Option(
        help: ArgumentHelp(
            "The admin endpoint of a running instance, which the configuration is compared with.",
            valueName: "http://address:port"))
    var against: String?

    @Flag(help: "With --against: print it as JSON.")
    var json = false

    func validate() throws {
        if json, against == nil { throw ValidationError("--json goes with --against.") }
    }

    func run() throws {
        let instance = try against.map { (url) throws in try RunningInstance(url) }
        var source = ConfigurationSource(files: files)
        source.isStrict = strict
        let reading = source.read()
        // Not `say`: whoever reads them page by page wants them all.
        for line in reading.diagnostics + reading.notices { write(line + "\n", to: STDERR_FILENO) }
        for line in reading.shadow?.diagnostics ?? [] { write(line + "\n", to: STDERR_FILENO) }
        guard let configuration = reading.configuration else { throw CommandFailure(.configuration, []) }
        let capacity = Capacity(configuration)
        if let warning = capacity.warning { say("warning: \(warning)") }
        if !json { write("ok: \(configuration.summary)\n", to: STDOUT_FILENO) }
        guard let instance else { return }
        let comparison = try instance.comparison(with: configuration)
        write(json ? comparison.json.text + "\n" : comparison.text, to: STDOUT_FILENO)
        if !comparison.isHarmless { throw CommandFailure(.changes, []) }
    }
}
