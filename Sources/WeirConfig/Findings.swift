/// Everything found while the files are read: errors, warnings, and notices about what has no effect here.
///
/// Reading goes on after an error, so that one run shows them all.
final class Findings {
    /// After this many, more would not be read by anyone.
    static let diagnosticCountMax = 100

    private(set) var diagnostics: [ConfigDiagnostic] = []
    private var notices: [(position: SourcePosition, text: String)] = []
    /// Beyond those.
    private var droppedNoticeCount = 0
    private(set) var errorCount = 0
    var hasErrors: Bool { errorCount > 0 }
    /// What is not supported is an error.
    let isStrict: Bool
    private var counts: [ConfigDiagnostic.Severity: Int] = [:]
    private var sources: [String: SourceText] = [:]
    private var fileOrder: [String: Int] = [:]
    /// What has been said: a map followed for a thousand names finds its fault a thousand times.
    private var said: Set<String> = []

    init(isStrict: Bool = false) { self.isStrict = isStrict }

    /// Makes the text's lines available to diagnostics.
    func add(_ source: SourceText) {
        sources[source.name] = source
        if fileOrder[source.name] == nil { fileOrder[source.name] = fileOrder.count }
    }

    func error(_ position: SourcePosition, _ message: String) {
        errorCount += 1
        report(position, message, .error)
    }

    func warning(_ position: SourcePosition, _ message: String) {
        report(position, message, .warning)
    }

    /// Something that a manifest asks for and that is not done: an error where the reading is strict.
    func unsupported(_ position: SourcePosition, _ message: String) {
        isStrict ? error(position, message) : report(position, message, .unsupported)
    }

    /// Something accepted that is not what the writer may think it is.
    func notice(_ position: SourcePosition, _ message: String) {
        guard said.insert("\(position): \(message)").inserted else { return }
        if notices.count < 10 * Self.diagnosticCountMax {
            notices.append((position, message))
        } else {
            droppedNoticeCount += 1
        }
    }

    /// What is said of notices that nobody would read any more.
    private var dropped: [String] {
        droppedNoticeCount == 0 ? [] : ["\(droppedNoticeCount) more notices are not shown"]
    }

    /// The notices as `file:line: text`, in the order of the files and their lines.
    func sortedNotices() -> [String] {
        notices.enumerated().sorted { first, second in
            let (a, b) = (first.element.position, second.element.position)
            return (order(a.file), a.line, first.offset) < (order(b.file), b.line, second.offset)
        }.map { _, notice in
            let place =
                notice.position.line == 0 ? notice.position.file : "\(notice.position.file):\(notice.position.line)"
            return "\(place): \(notice.text)"
        } + dropped
    }

    /// Warnings and notices as `file:line:column: text`, in the order of the files and their lines.
    func sortedRemarks() -> [String] {
        let warnings = diagnostics.filter { $0.severity != .error }.map {
            (position: SourcePosition($0.file, $0.line, $0.column), text: "\($0.severity.rawValue): \($0.message)")
        }
        return (warnings + notices).enumerated().sorted { first, second in
            let (a, b) = (first.element.position, second.element.position)
            return (order(a.file), a.line, a.column, first.offset) < (order(b.file), b.line, b.column, second.offset)
        }.map { "\($0.element.position): \($0.element.text)" } + dropped
    }

    /// The diagnostics in the order of the files and their lines.
    func sortedDiagnostics() -> [ConfigDiagnostic] {
        diagnostics.enumerated().sorted { first, second in
            let (a, b) = (first.element, second.element)
            return (order(a.file), a.line, a.column, first.offset) < (order(b.file), b.line, b.column, second.offset)
        }.map(\.element)
    }

    private func order(_ file: String) -> Int { fileOrder[file] ?? .max }

    private func report(_ position: SourcePosition, _ message: String, _ severity: ConfigDiagnostic.Severity) {
        // Each for itself: warnings must not crowd out errors.
        let count = counts[severity, default: 0]
        guard count < Self.diagnosticCountMax else { return }
        guard said.insert("\(position): \(severity): \(message)").inserted else { return }
        counts[severity] = count + 1
        let isLast = count == Self.diagnosticCountMax - 1
        diagnostics.append(
            ConfigDiagnostic(
                file: position.file, line: position.line, column: position.column,
                message: isLast ? message + " (more of this kind are not shown)" : message, severity: severity,
                sourceLine: sources[position.file]?.line(position.line)))
    }
}
