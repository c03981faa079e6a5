import ArgumentParser
import Glibc

/// The `weir` program: a thin shell over the library that tests start, too.
@main
struct WeirCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "weir",
        abstract: "An L4 proxy that routes TLS connections by server name, without decrypting them.",
        version: "weir \(weirVersion)",
        subcommands: [
            RunCommand.self, CheckCommand.self, ExplainCommand.self, ConvertCommand.self, DoctorCommand.self,
            SchemaCommand.self,
        ])

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as CommandFailure {
            for line in failure.lines { say(line) }
            Glibc.exit(failure.status.rawValue)
        } catch {
            // The parser's own answers: help and version are good ends, everything else is a mistake in the arguments.
            let isAnswer = exitCode(for: error) == .success
            let text = fullMessage(for: error)
            if !text.isEmpty { write(text + "\n", to: isAnswer ? STDOUT_FILENO : STDERR_FILENO) }
            Glibc.exit(isAnswer ? ExitStatus.good.rawValue : ExitStatus.usage.rawValue)
        }
    }
}

/// The version of this tree.
package let weirVersion = "0.1.0"
