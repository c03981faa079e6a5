import WeirModel
import WeirNet

/// The configuration as it grows file by file, and where each of its parts was written.
final class ConfigurationDraft {
    var configuration = Configuration()
    let findings: Findings
    /// Every file read so far, includes too: what a reload has to watch.
    var files: [String] = []
    /// Every directory looked into for files, those of patterns too: whatever comes there may have to be read.
    var directories: [String] = []
    /// Whether a file or directory could not be read.
    var isUnreadable = false
    private(set) var provenance = Provenance()
    private var clusterIndices: [String: Int] = [:]
    /// What the manifests of all files are, until `finish`.
    var manifests = ManifestSet()
    var manifestSettings = ManifestSettings()

    init(_ findings: Findings) { self.findings = findings }

    /// Adds a cluster; one whose name is taken is reported at both places and left out.
    func add(_ cluster: Cluster, at position: SourcePosition) {
        guard declare(Self.part(cluster: cluster.name), at: position) else { return }
        clusterIndices[cluster.name] = configuration.clusters.count
        configuration.clusters.append(cluster)
    }

    /// Adds a listener; one whose name is taken is reported at both places and left out: false.
    @discardableResult
    func add(_ listener: Listener, at position: SourcePosition) -> Bool {
        guard declare(Self.part(listener: listener.name), at: position) else { return false }
        configuration.listeners.append(listener)
        return true
    }

    /// Adds a source pool; one whose name is taken is reported at both places and left out.
    func add(_ pool: SourcePool, at position: SourcePosition) {
        if declare(Self.part(source: pool.name), at: position) { configuration.sources.append(pool) }
    }

    /// Adds a policy; one whose name is taken is reported at both places and left out.
    func add(_ policy: Policy, at position: SourcePosition) {
        if declare(Provenance.part(policy: policy.name), at: position) { configuration.policies.append(policy) }
    }

    /// Records where `part` stands; false, and reported, where it stands somewhere already.
    func declare(_ part: String, at position: SourcePosition) -> Bool {
        if let first = provenance[part] {
            findings.error(position, "\(part) is already defined at \(first)")
            return false
        }
        provenance[part] = position
        return true
    }

    /// The same of a route.
    func declare(route: String, of listener: String, at position: SourcePosition) -> Bool {
        if let first = provenance[listener: listener, route: route] {
            findings.error(
                position, "\(Provenance.part(listener: listener, route: route)) is already defined at \(first)")
            return false
        }
        provenance[listener: listener, route: route] = position
        return true
    }

    func locate(route: String, of listener: String, at position: SourcePosition) {
        provenance[listener: listener, route: route] = position
    }

    /// Records where `part` stands, over what was known before.
    func locate(_ part: String, at position: SourcePosition) { provenance[part] = position }

    func cluster(named name: String) -> Cluster? { clusterIndices[name].map { configuration.clusters[$0] } }

    static func part(cluster name: String) -> String { Provenance.part(cluster: name) }
    static func part(source name: String) -> String { Provenance.part(source: name) }
    static func part(listener name: String) -> String { Provenance.part(listener: name) }

    /// Makes of the manifests what they ask for, and reports what no single value shows: contradictions between parts, and open proxies (T-01).
    func finish(_ files: [String]) {
        ManifestLowering(manifests, manifestSettings, into: self).run()
        let (faults, warnings) = (configuration.faults(), configuration.warnings())
        let routes = faults.isEmpty && warnings.isEmpty ? [:] : provenance.routesByPart
        for fault in faults {
            // What is missing may be what an error was reported for.
            if findings.hasErrors, fault.message.hasPrefix("has no ") { continue }
            findings.error(position(of: fault, routes) ?? .whole(files.last ?? ""), fault.description)
        }
        for warning in warnings {
            findings.warning(position(of: warning, routes) ?? .whole(files.last ?? ""), warning.description)
        }
        if configuration.listeners.isEmpty, !findings.hasErrors {
            findings.error(
                .whole(files.last ?? ""), "nothing is listened on: a configuration has at least one listener")
        }
    }

    /// Where the part at fault is written, or the listener that holds it.
    private func position(of fault: ConfigurationFault, _ routes: [String: SourcePosition]) -> SourcePosition? {
        if let position = provenance[fault.part] ?? routes[fault.part] { return position }
        return fault.part.firstRange(of: ", route ").flatMap { provenance[String(fault.part[..<$0.lowerBound])] }
    }
}
