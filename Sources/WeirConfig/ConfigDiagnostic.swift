/// Something wrong in a configuration file, and where.
package struct ConfigDiagnostic: Sendable, Equatable {
    package enum Severity: String, Sendable {
        /// The configuration cannot be used.
        case error
        /// It can, but whoever wrote it should know.
        case warning
        /// It can, without this part of a manifest, which is not done here.
        case unsupported
    }

    package var file: String
    /// From one; 0 where the file as a whole is meant.
    package var line: Int
    /// From one, in characters; 0 where `line` is.
    package var column: Int
    package var message: String
    package var severity: Severity
    /// The line the position points into; nil where there is none to show.
    package var sourceLine: String?
}

extension ConfigDiagnostic: CustomStringConvertible {
    /// `file:line:column: error: message`, then the source line with a caret under the column.
    package var description: String {
        let place = line == 0 ? file : "\(file):\(line):\(column)"
        let head = "\(place): \(severity.rawValue): \(message)"
        // Behind this a caret is no help; such lines are not written by people.
        let widthMax = 240
        guard let sourceLine, column >= 1, column <= widthMax else { return head }
        var shown = ""
        var caret = ""
        for (index, scalar) in sourceLine.unicodeScalars.prefix(widthMax).enumerated() {
            let isTab = scalar == "\t"
            let isControl = scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
            // A file must not steer the terminal it is reported on.
            shown.unicodeScalars.append(isControl && !isTab ? "?" : scalar)
            if index < column - 1 { caret += isTab ? "\t" : " " }
        }
        // A position one behind the last character is where something is missing.
        caret += String(repeating: " ", count: max(0, column - 1 - caret.unicodeScalars.count))
        return "\(head)\n\(shown)\n\(caret)^"
    }
}
