import WeirModel

/// Reads an nginx configuration: the top level, and the one `stream` block that is served.
struct NginxFile {
    private let draft: ConfigurationDraft
    private let values: NginxValues
    private var findings: Findings { draft.findings }

    init(_ draft: ConfigurationDraft) {
        self.draft = draft
        values = NginxValues(findings: draft.findings)
    }

    func read(_ source: SourceText) {
        var tree = NginxTree(draft, main: source)
        let errorCount = findings.errorCount
        guard let directives = tree.read(source) else { return }
        // After a fault in an included file its directives are missing, and what follows from that is noise.
        if findings.errorCount > errorCount { return }
        var seen: [String: SourcePosition] = [:]
        for directive in directives where NginxVocabulary.admits(directive, at: .main, findings) {
            if let first = seen[directive.name] {
                findings.error(directive.position, "\(quoted(directive.name)) repeats line \(first.line)")
                continue
            }
            seen[directive.name] = directive.position
            switch directive.name {
            case "stream": NginxStream(draft).read(directive)
            case "events":
                // Whatever stands here tunes nginx: each is noticed, none is read.
                for child in directive.block ?? [] { _ = NginxVocabulary.admits(child, at: .events, findings) }
            case "worker_processes":
                readWorkers(directive.arguments[0])
                draft.locate("workers", at: directive.position)
            case "worker_shutdown_timeout":
                draft.locate("drain", at: directive.position)
                if let value = values.time(directive.arguments[0]) { draft.configuration.drainTimeout = value }
            default: preconditionFailure("\(directive.name) is in the vocabulary but is not read")
            }
        }
    }

    private func readWorkers(_ word: NginxWord) {
        if word.text == "auto" {
            draft.configuration.workerCount = nil
        } else if let count = decimal(word.text), (1...256).contains(count) {
            draft.configuration.workerCount = count
        } else {
            values.expected("auto or a number 1...256", word)
        }
    }
}
