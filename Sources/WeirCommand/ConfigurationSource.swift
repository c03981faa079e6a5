import Weir
import WeirConfig

/// Where the configuration comes from, and what the command line changes about it: the same at start and at each
/// reload.
package struct ConfigurationSource: Sendable {
    /// Files and directories in the order given; empty: the built-in configuration.
    package var files: [String]
    package var overrides = Overrides()
    /// What a manifest asks for and is not done is an error.
    package var isStrict = false

    package init(files: [String] = []) { self.files = files }

    /// What the command line says over any file; nil: nothing.
    package struct Overrides: Sendable {
        /// Where the listener of the built-in configuration listens.
        package var listen: SocketAddress?
        package var workerCount: Int?
        package var admin: AdminChoice?
        package var accessLog: LogSettings.Target?

        package init() {}

        /// Whether what is written, without a fault, may have one with them.
        var mayContradict: Bool { listen != nil || workerCount != nil }

        package enum AdminChoice: Sendable, Equatable {
            case off
            case address(SocketAddress)
        }
    }

    /// One look at the source.
    package struct Reading: Sendable, Equatable {
        /// nil: `diagnostics` says why.
        package var configuration: Configuration?
        /// `file:line:column: error: …`, the line in question, a caret.
        package var diagnostics: [String] = []
        /// What has no effect here, or another effect than where the file comes from.
        package var notices: [String] = []
        /// Every file read or tried.
        package var files: [String] = []
        /// Every directory looked into for files.
        package var directories: [String] = []
        /// Whether a file or directory could not be read.
        package var isUnreadable = false

        /// What stands in the files that it names as its shadow; nil: it names none.
        package var shadow: Shadow?

        package struct Shadow: Sendable, Equatable {
            /// nil: `diagnostics` says why.
            package var configuration: Configuration?
            package var diagnostics: [String]

            package init(configuration: Configuration?, diagnostics: [String]) {
                self.configuration = configuration
                self.diagnostics = diagnostics
            }
        }

        package init(configuration: Configuration?) { self.configuration = configuration }

        /// Whether it says the same, whichever files it comes from. Its shadow is left aside.
        package func says(_ other: Reading) -> Bool {
            configuration == other.configuration && diagnostics == other.diagnostics && notices == other.notices
        }
    }

    package func read() -> Reading {
        var reading = readLive()
        guard let shadow = reading.configuration?.shadow else { return reading }
        let result = ConfigReader.read(files: shadow.files, strict: isStrict)
        reading.files += result.files
        reading.directories += result.directories
        reading.shadow = Reading.Shadow(
            configuration: result.configuration,
            diagnostics: result.diagnostics.filter { $0.severity == .error }.map { "shadow: \($0)" })
        return reading
    }

    private func readLive() -> Reading {
        var reading: Reading
        if files.isEmpty {
            reading = Reading(configuration: .egressDefault())
        } else {
            let result = ConfigReader.read(files: files, strict: isStrict)
            reading = Reading(configuration: result.configuration)
            reading.diagnostics = result.diagnostics.map(\.description)
            reading.notices = result.notices
            reading.files = result.files
            reading.directories = result.directories
            reading.isUnreadable = result.isUnreadable
        }
        guard var configuration = reading.configuration else { return reading }
        overrides.apply(to: &configuration)
        // The reader has looked for the faults of what is written.
        let faults = files.isEmpty || overrides.mayContradict ? configuration.faults() : []
        reading.configuration = faults.isEmpty ? configuration : nil
        reading.diagnostics += faults.map { "error: \($0)" }
        return reading
    }
}

extension ConfigurationSource.Overrides {
    func apply(to configuration: inout Configuration) {
        if let listen { configuration.listeners[0].address = listen }
        if let workerCount { configuration.workerCount = workerCount }
        switch admin {
        case .off: configuration.admin = nil
        case .address(let address): configuration.admin = AdminSettings(address: address)
        case nil: break
        }
        if let accessLog { configuration.log.access = accessLog }
    }
}

extension Configuration {
    /// `1 listener, 3 routes, 2 clusters`.
    package var summary: String {
        func count(_ number: Int, _ noun: String) -> String { "\(number) \(noun)\(number == 1 ? "" : "s")" }
        let routeCount = listeners.reduce(0) { $0 + $1.routes.count }
        return [count(listeners.count, "listener"), count(routeCount, "route"), count(clusters.count, "cluster")]
            .joined(separator: ", ")
    }
}
