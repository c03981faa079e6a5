import CYAML

/// One document of a YAML file: turns libyaml's events into a checked tree. The module's only use of libyaml.
///
/// Bounds, for a whole file: 64 levels and a million nodes, aliases counted as if written out. Refused: keys that are not
/// text, `<<`, tags, an alias inside its own anchor.
///
/// Every `unsafe` here reads what libyaml owns between two calls of its parser; nothing of it leaves this file.
struct YAMLDocument {
    static let depthMax = 64
    static let nodeCountMax = 1_000_000

    /// What is wrong, and where. Thrown where the events after it mean nothing.
    struct Failure: Error {
        var position: SourcePosition
        var message: String
    }

    /// Where it begins.
    let position: SourcePosition
    /// nil for a document without content.
    let root: YAMLNode?
    /// What is wrong although the tree could be built.
    let problems: [Failure]
    /// Keys that stand twice in a mapping; the tree has the last.
    let repeatedKeys: [Failure]

    /// The documents of a file, in its order.
    static func all(in source: SourceText) throws(Failure) -> [YAMLDocument] {
        var events = YAMLEvents(source)
        var builder = YAMLTreeBuilder()
        var documents: [YAMLDocument] = []
        var start = SourcePosition(source.name, 1, 1)
        var root: YAMLNode?
        defer { events.close() }
        while true {
            let event = try events.next()
            switch event.kind {
            case .documentStart:
                start = event.position
                root = nil
            case .node(let node):
                root = try builder.finish(node, anchor: event.anchor, tag: event.tag, events: &events)
            case .documentEnd:
                documents.append(builder.document(root, at: start))
            case .alias:
                throw Failure(position: event.position, message: "an alias with nothing to refer to")
            case .streamEnd:
                return documents
            case .close, .other:
                break
            }
        }
    }
}

/// Builds one node from the events that follow its start.
private struct YAMLTreeBuilder {
    private var problems: [YAMLDocument.Failure] = []
    private var repeatedKeys: [YAMLDocument.Failure] = []
    private var anchors: [String: YAMLNode] = [:]
    private var nodeCount = 0
    private var depth = 0

    /// The document whose nodes have been built since the last; anchors end with it.
    mutating func document(_ root: YAMLNode?, at position: SourcePosition) -> YAMLDocument {
        defer { (problems, repeatedKeys, anchors) = ([], [], [:]) }
        return YAMLDocument(position: position, root: root, problems: problems, repeatedKeys: repeatedKeys)
    }

    mutating func finish(
        _ start: YAMLNode, anchor: String?, tag: String?, events: inout YAMLEvents
    ) throws(YAMLDocument.Failure) -> YAMLNode {
        if let tag {
            problems.append(
                YAMLDocument.Failure(position: start.position, message: "tags are not supported: \(quoted(tag))"))
        }
        try count(1, start.position)
        var node = start
        switch start.content {
        case .scalar:
            break
        case .sequence:
            depth += 1
            try checkDepth(start.position)
            var items: [YAMLNode] = []
            while let item = try child(&events) {
                items.append(item)
                node.nodeCount += item.nodeCount
            }
            node.content = .sequence(items)
            depth -= 1
        case .mapping:
            depth += 1
            try checkDepth(start.position)
            var entries: [YAMLNode.Entry] = []
            var indices = KeyIndices()
            while let key = try child(&events) {
                let name = try keyText(key)
                guard let value = try child(&events) else {
                    throw YAMLDocument.Failure(position: key.position, message: "a key without its value")
                }
                node.nodeCount += 1 + value.nodeCount
                let entry = YAMLNode.Entry(key: name, position: key.position, value: value)
                if let index = indices.index(of: name, in: entries) {
                    let message = "key \(quoted(name)) repeats line \(entries[index].position.line)"
                    repeatedKeys.append(YAMLDocument.Failure(position: key.position, message: message))
                    entries[index] = entry
                } else {
                    entries.append(entry)
                    indices.note(entries)
                }
            }
            node.content = .mapping(entries)
            depth -= 1
        }
        if let anchor { anchors[anchor] = node }
        return node
    }

