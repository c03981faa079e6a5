import ArgumentParser
import Glibc
import Weir

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Read configuration files and say what is wrong with them; nothing is opened.")

    @Option(
        name: .customLong("config"), parsing: .upToNextOption,
        help: ArgumentHelp("The files, as for `run`.", valueName: "file"))
    var files: [String]

    func run() throws {
        let reading = ConfigurationSource(files: files).read()
        // Not `say`: whoever reads them page by page wants them all.
        for line in reading.diagnostics + reading.notices { write(line + "\n", to: STDERR_FILENO) }
        guard let configuration = reading.configuration else { throw CommandFailure(.configuration, []) }
        let capacity = Capacity(configuration)
        if let warning = capacity.warning { say("warning: \(warning)") }
        write("ok: \(configuration.summary)\n", to: STDOUT_FILENO)
    }
}
