import ArgumentParser
import Glibc
import WeirConfig

struct SchemaCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "schema", abstract: "Print a JSON Schema (draft 2020-12) of the native format, for editors.")

    func run() {
        write(NativeSchema.json().text() + "\n", to: STDOUT_FILENO)
    }
}
