import Glibc

/// Follows paths as the kernel does, and notes every name that is looked up on the way by the directory it is looked up
/// in: a change to one of them may lead the path elsewhere. So a link that is swapped is noticed wherever it stands, and
/// so is the coming back of a directory that has gone.
package struct NameTrace {
    /// More links than that on one way go round in a ring.
    private static let linkCountMax = 40

    /// The names, by directory without links.
    package private(set) var names: [String: Set<String>] = [:]
    /// Where directories have led; an empty path: nowhere.
    private var ends: [String: String] = [:]

    package init() {}

    /// Where `path` leads, without links but perhaps relative; nil where something is missing.
    @discardableResult
    package mutating func follow(_ path: String) -> String? {
        guard let slash = path.lastIndex(of: "/") else { return walk(from: ".", [path[...]]) }
        let directory = slash == path.startIndex ? "/" : String(path[..<slash])
        guard let start = end(of: directory) else { return nil }
        return walk(from: start, [path[path.index(after: slash)...]])
    }

    /// Files stand together, so the way to their directory is gone once.
    private mutating func end(of directory: String) -> String? {
        if let known = ends[directory] { return known.isEmpty ? nil : known }
        let isAbsolute = directory.hasPrefix("/")
        let found = walk(from: isAbsolute ? "/" : ".", directory.split(separator: "/"))
        ends[directory] = found ?? ""
        return found
    }

    private mutating func walk(from start: String, _ parts: [Substring]) -> String? {
        var place = start
        var rest = Array(parts.reversed())
        var linkCount = 0
        while let name = rest.popLast() {
            if name.isEmpty || name == "." { continue }
            let path = place == "/" ? "/\(name)" : place == "." ? String(name) : "\(place)/\(name)"
            if name != ".." { names[place, default: []].insert(String(name)) }
            switch Self.target(of: path) {
            case .link(let target):
                linkCount += 1
                guard linkCount <= Self.linkCountMax else { return nil }
                if target.hasPrefix("/") { place = "/" }
                rest += target.split(separator: "/").reversed()
            case .missing: return nil
            case .noLink: place = path
            }
        }
        return place
    }

    private enum Target {
        case link(String)
        case noLink
        case missing
    }

    private static func target(of path: String) -> Target {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = unsafe bytes.withUnsafeMutableBytes { buffer in
            unsafe readlink(path, buffer.baseAddress!.assumingMemoryBound(to: CChar.self), buffer.count)
        }
        if count >= 0 { return .link(String(decoding: bytes[..<count], as: UTF8.self)) }
        return errno == EINVAL ? .noLink : .missing
    }
}
