/// A YAML document as a tree with positions, before anyone asks what it means.
struct YAMLNode {
    struct Entry {
        var key: String
        var position: SourcePosition
        var value: YAMLNode
    }

    enum Content {
        /// Plain (unquoted) text can also be nothing at all: see `isNull`.
        case scalar(String, isPlain: Bool)
        case sequence([YAMLNode])
        /// Keys are unique, in the order written.
        case mapping([Entry])
    }

    var content: Content
    var position: SourcePosition
    /// This node and all below it, aliases written out.
    var nodeCount = 1

    /// A key without a value, `~` or `null`.
    var isNull: Bool {
        guard case .scalar(let text, isPlain: true) = content else { return false }
        return switch text {
        case "", "~", "null", "Null", "NULL": true
        default: false
        }
    }

    /// `[]` or `{}`.
    var isEmptyCollection: Bool {
        switch content {
        case .scalar: false
        case .sequence(let items): items.isEmpty
        case .mapping(let entries): entries.isEmpty
        }
    }

    /// What stands here, for a message that expected something else.
    var kind: String {
        switch content {
        case .scalar(let text, _): isNull ? "nothing" : quoted(text)
        case .sequence: "a list"
        case .mapping: "a mapping"
        }
    }
}
