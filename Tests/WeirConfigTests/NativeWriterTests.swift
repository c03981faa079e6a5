import Testing
import WeirConfig
import WeirModel
import WeirNet

/// What the writer writes, the reader reads back as the same configuration.
@Suite struct NativeWriterTests {
    private func written(_ configuration: Configuration) -> String {
        let output = NativeWriter.write(configuration)
        #expect(output.problems == [])
        return output.text
    }

    @Test(arguments: 0..<500)
    func anyConfigurationReadsBackAsItself(seed: UInt64) throws {
        let configuration = RandomConfiguration(seed: seed).configuration
        try #require(configuration.faults() == [])
        let text = written(configuration)
        let result = reading(text)
        #expect(result.configuration == configuration, "\(result.errorLines)\n\(text)")
    }

    @Test func theConfigurationWithoutAFileReadsBackAsItself() {
        let configuration = Configuration.egressDefault()
        #expect(reading(written(configuration)).configuration == configuration)
    }

    /// UP-06 and S0-1, S3-5: files of nginx, and the long example of the native format.
    @Test(arguments: [
        NginxSample.text, NginxSeedTests.egress,
        NginxSeedTests.nodeLocal.replacing("<external-domain>", with: "garden.example"), NativeExampleTests.example,
    ])
    func fixturesReadBackAsThemselves(text: String) throws {
        let configuration = try #require(reading(text).configuration)
        #expect(reading(written(configuration)).configuration == configuration)
    }

    @Test(arguments: [("yaml", 1), ("nginx", 2)])
    func examplesOfTheDocumentsReadBackAsThemselves(language: String, count: Int) throws {
        let examples = try DocumentTests.examples(of: language)
        #expect(examples.count == count)
        for example in examples {
            let configuration = try #require(reading(example).configuration)
            #expect(reading(written(configuration)).configuration == configuration)
        }
    }

    @Test func writingTwiceGivesTheSameText() {
        for seed in 0..<20 as Range<UInt64> {
            let text = written(RandomConfiguration(seed: seed).configuration)
            #expect(reading(text).configuration.map(written) == text)
        }
    }

