import ArgumentParser
import Weir

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run the proxy in the foreground.",
        discussion: """
            Without a configuration it is an egress proxy on 127.0.0.1:8443 that connects to port 443 of the server \
            name in the hello.

            Signals: HUP reloads the configuration, USR1 reopens the access log, TERM drains for at most the drain \
            timeout, QUIT drains however long it takes, INT stops at once; so does a second TERM or QUIT. USR2 starts the \
            program again from where it was started and drains once that process serves; where it does not come to \
            serve, nothing changes.
            """)

    @Option(
        name: .customLong("config"), parsing: .upToNextOption,
        help: ArgumentHelp(
            """
            Configuration files (native YAML, manifests of Kubernetes, nginx `stream`) and directories of them (*.yaml, \
            *.yml, *.json, *.conf, also further down). They add up, and are read again when they change.
            """, valueName: "path"))
    var files: [String] = []

    @Flag(help: "Take no manifest that asks for something that is not supported.")
    var strict = false

    @Option(name: .customLong("workers"), help: ArgumentHelp("Worker threads. Default: one per core.", valueName: "n"))
    var workerCount: Int?

    @Option(
        name: .customLong("io"),
        help: ArgumentHelp(
            "The I/O driver. `auto`: io_uring where it works, else epoll; `uring`: io_uring or exit status 4.",
            valueName: "auto|uring|epoll"))
    var driver = Proxy.DriverChoice.automatic

    @Option(help: ArgumentHelp("Become this user once the listeners are bound.", valueName: "name[:group]"))
    var user: String?

    @Flag(help: "With --user: keep the right to bind ports below 1024, for reloads and upgrades.")
    var keepLowPorts = false

    @Option(help: ArgumentHelp("Where to write the number of the process that serves.", valueName: "file"))
    var pidFile: String?

    @Option(help: ArgumentHelp("Where to listen, without a configuration.", valueName: "address:port"))
    var listen: SocketAddress?

    @Option(help: ArgumentHelp("Where to serve metrics and health.", valueName: "address:port|off"))
    var admin: ConfigurationSource.Overrides.AdminChoice?

    @Option(help: ArgumentHelp("Where the access log goes.", valueName: "stdout|file|off"))
    var log: LogChoice?

    func validate() throws {
        if listen != nil, !files.isEmpty {
            throw ValidationError("--listen goes with the built-in configuration; a file says itself where to listen.")
        }
        if keepLowPorts, user == nil { throw ValidationError("--keep-low-ports goes with --user.") }
        if let workerCount, !(1...256).contains(workerCount) {
            throw ValidationError("--workers \(workerCount) is not in 1...256.")
        }
    }

    func run() throws {
        var source = ConfigurationSource(files: files)
        source.isStrict = strict
        source.overrides.listen = listen
        source.overrides.workerCount = workerCount
        source.overrides.admin = admin
        source.overrides.accessLog = log?.target
        let privileges = try user.map { (user) throws(CommandFailure) in
            try Privileges(user, keepsLowPorts: keepLowPorts)
        }
        try Daemon(source: source, driver: driver, privileges: privileges, pidFilePath: pidFile).run()
    }
}
