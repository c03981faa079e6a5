import ArgumentParser
import Glibc
import Weir
import WeirAdmin
import WeirExplain
import WeirResolver
import WeirUpstream

struct ExplainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "Say what would become of a connection, and why; nothing is opened.",
        discussion: """
            Asks the router that the workers ask. Without --listener it explains each listener that the connection could \
            come to. Names are resolved as the proxy would resolve them.

            Exit status: 0 where every listener asked would forward the connection, 5 where one would refuse it.
            """)

    @Option(
        name: .customLong("config"), parsing: .upToNextOption,
        help: ArgumentHelp("The files, as for `run`. Default: what `run` does without one.", valueName: "file"))
    var files: [String] = []

    @Option(help: ArgumentHelp("Who connects: the address of the socket's other end.", valueName: "ip"))
    var client: String

    @Option(help: ArgumentHelp("What the hello, or the request head, asks for.", valueName: "name"))
    var serverName: String?

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("The protocols that the hello offers, in order.", valueName: "protocol"))
    var alpn: [String] = []

    @Option(help: ArgumentHelp("The listener asked about.", valueName: "name|address:port"))
    var listener: String?

    @Option(help: ArgumentHelp("What the client connects to.", valueName: "address:port"))
    var destination: SocketAddress?

    @Option(
        help: ArgumentHelp(
            "The PROXY header that comes first, such as \"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\".",
            valueName: "text"))
    var proxyHeader: String?

    @Flag(help: "Print it as JSON.")
    var json = false

    @Option(
        help: ArgumentHelp(
            "The admin endpoint of a running instance, which is asked how its endpoints stand.",
            valueName: "http://address:port"))
    var admin: String?

    @Flag(help: "Ask no name server.")
    var noResolve = false

    func run() throws {
        let inquiry = try inquiry()
        let reading = ConfigurationSource(files: files).read()
        for line in reading.diagnostics { write(line + "\n", to: STDERR_FILENO) }
        guard let configuration = reading.configuration else { throw CommandFailure(.configuration, []) }
        let explainer = Explainer(configuration, localAddresses: LocalAddresses.current())
        let listeners = explainer.listeners(named: listener, for: inquiry)
        guard !listeners.isEmpty else {
            throw CommandFailure(.usage, ["weir: there is no listener \((listener ?? "").quoted)"])
        }
        let lookup = try lookup(configuration)
        let running = try running()
        var decisions = listeners.compactMap { listener in
            explainer.decision(for: inquiry, at: listener.name, why: listener.why) { lookup?.answer(for: $0) }
        }
        if let running {
            for index in decisions.indices { decisions[index].addHealth { running.standing(of: $1, in: $0) } }
        }
        let text =
            json
            ? JSONValue.object(["decisions": .array(decisions.map(\.json))]).text + "\n"
            : decisions.map(\.text).joined(separator: "\n")
        write(text, to: STDOUT_FILENO)
        if decisions.contains(where: { !$0.verdict.isForwarded }) { throw CommandFailure(.refused, []) }
    }

    /// nil: nobody is to be asked.
    private func lookup(_ configuration: Configuration) throws(CommandFailure) -> NameLookup? {
        if noResolve { return nil }
        do {
            return try NameLookup(configuration.resolver)
        } catch {
            throw CommandFailure(.runTime, ["weir: the resolver cannot be started: \(error)"])
        }
    }

    /// How the endpoints of the running instance stand; nil: none is asked.
    private func running() throws -> RunningEndpoints? {
        guard let admin else { return nil }
        guard let client = AdminClient(admin) else {
            throw ValidationError("--admin \(admin.quoted) is not http://address:port.")
        }
        do {
            let table = try client.page("/endpoints")
            if let endpoints = RunningEndpoints(table: table) { return endpoints }
        } catch {
            throw CommandFailure(.runTime, ["weir: \(admin.printable) cannot be asked: \(error)"])
        }
        throw CommandFailure(.runTime, ["weir: \(admin.printable) has no table of endpoints"])
    }

    private func inquiry() throws -> Inquiry {
        guard let peer = IPAddress(client) else {
            throw ValidationError("--client \(client.quoted) is not an address.")
        }
        var inquiry = Inquiry(peer: peer)
        if let serverName {
            guard let name = try? ServerName(serverName) else {
                throw ValidationError("--server-name \(serverName.quoted) is not a host name.")
            }
            inquiry.serverName = name
        }
        for name in alpn {
            let bytes = Array(name.utf8)
            guard (1...255).contains(bytes.count) else {
                throw ValidationError("--alpn \(name.quoted): a protocol has 1...255 bytes.")
            }
            inquiry.alpn.append(bytes.span)
        }
        inquiry.destination = destination
        if let proxyHeader {
            let line = Array(proxyHeader.utf8)
            inquiry.origin = .header(line.last == UInt8(ascii: "\n") ? line : line + [13, 10])
        }
        return inquiry
    }
}
