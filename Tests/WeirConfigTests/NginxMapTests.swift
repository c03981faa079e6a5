import Testing
import WeirConfig
import WeirModel
import WeirNet

@Suite struct NginxMapTests {
    /// The routes of a server whose target is `$target`, as `names alpn -> action`.
    private func routes(_ stream: String, target: String = "$target") throws -> [String] {
        let listener = try onlyListener(
            "stream {\n\(stream)\nserver { listen 443; ssl_preread on; proxy_pass \(target); }\n}\n")
        return listener.routes.map { route in
            let names = route.match.serverNames.map(\.text)
            let action =
                switch route.action {
                case .cluster(let name): name
                case .forward(let forward): "name:\(forward.port)"
                case .deny(let denial): "\(denial)"
                case .proxyDestination: "proxy_destination"
                case .originalDestination: "original_destination"
                case .split(let shares): "split:\(shares.map(\.cluster))"
                }
            return (names + route.match.alpn.map { "alpn=\($0)" } + ["->", action]).joined(separator: " ")
        }
    }

    @Test func exactNamesGoToUpstreamsAndAddresses() throws {
        let found = try routes(
            """
            upstream a { server 10.0.0.1:1; }
            map $ssl_preread_server_name $target { one.example a; TWO.example 10.0.0.2:2; three.example a; }
            """)
        #expect(found == ["one.example three.example -> a", "two.example -> 10.0.0.2:2"])
    }

    @Test func theDefaultTakesNamelessConnectionsToo() throws {
        let found = try routes("map $ssl_preread_server_name $target { a.example 10.0.0.1:1; default 10.0.0.2:2; }")
        #expect(found == ["a.example -> 10.0.0.1:1", "-> 10.0.0.2:2"])
    }

    @Test func theEmptyKeyIsAConnectionWithoutName() throws {
        let found = try routes("map $ssl_preread_server_name $target { \"\" 10.0.0.1:1; default 10.0.0.2:2; }")
        #expect(found == ["* -> 10.0.0.2:2", "-> 10.0.0.1:1"])
    }

    @Test func hostnamesBringWildcards() throws {
        let found = try routes(
            """
            map $ssl_preread_server_name $target {
                hostnames;
                *.a.example 10.0.0.1:1;
                .b.example 10.0.0.2:2;
            }
            """)
        #expect(found == ["*.a.example -> 10.0.0.1:1", "b.example *.b.example -> 10.0.0.2:2"])
    }

    @Test func withoutHostnamesAWildcardMatchesNothingAndIsWarnedAbout() {
        let result = reading(
            """
            stream {
            map $ssl_preread_server_name $t { *.a.example 10.0.0.1:1; default 10.0.0.2:2; }
            server { listen 443; ssl_preread on; proxy_pass $t; }
            }
            """)
        #expect(result.warningLines == ["2:35 \"*.a.example\" matches nothing: the `map` has no `hostnames`"])
    }

    @Test func aMapOfPortsIsKnownPerListener() throws {
        let result = reading(
            """
            stream {
            map $server_port $target { 1 10.0.0.1:1; 2 10.0.0.2:2; }
            server { listen 1; listen 2; proxy_pass $target; }
            }
            """)
        let listeners = try #require(result.configuration).listeners
        #expect(listeners.map { $0.routes.map(\.action) } == [[.cluster("10.0.0.1:1")], [.cluster("10.0.0.2:2")]])
        #expect(listeners.map(\.detect) == [[], []])
    }

    @Test func mapsOfHostsArePutTogetherWithThePort() throws {
        let found = try routes(
            "map $ssl_preread_server_name $host { a.example 10.0.0.1; default $ssl_preread_server_name; }",
            target: "$host:443")
        #expect(found == ["a.example -> 10.0.0.1:443", "* -> name:fixed(443)"])
    }

    @Test func anEmptyValueRefusesBeforeAWildcardTakesTheName() throws {
        let found = try routes(
            """
            map $ssl_preread_server_name $target { hostnames; bad.a.example ""; *.a.example 10.0.0.1:1; }
            """)
        #expect(found == ["bad.a.example -> close", "*.a.example -> 10.0.0.1:1"])
    }

