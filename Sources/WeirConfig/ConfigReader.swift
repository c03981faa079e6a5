import WeirModel

/// What reading a set of files gave.
package struct ConfigResult: Sendable {
    /// nil where there is an error.
    package var configuration: Configuration?
    /// Errors and warnings in the order of the files and their lines.
    package var diagnostics: [ConfigDiagnostic]
    /// What was accepted but has no effect here, or another effect than where the file comes from: `file:line: text`.
    package var notices: [String]
    /// Every file read or tried, includes too, each once: what to watch for changes.
    package var files: [String]
    /// Every directory looked into for files, each once: to watch for names that come.
    package var directories: [String] = []
    /// Whether one of the errors is that a file or directory could not be read.
    package var isUnreadable = false
    /// Where the parts of `configuration` were written.
    package var provenance = Provenance()
    /// Warnings and notices as `file:line:column: text`, in the order of the files and their lines: what the configuration
    /// leaves out of its files, or takes otherwise than they may mean.
    package var remarks: [String] = []

    package var errors: [ConfigDiagnostic] { diagnostics.filter { $0.severity == .error } }
}

/// Reads configuration files of every format into one `Configuration`.
///
/// Files add up: listeners and clusters are appended, and a name may be used once over all files; every other setting
/// of a later file replaces the earlier one. The format of each file is recognised from its content. A directory stands
/// for the files in it and below (`ConfigTree`).
package enum ConfigReader {
    /// `strict`: what a manifest asks for and is not done here is an error.
    package static func read(files paths: [String], strict: Bool = false) -> ConfigResult {
        let draft = ConfigurationDraft(Findings(isStrict: strict))
        for path in paths {
            guard ConfigFiles.isDirectory(path) else {
                read(path, into: draft)
                continue
            }
            let tree = ConfigTree(path)
            draft.directories += tree.directories
            for problem in tree.problems {
                draft.isUnreadable = true
                draft.findings.error(.whole(problem.path), problem.message)
            }
            for file in tree.files { read(file, into: draft) }
        }
        return result(draft, paths)
    }

    private static func read(_ path: String, into draft: ConfigurationDraft) {
        draft.files.append(path)
        switch ConfigFiles.read(path) {
        case .success(let bytes): read(SourceText(name: path, bytes: bytes), into: draft)
        case .failure(let failure):
            draft.isUnreadable = true
            draft.findings.error(.whole(path), failure.explanation)
        }
    }

    /// The same from memory. An nginx `include` still reads files, relative to the directory in `name`.
    package static func read(texts: [(name: String, text: String)], strict: Bool = false) -> ConfigResult {
        read(sources: texts.map { (name: $0.name, bytes: Array($0.text.utf8)) }, strict: strict)
    }

    package static func read(sources: [(name: String, bytes: [UInt8])], strict: Bool = false) -> ConfigResult {
        let draft = ConfigurationDraft(Findings(isStrict: strict))
        for source in sources {
            draft.files.append(source.name)
            read(SourceText(name: source.name, bytes: source.bytes), into: draft)
        }
        return result(draft, sources.map(\.name))
    }

    private static func read(_ source: SourceText, into draft: ConfigurationDraft) {
        draft.findings.add(source)
        // No format has it, and it would cut strings short in C.
        if let offset = source.bytes.firstIndex(of: 0), source.bytes.first != 0xff, source.bytes.first != 0xfe {
            draft.findings.error(source.position(ofByte: offset), "a zero byte: this is not a text file")
            return
        }
        switch ConfigFormat(recognising: source.bytes) {
        case .nginx: NginxFile(draft).read(source)
        case .yaml: readYAML(source, into: draft)
        }
    }

    /// A file may have many documents: manifests, and native sections, which add up as those of many files do.
    private static func readYAML(_ source: SourceText, into draft: ConfigurationDraft) {
        do throws(YAMLDocument.Failure) {
            for document in try YAMLDocument.all(in: source) {
                for problem in document.problems { draft.findings.error(problem.position, problem.message) }
                guard let root = document.root, ManifestSet.isManifest(root) else {
                    NativeReader(draft).read(document)
                    continue
                }
                // As kubectl does it.
                for repeated in document.repeatedKeys {
                    draft.findings.notice(repeated.position, "\(repeated.message); the last one holds")
                }
                draft.manifests.add(root, draft.findings)
            }
        } catch {
            draft.findings.error(error.position, error.message)
        }
    }

    private static func result(_ draft: ConfigurationDraft, _ files: [String]) -> ConfigResult {
        draft.finish(files)
        return ConfigResult(
            configuration: draft.findings.hasErrors ? nil : draft.configuration,
            diagnostics: draft.findings.sortedDiagnostics(), notices: draft.findings.sortedNotices(),
            files: eachOnce(draft.files), directories: eachOnce(draft.directories), isUnreadable: draft.isUnreadable,
            provenance: draft.provenance, remarks: draft.findings.sortedRemarks())
    }

    private static func eachOnce(_ paths: [String]) -> [String] {
        var seen: Set<String> = []
        return paths.filter { seen.insert($0).inserted }
    }
}

/// The formats a file may have.
package enum ConfigFormat: Sendable {
    case nginx
    case yaml

    /// nginx where a `;` or `{` ends the first statement before anything that only YAML has; else YAML.
    package init(recognising bytes: [UInt8]) {
        var index = 0
        // Whether anything stood before: YAML may begin with a flow mapping or a list, nginx with a word only.
        var isFirst = true
        while index < bytes.count {
            let byte = bytes[index]
            let next = index + 1 < bytes.count ? bytes[index + 1] : UInt8(ascii: "\n")
            switch byte {
            case UInt8(ascii: "#"):
                // Both formats have it to the end of the line.
                while index < bytes.count, bytes[index] != UInt8(ascii: "\n") { index += 1 }
                continue
            case UInt8(ascii: ":") where Self.isSpace(next):
                self = .yaml
                return
            case UInt8(ascii: "-") where isFirst, UInt8(ascii: "[") where isFirst, UInt8(ascii: "{") where isFirst:
                self = .yaml
                return
            case UInt8(ascii: ";"), UInt8(ascii: "{"), UInt8(ascii: "}"):
                self = .nginx
                return
            case _ where Self.isSpace(byte):
                break
            default:
                isFirst = false
            }
            index += 1
        }
        self = .yaml
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        [UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"), UInt8(ascii: "\n")].contains(byte)
    }
}

extension ConfigFiles.ReadFailure {
    var explanation: String {
        switch self {
        case .tooLong: "the file is longer than \(ConfigFiles.byteCountMax >> 20) MiB"
        case .system(let text): "cannot be read: \(text)"
        }
    }
}