    @Test func whatIsTheDefaultIsNotWritten() throws {
        let text = """
            listeners:
              - address: 127.0.0.1:8443
                routes:
                  - match:
                      server_names: ["*"]
                    to:
                      server_name: { port: 443 }

            """
        let configuration = try #require(reading(text).configuration)
        #expect(
            written(configuration) == """
                listeners:
                  - address: 127.0.0.1:8443
                    routes:
                      - match: { server_names: ["*"] }
                        to: { server_name: { port: 443 } }

                """)
    }

    @Test func everyPartSaysWhereItIsFrom() throws {
        let text = """
            worker_processes 2;
            stream {
              resolver 10.0.0.53;
              map $ssl_preread_server_name $to {
                a.example   up;
                default     $ssl_preread_server_name:443;
              }
              upstream up { server 192.0.2.1:443; }
              server {
                listen 443;
                ssl_preread on;
                proxy_pass $to;
              }
            }
            """
        let result = reading(text)
        let configuration = try #require(result.configuration)
        let output = NativeWriter.write(configuration, provenance: result.provenance, head: ["one", "", "two"])
        #expect(output.problems == [])
        #expect(
            output.text == """
                # one
                #
                # two

                listeners:
                  # from test.conf:10:5
                  - address: 0.0.0.0:443
                    routes:
                      # from test.conf:5:17
                      - name: up
                        match: { server_names: [a.example] }
                        to: { cluster: up }
                      # from test.conf:6:17
                      - name: default
                        match: { server_names: ["*"] }
                        to: { server_name: { port: 443 } }
                clusters:
                  # from test.conf:8:12
                  - name: up
                    endpoints: [{ address: 192.0.2.1:443, max_fails: 0 }]
                # from test.conf:3:3
                resolver: { servers: [10.0.0.53:53] }
                # from test.conf:1:1
                workers: 2

                """)
    }

    /// A file's name may hold what ends a comment.
    @Test func namesOfFilesStayInTheirComments() throws {
        let text = "listeners: [{ address: 10.0.0.1:1, routes: [{ deny: close }] }]"
        let result = ConfigReader.read(texts: [(name: "a\nworkers: 7\u{2028}\u{0}", text: text)])
        let configuration = try #require(result.configuration)
        let output = NativeWriter.write(configuration, provenance: result.provenance, head: ["\r\nworkers: 8"])
        #expect(output.problems == [])
        #expect(reading(output.text).configuration == configuration)
        #expect(output.text.contains("# from a\\nworkers: 7\\u2028\\x00:1:24"))
    }

    @Test(arguments: [
        ("log", "a path without a slash"), ("idle", "it counts milliseconds"), ("rate", "per second, minute and hour"),
        ("hello", "the hello timeout is longer"), ("labels", "that addresses have no label"),
        ("priority", "expected a number 0...255"),
    ])
    func whatTheFormatCannotSayIsAProblem(what: String, message: String) {
        var configuration = Configuration.egressDefault()
        switch what {
        case "log": configuration.log.access = .file("access.log")
        case "idle": configuration.listeners[0].timeouts.idle = .microseconds(1500)
        case "rate": configuration.limits.rate = RateLimit(5, per: .seconds(10))
        case "hello": configuration.listeners[0].timeouts.hello = .seconds(11)
        case "labels": configuration.clientLabels = [ClientLabels([:], addresses: [])]
        default:
            configuration.clusters = [Cluster(name: "c", endpoints: [Endpoint(SocketAddress(.v4Loopback, port: 1))])]
            configuration.clusters[0].endpoints[0].priority = 256
        }
        let problems = NativeWriter.write(configuration).problems
        #expect(problems.count == 1)
        #expect(problems.first?.contains(message) == true, "\(problems)")
    }

    @Test func remarksHaveTheColumnToo() {
        let text = """
            user www-data;
            stream { server { listen 443; proxy_pass 10.0.0.1:1; allow 10.1.2.3/8; deny all; tcp_nodelay on; } }
            """
        #expect(
            reading(text).remarks == [
                "test.conf:1:1: \"user\" has no effect here",
                "test.conf:2:60: warning: \"10.1.2.3/8\" has bits behind its prefix; it means 10.0.0.0/8",
                "test.conf:2:82: \"tcp_nodelay\" has no effect here",
            ])
    }
}

/// `clients.rules`.
@Suite struct ClientRulesTests {
    private func text(_ clients: String) -> String {
        "listeners: [{ address: 10.0.0.1:1, clients: \(clients), routes: [{ deny: close }] }]"
    }

    @Test func theyAreAskedInTheirOrder() throws {
        let listener = try onlyListener(
            text("{ rules: [{ allow: 10.1.1.0/24 }, { deny: 10.1.0.0/16 }, { allow: 10.0.0.0/8 }] }"))
        #expect(listener.clients.rules.map(\.allow) == [true, false, true])
        #expect(listener.clients.rules.map(\.block.description) == ["10.1.1.0/24", "10.1.0.0/16", "10.0.0.0/8"])
        #expect(!listener.clients.otherwiseAllow)
    }

    @Test func allIsForWhomNoRuleHolds() throws {
        let listener = try onlyListener(text("{ rules: [{ deny: 10.1.0.0/16 }, { allow: all }] }"))
        #expect(listener.clients.rules.count == 1)
        #expect(listener.clients.otherwiseAllow)
    }

    @Test(arguments: [
        ("{ rules: [{ allow: all }, { deny: 10.0.0.0/8 }] }", "no rule is asked behind one for `all`"),
        ("{ rules: [{ allow: 10.0.0.0/8, deny: 10.0.0.0/8 }] }", "a rule has either `allow` or `deny`"),
        ("{ rules: [{}] }", "a rule has either `allow` or `deny`"),
        ("{ rules: [], allow: all }", "clients have either `rules`, or `allow` and `deny`"),
        ("{ rules: 10.0.0.0/8 }", "expected a list of rules such as { allow: 10.0.0.0/8 }"),
        ("{ rules: [{ allow: some }] }", "expected a block of addresses"),
    ])
    func slipsAreErrors(clients: String, message: String) {
        #expect(reading(text(clients)).errorLines.contains { $0.contains(message) })
    }
}
