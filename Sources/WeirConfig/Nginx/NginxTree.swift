/// One directive with its arguments, and its block where it has one.
struct NginxDirective: Sendable {
    var word: NginxWord
    var arguments: [NginxWord]
    /// nil: ended by `;`.
    var block: [NginxDirective]?

    var name: String { word.text }
    var position: SourcePosition { word.position }
}

/// Reads an nginx file and what it includes into directives, before anyone asks what they mean.
///
/// As in nginx, an `include` path is relative to the directory of the main file, may hold `*`, `?` and `[...]`, and
/// what it names stands in place of the `include`. Bounds: 32 blocks deep, 10 includes deep, 1000 files.
struct NginxTree {
    static let blockDepthMax = 32
    static let includeDepthMax = 10
    static let fileCountMax = 1000

    private let draft: ConfigurationDraft
    private let directory: String
    private var fileCount = 0
    private var includeDepth = 0

    init(_ draft: ConfigurationDraft, main: SourceText) {
        self.draft = draft
        directory = main.name.lastIndex(of: "/").map { String(main.name[...$0]) } ?? ""
    }

    /// nil after a syntax error, which has been reported: what follows one means nothing.
    mutating func read(_ source: SourceText) -> [NginxDirective]? {
        var lexer = NginxLexer(source)
        do {
            return try directives(&lexer, opened: nil, depth: 0)
        } catch {
            draft.findings.error(error.position, error.message)
            return nil
        }
    }

    /// Directives up to the `}` of the block that `opened` began, or to the end of the file.
    private mutating func directives(
        _ lexer: inout NginxLexer, opened: NginxWord?, depth: Int
    ) throws(NginxLexer.Failure) -> [NginxDirective] {
        var found: [NginxDirective] = []
        var words: [NginxWord] = []
        while true {
            switch try lexer.next() {
            case .word(let word):
                words.append(word)
            case .semicolon(let position):
                guard let first = words.first else { throw unexpected("`;`", position) }
                let directive = NginxDirective(word: first, arguments: Array(words.dropFirst()), block: nil)
                words = []
                if first.text == "include", !first.isQuoted {
                    found += include(directive)
                } else {
                    found.append(directive)
                }
            case .open(let position):
                guard let first = words.first else { throw unexpected("`{`", position) }
                guard depth < Self.blockDepthMax else {
                    throw NginxLexer.Failure(
                        position: position, message: "blocks nested deeper than \(Self.blockDepthMax) levels")
                }
                let block = try directives(&lexer, opened: first, depth: depth + 1)
                found.append(NginxDirective(word: first, arguments: Array(words.dropFirst()), block: block))
                words = []
            case .close(let position):
                if let last = words.last { throw unfinished(last, "before this `}`", position) }
                guard opened != nil else { throw unexpected("`}`", position) }
                return found
            case .end(let position):
                if let last = words.last { throw unfinished(last, "at the end of the file", position) }
                if let opened {
                    throw NginxLexer.Failure(
                        position: position,
                        message:
                            "the file ends inside the block \(quoted(opened.text)) of line \(opened.position.line): "
                            + "expected `}`")
                }
                return found
            }
        }
    }

    private func unexpected(_ what: String, _ position: SourcePosition) -> NginxLexer.Failure {
        NginxLexer.Failure(position: position, message: "unexpected \(what)")
    }

    private func unfinished(_ word: NginxWord, _ place: String, _ position: SourcePosition) -> NginxLexer.Failure {
        NginxLexer.Failure(position: position, message: "expected `;` or `{` after \(quoted(word.text)), \(place)")
    }

    // MARK: Includes

    private mutating func include(_ directive: NginxDirective) -> [NginxDirective] {
        guard directive.arguments.count == 1, let pattern = directive.arguments.first else {
            draft.findings.error(directive.position, "`include` takes one path")
            return []
        }
        guard includeDepth < Self.includeDepthMax else {
            draft.findings.error(directive.position, "includes nested deeper than \(Self.includeDepthMax) levels")
            return []
        }
        let path = pattern.text.hasPrefix("/") ? pattern.text : directory + pattern.text
        let isPattern = ConfigFiles.isPattern(path)
        if isPattern { draft.directories += ConfigFiles.directories(searchedBy: path) }
        includeDepth += 1
        defer { includeDepth -= 1 }
        var found: [NginxDirective] = []
        // As in nginx, a pattern may match nothing; a plain path must exist.
        for path in isPattern ? ConfigFiles.paths(matching: path) : [path] {
            found += includedFile(path, at: pattern.position)
        }
        return found
    }

    private mutating func includedFile(_ path: String, at position: SourcePosition) -> [NginxDirective] {
        fileCount += 1
        guard fileCount <= Self.fileCountMax else {
            // Said once: every further include of a ring would repeat it.
            if fileCount == Self.fileCountMax + 1 {
                draft.findings.error(position, "more than \(Self.fileCountMax) files are included")
            }
            return []
        }
        draft.files.append(path)
        switch ConfigFiles.read(path) {
        case .success(let bytes):
            let source = SourceText(name: path, bytes: bytes)
            draft.findings.add(source)
            return read(source) ?? []
        case .failure(let failure):
            draft.isUnreadable = true
            draft.findings.error(position, "\(quoted(path)) \(failure.explanation)")
            return []
        }
    }
}