    /// The next child of an open sequence or mapping; nil at its end.
    private mutating func child(_ events: inout YAMLEvents) throws(YAMLDocument.Failure) -> YAMLNode? {
        let event = try events.next()
        switch event.kind {
        case .node(let node):
            return try finish(node, anchor: event.anchor, tag: event.tag, events: &events)
        case .alias(let name):
            guard var node = anchors[name] else {
                throw YAMLDocument.Failure(
                    position: event.position, message: "no finished node is anchored as \(quoted(name))")
            }
            try count(node.nodeCount, event.position)
            // What is wrong with it is wrong where it is used.
            node.position = event.position
            return node
        case .close:
            return nil
        case .documentStart, .documentEnd, .streamEnd, .other:
            throw YAMLDocument.Failure(position: event.position, message: "the document ends too early")
        }
    }

    private func keyText(_ key: YAMLNode) throws(YAMLDocument.Failure) -> String {
        guard case .scalar(let name, _) = key.content else {
            throw YAMLDocument.Failure(position: key.position, message: "expected a key, found \(key.kind)")
        }
        guard name != "<<" else {
            throw YAMLDocument.Failure(position: key.position, message: "merge keys (`<<`) are not supported")
        }
        return name
    }

    private mutating func count(_ more: Int, _ position: SourcePosition) throws(YAMLDocument.Failure) {
        nodeCount += more
        if nodeCount > YAMLDocument.nodeCountMax {
            throw YAMLDocument.Failure(
                position: position, message: "more than \(YAMLDocument.nodeCountMax) nodes, aliases written out")
        }
    }

    private func checkDepth(_ position: SourcePosition) throws(YAMLDocument.Failure) {
        if depth > YAMLDocument.depthMax {
            throw YAMLDocument.Failure(
                position: position, message: "nested deeper than \(YAMLDocument.depthMax) levels")
        }
    }
}

/// Where the keys of an open mapping stand. Most mappings have few, and a table of them takes longer to make than to do
/// without.
private struct KeyIndices {
    private static let fewCount = 16
    private var indices: [String: Int] = [:]

    func index(of key: String, in entries: [YAMLNode.Entry]) -> Int? {
        guard entries.count <= Self.fewCount else { return indices[key] }
        for index in entries.indices where entries[index].key == key { return index }
        return nil
    }

    /// The last of `entries` is new.
    mutating func note(_ entries: [YAMLNode.Entry]) {
        guard entries.count > Self.fewCount else { return }
        let unknown = indices.isEmpty ? entries.indices : entries.count - 1..<entries.count
        for index in unknown { indices[entries[index].key] = index }
    }
}

/// libyaml's parser over one text, one event at a time.
@safe private struct YAMLEvents {
    struct Event {
        enum Kind {
            case documentStart
            case documentEnd
            /// A scalar, or the start of a sequence or mapping that has no children yet.
            case node(YAMLNode)
            case alias(String)
            /// The end of the open sequence or mapping.
            case close
            case streamEnd
            case other
        }

        var kind: Kind
        var position: SourcePosition
        var anchor: String?
        var tag: String?
    }

    private let source: SourceText
    private let end: SourcePosition
    /// libyaml keeps this pointer in its own state, so it must not move; both are freed by `close()`.
    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private let input: UnsafeMutableBufferPointer<UInt8>
    private var isAtEnd = false

    init(_ source: SourceText) {
        self.source = source
        end = source.position(ofByte: source.bytes.count)
        unsafe parser = .allocate(capacity: 1)
        unsafe parser.initialize(to: yaml_parser_t())
        unsafe input = .allocate(capacity: max(1, source.bytes.count))
        _ = unsafe input.initialize(from: source.bytes)
        // Fails only without memory.
        guard unsafe yaml_parser_initialize(parser) == 1 else { fatalError("out of memory") }
        unsafe yaml_parser_set_input_string(parser, input.baseAddress, source.bytes.count)
    }

