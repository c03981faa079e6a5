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

    package var errors: [ConfigDiagnostic] { diagnostics.filter { $0.severity == .error } }
}

/// Reads configuration files of every format into one `Configuration`.
///
/// Files add up: listeners and clusters are appended, and a name may be used once over all files; every other setting
/// of a later file replaces the earlier one. The format of each file is recognised from its content.
package enum ConfigReader {
    package static func read(files: [String]) -> ConfigResult {
        let draft = ConfigurationDraft(Findings())
        for path in files {
            draft.files.append(path)
            switch ConfigFiles.read(path) {
            case .success(let bytes): read(SourceText(name: path, bytes: bytes), into: draft)
            case .failure(let failure): draft.findings.error(.whole(path), failure.explanation)
            }
        }
        return result(draft, files)
    }

    /// The same from memory. An nginx `include` still reads files, relative to the directory in `name`.
    package static func read(texts: [(name: String, text: String)]) -> ConfigResult {
        read(sources: texts.map { (name: $0.name, bytes: Array($0.text.utf8)) })
    }

    package static func read(sources: [(name: String, bytes: [UInt8])]) -> ConfigResult {
        let draft = ConfigurationDraft(Findings())
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
        case .yaml: NativeReader(draft).read(source)
        }
    }

    private static func result(_ draft: ConfigurationDraft, _ files: [String]) -> ConfigResult {
        draft.finish(files)
        var seen: Set<String> = []
        return ConfigResult(
            configuration: draft.findings.hasErrors ? nil : draft.configuration,
            diagnostics: draft.findings.sortedDiagnostics(), notices: draft.findings.sortedNotices(),
            files: draft.files.filter { seen.insert($0).inserted })
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
