import ArgumentParser
import Glibc
import Weir
import WeirConfig

struct ConvertCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Write configuration files of any format as one file in another.",
        discussion: """
            The file written decides as the files read do; comments name the file, line and column that each part came \
            from. What the files say and Weir leaves out, or takes otherwise, stands in comments at the top and on \
            standard error. Nothing is written where the files have an error, or say what the other format cannot.
            """)

    /// What can be written.
    enum Format: String, ExpressibleByArgument, CaseIterable {
        case native
    }

    @Argument(help: ArgumentHelp("The files, as for `run --config`; they add up.", valueName: "file"))
    var files: [String]

    @Option(name: .customLong("to"), help: ArgumentHelp("The format to write.", valueName: "native"))
    var format: Format

    @Option(
        help: ArgumentHelp(
            "Where to write it, over what is there. Default: standard output.", valueName: "file"))
    var output: String?

    @Flag(help: "As for `check`.")
    var strict = false

    func run() throws {
        let result = ConfigReader.read(files: files, strict: strict)
        guard let configuration = result.configuration else {
            let lines = result.diagnostics.map(\.description) + result.notices
            for line in lines { write(line + "\n", to: STDERR_FILENO) }
            throw CommandFailure(.configuration, [])
        }
        for line in result.remarks { write(line + "\n", to: STDERR_FILENO) }
        let written = NativeWriter.write(configuration, provenance: result.provenance, head: head(result.remarks))
        guard written.problems.isEmpty else {
            throw CommandFailure(.configuration, written.problems.map { "error: \($0)" })
        }
        guard let output else { return write(written.text, to: STDOUT_FILENO) }
        let code = WholeFile.write(written.text, to: output)
        if code != 0 { throw CommandFailure(.runTime, ["weir: \(output): \(systemMessage(code))"]) }
    }

    private func head(_ remarks: [String]) -> [String] {
        let origin = "weir \(weirVersion) wrote this from \(files.joined(separator: ", "))."
        if remarks.isEmpty { return [origin] }
        return [origin, "", "Left out, or taken otherwise than the files may mean:"] + remarks.map { "  \($0)" }
    }
}

/// A file that is there as a whole, or as it was before.
enum WholeFile {
    /// 0, or an errno.
    static func write(_ text: String, to path: String) -> CInt {
        // What is no plain file (a terminal, a pipe) is not replaced.
        var found = stat()
        let isReplaced = unsafe stat(path, &found) != 0 || found.st_mode & S_IFMT == S_IFREG
        let target = isReplaced ? "\(path).\(getpid())" : path
        let descriptor = unsafe open(target, O_WRONLY | O_CLOEXEC | (isReplaced ? O_CREAT | O_EXCL : 0), 0o644)
        guard descriptor >= 0 else { return errno }
        let code = write(Array(text.utf8), to: descriptor)
        guard code == 0, isReplaced else {
            if isReplaced { unsafe unlink(target) }
            return code
        }
        if unsafe rename(target, path) != 0 {
            let code = errno
            unsafe unlink(target)
            return code
        }
        return 0
    }

    /// Closes `descriptor` as well.
    private static func write(_ bytes: [UInt8], to descriptor: CInt) -> CInt {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress!, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let code = errno
                close(descriptor)
                return code
            }
            rest = rest.dropFirst(count)
        }
        return close(descriptor) == 0 ? 0 : errno
    }
}