    @Test func aProtocolDecidesBeforeTheName() throws {
        let found = try routes(
            """
            map $ssl_preread_server_name $name { a.example 10.0.0.1:1; default 10.0.0.2:2; }
            map $ssl_preread_alpn_protocols $target { acme-tls/1 10.0.0.9:9; default $name; }
            """)
        #expect(
            found == [
                "a.example alpn=acme-tls/1 -> 10.0.0.9:9", "alpn=acme-tls/1 -> 10.0.0.9:9", "a.example -> 10.0.0.1:1",
                "-> 10.0.0.2:2",
            ])
    }

    @Test func aNameDecidesBeforeTheProtocolWhereItsMapIsTheOuterOne() throws {
        let found = try routes(
            """
            map $ssl_preread_alpn_protocols $other { h2 10.0.0.9:9; default 10.0.0.2:2; }
            map $ssl_preread_server_name $target { a.example 10.0.0.1:1; default $other; }
            """)
        #expect(found == ["alpn=h2 -> 10.0.0.9:9", "a.example -> 10.0.0.1:1", "-> 10.0.0.2:2"])
    }

    /// A forward is written for `*`, which is tried before a route without constraint: the protocol's must be too.
    @Test func aProtocolsRouteIsNotHiddenByADynamicDefault() throws {
        let found = try routes(
            "map $ssl_preread_alpn_protocols $target { h2 10.0.0.9:9; default $ssl_preread_server_name:443; }")
        #expect(found == ["* alpn=h2 -> 10.0.0.9:9", "alpn=h2 -> 10.0.0.9:9", "* -> name:fixed(443)"])
    }

    @Test func aMapOverAMapComparesItsText() throws {
        let found = try routes(
            """
            map $ssl_preread_server_name $kind { a.example inner; default outer; }
            map $kind $target { inner 10.0.0.1:1; outer 10.0.0.2:2; }
            """)
        #expect(found == ["a.example -> 10.0.0.1:1", "-> 10.0.0.2:2"])
    }

    @Test func aProtocolKeepsItsCase() throws {
        #expect(try routes("map $ssl_preread_alpn_protocols $target { H2 10.0.0.1:1; }") == ["alpn=H2 -> 10.0.0.1:1"])
    }

    @Test func escapedKeysAreKeys() throws {
        let found = try routes("map $ssl_preread_server_name $target { \\default 10.0.0.1:1; }")
        #expect(found == ["default -> 10.0.0.1:1"])
    }

    /// The map's first entry stands at 3:1.
    @Test(arguments: [
        (
            "~^a 10.0.0.1:1;",
            [
                "3:1 regular expressions are not supported: list the names, or use `*.suffix` with `hostnames`"
            ]
        ),
        (
            "hostnames; www.* 10.0.0.1:1;",
            [
                "3:12 \"www.*\" is not supported: a wildcard stands at the front, as in *.example.com"
            ]
        ),
        ("a.example 10.0.0.1:1; A.example 10.0.0.2:2;", ["3:23 key \"A.example\" repeats line 3"]),
        ("hostnames; a.x 10.0.0.1:1; .a.x 10.0.0.2:2;", ["3:28 \".a.x\" is already given by the entry of line 3"]),
        ("hostnames; .a.x 10.0.0.1:1; *.a.x 10.0.0.2:2;", ["3:29 \"*.a.x\" is already given by the entry of line 3"]),
        ("a.example;", ["3:1 an entry of a `map` is a key and a value; \"a.example\" has 0 values"]),
        ("a.example backend;", ["3:11 there is no `upstream` \"backend\", and as an address it has no port"]),
        ("a_b..c 10.0.0.1:1;", ["3:1 \"a_b..c\" is not a server name: a label is empty"]),
        ("default $nothing;", ["3:9 unknown variable \"$nothing\""]),
    ])
    func entryFault(entries: String, errors: [String]) {
        let result = reading(
            """
            stream {
            map $ssl_preread_server_name $target {
            \(entries)
            }
            upstream up { server 10.0.0.1:1; }
            server { listen 443; ssl_preread on; proxy_pass $target; }
            }
            """)
        #expect(result.errorLines == errors)
    }

    @Test(arguments: [
        ("$remote_addr", "2:5 variable \"$remote_addr\" is not supported in a target"),
        ("$nonsense", "2:5 unknown variable \"$nonsense\""),
        ("x$ssl_preread_server_name", "2:5 a `map` over the server name together with other text is not supported"),
    ])
    func sourceFault(source: String, start: String) {
        let result = reading(
            """
            stream {
            map \(source) $target { default 10.0.0.1:1; }
            server { listen 443; ssl_preread on; proxy_pass $target; }
            }
            """)
        #expect(result.errorLines.count == 1)
        #expect(result.errorLines.first?.hasPrefix(start) == true)
    }

    @Test func aMapThatNoTargetUsesIsNoticedWhateverItHolds() {
        let result = reading(nginxServer("", stream: "map $status $loggable { ~^[23] 0; default 1; }"))
        #expect(result.errorLines == [])
        #expect(result.notices(containing: "\"map\" of \"$loggable\" has no effect here"))
    }
}
