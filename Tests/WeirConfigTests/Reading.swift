import Testing
import WeirConfig
import WeirModel

/// Reads one text under the name `test.conf`.
func reading(_ text: String) -> ConfigResult { ConfigReader.read(texts: [(name: "test.conf", text: text)]) }

extension ConfigResult {
    /// Errors as `line:column message`.
    var errorLines: [String] { errors.map { "\($0.line):\($0.column) \($0.message)" } }

    var warningLines: [String] {
        diagnostics.filter { $0.severity == .warning }.map { "\($0.line):\($0.column) \($0.message)" }
    }

    /// What of manifests is not done, as `line:column message`.
    var unsupportedLines: [String] {
        diagnostics.filter { $0.severity == .unsupported }.map { "\($0.line):\($0.column) \($0.message)" }
    }

    func notices(containing text: String) -> Bool { notices.contains { $0.contains(text) } }
}

/// The only listener that `text` configures; a test without one fails at its `#require`.
func onlyListener(_ text: String) throws -> Listener {
    let result = reading(text)
    let configuration = try #require(result.configuration, "\(result.diagnostics.map(\.description))")
    try #require(configuration.listeners.count == 1)
    return configuration.listeners[0]
}

/// A `stream` with one server of SNI egress, around the directives given.
func nginxServer(_ directives: String, stream: String = "") -> String {
    """
    stream {
    \(stream)
    server {
    listen 443;
    ssl_preread on;
    proxy_pass $ssl_preread_server_name:443;
    \(directives)
    }
    }
    """
}
