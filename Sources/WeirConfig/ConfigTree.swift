/// The configuration files in a directory and all below it, in the order in which they are read: the names of each
/// directory sorted by their bytes, a sub-directory's files in its place.
///
/// Hidden names are passed over: in a Kubernetes volume they hold the very files that the visible names lead to. A
/// directory that is reached twice, by a link, is read once.
struct ConfigTree {
    /// How the name of a file ends that is read; any other file is none of ours.
    static let suffixes = [".yaml", ".yml", ".json", ".conf"]
    static let fileCountMax = 10_000
    /// With more, somebody has named the wrong one.
    static let directoryCountMax = 1_000

    private(set) var files: [String] = []
    /// Every directory looked into, the first one too.
    private(set) var directories: [String] = []
    private(set) var problems: [(path: String, message: String)] = []
    private var visited: Set<String> = []

    init(_ directory: String) {
        let path = Self.withoutLastSlashes(directory)
        look(into: path)
        if files.isEmpty, problems.isEmpty {
            let names = Self.suffixes.map { "*\($0)" }.joined(separator: ", ")
            problems.append((path, "the directory holds no configuration: no \(names) in it or below"))
        }
    }

    private mutating func look(into directory: String) {
        guard visited.insert(ConfigFiles.withoutLinks(directory)).inserted else { return }
        directories.append(directory)
        guard directories.count <= Self.directoryCountMax else {
            refuse(directory, "more than \(Self.directoryCountMax) directories")
            return
        }
        let entries: [ConfigFiles.Entry]
        switch ConfigFiles.entries(of: directory) {
        case .success(let found): entries = found
        case .failure(let failure):
            problems.append((directory, failure.explanation))
            return
        }
        for entry in entries where problems.isEmpty {
            if entry.isDirectory {
                look(into: entry.path)
            } else if Self.suffixes.contains(where: entry.path.hasSuffix) {
                files.append(entry.path)
                if files.count > Self.fileCountMax { refuse(entry.path, "more than \(Self.fileCountMax) files") }
            }
        }
    }

    private mutating func refuse(_ path: String, _ message: String) { problems.append((path, message)) }

    private static func withoutLastSlashes(_ path: String) -> String {
        var path = path[...]
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        return String(path)
    }
}