    func close() {
        unsafe yaml_parser_delete(parser)
        unsafe parser.deallocate()
        unsafe input.deallocate()
    }

    /// The next event; after the stream's end that end again.
    mutating func next() throws(YAMLDocument.Failure) -> Event {
        if isAtEnd { return Event(kind: .streamEnd, position: source.position(ofByte: source.bytes.count)) }
        var event = unsafe yaml_event_t()
        guard unsafe yaml_parser_parse(parser, &event) == 1 else { throw failure() }
        defer { unsafe yaml_event_delete(&event) }
        let position = position(unsafe event.start_mark)
        switch unsafe event.type {
        case YAML_STREAM_END_EVENT:
            isAtEnd = true
            return Event(kind: .streamEnd, position: position)
        case YAML_DOCUMENT_START_EVENT:
            return Event(kind: .documentStart, position: position)
        case YAML_DOCUMENT_END_EVENT:
            return Event(kind: .documentEnd, position: position)
        case YAML_ALIAS_EVENT:
            return Event(kind: .alias(unsafe text(event.data.alias.anchor) ?? ""), position: position)
        case YAML_SCALAR_EVENT:
            let scalar = unsafe event.data.scalar
            let bytes = unsafe UnsafeBufferPointer(start: scalar.value, count: scalar.length)
            let value = unsafe String(decoding: bytes, as: UTF8.self)
            let isPlain = unsafe scalar.style == YAML_PLAIN_SCALAR_STYLE
            let node = YAMLNode(content: .scalar(value, isPlain: isPlain), position: position)
            return Event(
                kind: .node(node), position: position, anchor: unsafe text(scalar.anchor), tag: unsafe text(scalar.tag))
        case YAML_SEQUENCE_START_EVENT:
            let start = unsafe event.data.sequence_start
            let node = YAMLNode(content: .sequence([]), position: position)
            return Event(
                kind: .node(node), position: position, anchor: unsafe text(start.anchor), tag: unsafe text(start.tag))
        case YAML_MAPPING_START_EVENT:
            let start = unsafe event.data.mapping_start
            let node = YAMLNode(content: .mapping([]), position: position)
            return Event(
                kind: .node(node), position: position, anchor: unsafe text(start.anchor), tag: unsafe text(start.tag))
        case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT:
            return Event(kind: .close, position: position)
        default:
            return Event(kind: .other, position: position)
        }
    }

    private func failure() -> YAMLDocument.Failure {
        let problem = unsafe parser.pointee.problem.map { unsafe String(cString: $0) } ?? "not readable as YAML"
        if unsafe parser.pointee.error == YAML_READER_ERROR {
            let offset = Int(unsafe parser.pointee.problem_offset)
            return YAMLDocument.Failure(position: source.position(ofByte: offset), message: problem)
        }
        var message = problem
        if let context = unsafe parser.pointee.context {
            let line = position(unsafe parser.pointee.context_mark).line
            message += unsafe " (\(String(cString: context)), line \(line))"
        }
        return YAMLDocument.Failure(position: position(unsafe parser.pointee.problem_mark), message: message)
    }

    /// libyaml puts the end of a text that has no newline at its end on the line behind the last.
    private func position(_ mark: yaml_mark_t) -> SourcePosition {
        guard Int(mark.line) < end.line else { return end }
        return SourcePosition(source.name, Int(mark.line) + 1, Int(mark.column) + 1)
    }

    private func text(_ pointer: UnsafeMutablePointer<yaml_char_t>?) -> String? {
        guard let pointer = unsafe pointer else { return nil }
        return unsafe String(cString: pointer)
    }
}
