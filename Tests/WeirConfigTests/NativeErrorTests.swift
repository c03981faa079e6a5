import Testing
import WeirConfig
import WeirModel

/// The native format: what is wrong is said where it is wrong (T-22).
@Suite struct NativeErrorTests {
    /// Lines 1 and 2 are a listener that is right; the text under test begins in line 3.
    private static let frame = "listeners:\n- { address: 127.0.0.1:1, routes: [ { deny: close } ] }\n"

    private static let duration = "expected a duration such as 500ms, 1s, 5m or 1h, found "

    @Test(arguments: [
        // Unknown keys, with the nearest.
        ("workrs: 3", ["3:1 unknown key \"workrs\" in a configuration; did you mean \"workers\"?"]),
        (
            "admin: { adress: x }",
            [
                "3:8 admin has no `address`; `admin: off` turns it off",
                "3:10 unknown key \"adress\" in admin; did you mean \"address\"?",
            ]
        ),
        ("drain: { zzz: 1 }", ["3:10 unknown key \"zzz\" in drain; known: delay, timeout"]),
        // Keys and values of the format that cannot be used yet.
        ("log: { format: text }", ["3:16 \"text\" is not supported yet; use json"]),
        ("log: { events: [close, open] }", ["3:24 \"open\" is not supported yet; use close"]),
        // Wrong kinds.
        ("workers: [1]", ["3:10 expected auto or a number 1...256, found a list"]),
        ("workers: -1", ["3:10 expected auto or a number 1...256, found \"-1\""]),
        ("workers:", ["3:1 \"workers\" has no value"]),
        ("admin: on", ["3:8 expected a mapping with `address`, or off, found \"on\""]),
        ("clusters: {}", ["3:11 expected a list of clusters, found a mapping"]),
        ("clusters: [x]", ["3:12 expected a mapping for a cluster, found \"x\""]),
        ("drain: { timeout: 5 }", ["3:19 \(duration)\"5\""]),
        ("drain: { timeout: 5 s }", ["3:19 \(duration)\"5 s\""]),
        ("drain: { timeout: -5s }", ["3:19 \(duration)\"-5s\""]),
        ("drain: { timeout: 99999999999999h }", ["3:19 \(duration)\"99999999999999h\""]),
        ("drain: { timeout: { s: 5 } }", ["3:19 \(duration)a mapping"]),
        ("resolver: { timeout: 0s }", ["3:22 expected a duration above zero, found \"0s\""]),
        (
            "resolver: { ttl: { min: 9m, max: 1s } }",
            ["3:18 resolver: the least TTL, 540.0 seconds, is above the greatest, 1.0 seconds"]
        ),
        ("resolver: { families: v5 }", ["3:23 unknown value \"v5\"; did you mean \"v4\"?"]),
        (
            "resolver: { servers: [dns.example] }",
            [
                "3:23 expected a name server such as 10.0.0.53, 10.0.0.53:5353 or \"[fd00::53]:53\", found \"dns.example\""
            ]
        ),
        ("resolver: { servers: [] }", ["3:22 expected at least one name server, or system, found a list"]),
        ("limits: { buffer_memory: 16KB }", ["3:26 expected a size such as 4096, 16KiB or 1GiB, found \"16KB\""]),
        ("limits: { buffer_memory: 1KiB }", ["3:26 expected a size of 1048576 or more bytes, found \"1KiB\""]),
        (
            "limits: { buffer_memory: 99999999999TiB }",
            [
                "3:26 expected a size such as 4096, 16KiB or 1GiB, found \"99999999999TiB\""
            ]
        ),
        ("limits: { connections: 1.5 }", ["3:24 expected a number 1...100000000, found \"1.5\""]),
        ("log: { access: stdot }", ["3:16 expected stdout, off or the path of a file, found \"stdot\""]),
        (
            "destinations: { allow: [\"10.0.0.0/8:0\"] }",
            [
                "3:25 expected a block such as 10.0.0.0/8, 10.0.0.0/8:443, 10.0.0.0/8:8000-8999 or \"[fd00::/8]:443\", "
                    + "found \"10.0.0.0/8:0\""
            ]
        ),
        // Clusters.
        ("clusters: [ { name: c } ]", ["3:13 cluster \"c\" has no `endpoints`"]),
        ("clusters: [ { endpoints: [\"10.0.0.1:1\"] } ]", ["3:13 a cluster has no `name`"]),
        ("clusters: [ { name: c, endpoints: [] } ]", ["3:35 expected at least one endpoint, found a list"]),
        (
            "clusters: [ { name: c, endpoints: [\"host\"] } ]",
            [
                "3:36 expected an endpoint such as 10.0.0.1:443, name.example:443 or \"[fd00::1]:443\", found \"host\""
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], balance: fair } ]",
            [
                "3:60 expected round_robin or least_connections or random or source_hash or maglev, found \"fair\""
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], balance: round-robin } ]",
            [
                "3:60 unknown value \"round-robin\"; did you mean \"round_robin\"?"
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], outlier_detection: { max_ejection_percent: 101 } } ]",
            [
                "3:94 expected a number 0...100, found \"101\""
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], on_unhealthy: drain, limits: { pending: 0 } } ]",
            [
                "3:65 say for how long: { drain: 30s }",
                "3:91 expected a number 1...100000000, found \"0\"",
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], "
                + "outlier_detection: { base_ejection_time: 10s, max_ejection_time: 5s } } ]",
            [
                "3:21 cluster \"c\": max_ejection_time is below base_ejection_time"
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], "
                + "connect: { keepalive: { idle: 999ms, interval: 10h, probes: 128 } } } ]",
            [
                "3:81 expected a time of 1s...32767s, found \"999ms\"",
                "3:98 expected a time of 1s...32767s, found \"10h\"",
                "3:111 expected a number 1...127, found \"128\"",
            ]
        ),
        // UP-06.
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], health_check: tls } ]",
            ["3:65 expected a mapping for health_check, found \"tls\""]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], health_check: { type: htp, retries: 3 } } ]",
            [
                "3:73 unknown value \"htp\"; did you mean \"http\"?",
                "3:78 unknown key \"retries\" in health_check; known: type, interval, timeout, fall, rise, jitter, port, "
                    + "server_name, path, expected",
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], health_check: { interval: 2s, timeout: 3s } } ]",
            ["3:90 a health check's timeout cannot be longer than its interval"]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], health_check: { interval: 1ms, fall: 0, jitter: 51 } } ]",
            [
                "3:77 expected an interval of 10ms...1d, found \"1ms\"", "3:88 expected a number 1...100, found \"0\"",
                "3:99 expected a number 0...50, found \"51\"",
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], health_check: { server_name: a.example, path: /x } } ]",
            [
                "3:80 \"server_name\" has no effect: it is for `type: tls or http`",
                "3:97 \"path\" has no effect: it is for `type: http`",
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], health_check: { type: http, path: x, expected: [99, 2-1, a] } } ]",
            [
                "3:85 expected a path: a `/` and at most 1023 visible ASCII characters, found \"x\"",
                "3:99 expected a status 100...599, or a range such as 200-299, found \"99\"",
                "3:103 expected a status 100...599, or a range such as 200-299, found \"2-1\"",
                "3:108 expected a status 100...599, or a range such as 200-299, found \"a\"",
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], health_check: { type: http, expected: [] } } ]",
            ["3:89 expected at least one status, found a list"]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], health_check: { type: tls, server_name: 10.0.0.1 } } ]",
            ["3:91 \"10.0.0.1\" is no server name: an address is no server name"]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], connect: { attempts: 9 } } ]",
            [
                "3:72 expected a number 1...8, found \"9\""
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], send_proxy: { version: v1, crc32c: true } } ]",
            [
                "3:63 PROXY v1 carries addresses only: every other key of send_proxy needs v2"
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], send_proxy: { version: v1, pad_to: 9 } } ]",
            [
                "3:63 PROXY v1 carries addresses only: every other key of send_proxy needs v2"
            ]
        ),
        // PO-04, PO-07.
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], send_proxy: { version: v2, pad_to: 513 } } ]",
            ["3:86 expected a number 0...512, found \"513\""]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], send_proxy: { version: v2, forward_tlvs: [ssl] } } ]",
            ["3:93 expected authority or alpn or unique_id, found \"ssl\""]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], send_proxy: { version: v2, custom: [] } } ]",
            ["3:86 expected a mapping such as { 0xE0: \"text\" }, found a list"]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], send_proxy: { version: v2, custom: { 0xF0: a, 224: b } } } ]",
            ["3:88 expected a type 0xE0...0xEF, found \"0xF0\"", "3:97 expected a type 0xE0...0xEF, found \"224\""]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], send_proxy: { version: v2, custom: { 0xe0: a, 0xE0: b } } } ]",
            ["3:97 type \"0xE0\" stands here twice"]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], send_proxy: { version: v2, custom: { 0xE0: \"\" } } } ]",
            ["3:94 expected text of 1...64 bytes, found \"\""]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], "
                + "send_proxy: { version: v2, custom: { 0xE0: a, 0xE1: a, 0xE2: a, 0xE3: a, 0xE4: a } } } ]",
            ["3:86 5 custom TLVs; 4 are the most"]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], source_addresses: [] } ]",
            ["3:69 expected at least one IP address, found a list"]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], source_addresses: [10.0.0.1, 10.0.0.1, 0.0.0.0] } ]",
            [
                "3:21 cluster \"c\": source address 10.0.0.1 stands there twice",
                "3:21 cluster \"c\": 0.0.0.0 cannot be connected from",
            ]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], source: p } ]",
            ["3:21 cluster \"c\": there is no source \"p\""]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"10.0.0.1:1\"], source: p, source_addresses: [10.0.0.1] } ]",
            ["3:80 either `source`, a pool, or `source_addresses`, not both"]
        ),
        // S0-5: source pools.
        ("sources: {}", ["3:10 expected a list of sources, found a mapping"]),
        ("sources: [ { addresses: [10.0.0.1] } ]", ["3:12 a source has no `name`"]),
        ("sources: [ { name: p } ]", ["3:12 source \"p\" has neither `addresses` nor an `interface`"]),
        ("sources: [ { name: p, addresses: [] } ]", ["3:34 expected at least one IP address, found a list"]),
        (
            "sources: [ { name: p, adresses: [10.0.0.1] } ]",
            [
                "3:12 source \"p\" has neither `addresses` nor an `interface`",
                "3:23 unknown key \"adresses\" in a source; did you mean \"addresses\"?",
            ]
        ),
        (
            "sources: [ { name: p, addresses: [10.0.0.1], select: leastports } ]",
            ["3:54 unknown value \"leastports\"; did you mean \"least_ports\"?"]
        ),
        (
            "sources: [ { name: p, addresses: [10.0.0.1, \"ff02::1\", 10.0.0.300] } ]",
            [
                "3:20 source \"p\": ff02::1 cannot be connected from",
                "3:56 expected an IP address, found \"10.0.0.300\"",
            ]
        ),
        (
            "sources: [ { name: p, addresses: [10.0.0.1] }, { name: p, addresses: [10.0.0.2] } ]",
            ["3:56 source \"p\" is already defined at test.conf:3:20"]
        ),
        (
            "sources: [ { name: p, addresses: [10.0.0.1], interface: a-name-of-16-byte } ]",
            ["3:57 expected the name of an interface, of 1...15 bytes, found \"a-name-of-16-byte\""]
        ),
        (
            "sources: [ { name: p, addresses: [10.0.0.1], mark: 0x100000000 } ]",
            ["3:52 expected a mark 1...4294967295, or 0x1...0xffffffff, found \"0x100000000\""]
        ),
        (
            "sources: [ { name: p, addresses: [10.0.0.1], mark: 0 } ]",
            ["3:52 expected a mark 1...4294967295, or 0x1...0xffffffff, found \"0\""]
        ),
        (
            "clusters: [ { name: c, endpoints: [\"1.1.1.1:1\"] }, { name: c, endpoints: [\"1.1.1.1:1\"] } ]",
            [
                "3:60 cluster \"c\" is already defined at test.conf:3:21"
            ]
        ),
        // YAML itself.
        ("workers: 1\nworkers: 2", ["4:1 key \"workers\" repeats line 3"]),
        ("<<: {}", ["3:1 merge keys (`<<`) are not supported"]),
        ("workers: !!int 3", ["3:10 tags are not supported: \"tag:yaml.org,2002:int\""]),
        ("workers: *nobody", ["3:10 no finished node is anchored as \"nobody\""]),
        ("workers: &me [*me]", ["3:15 no finished node is anchored as \"me\""]),
        ("[1]: x", ["3:1 expected a key, found a list"]),
    ])
    func topLevelFault(text: String, errors: [String]) {
        #expect(reading(Self.frame + text + "\n").errorLines == errors)
    }

    @Test(arguments: [
        ("name: x", ["2:3 a listener has no `address`"]),
        (
            "address: 127.0.0.1:1, limits: { per_client: { rate: 500 } }",
            ["2:57 expected a rate such as 500/s, 30/m or 1000/h, of 1...1000000, found \"500\""]
        ),
        (
            "address: 127.0.0.1:1, limits: { rate: 0/s }",
            ["2:43 expected a rate such as 500/s, 30/m or 1000/h, of 1...1000000, found \"0/s\""]
        ),
        ("address: 127.0.0.1:1, limits: { burst: 5 }", ["2:44 a burst without `rate` has no effect"]),
        // T-08.
        (
            "address: 127.0.0.1:1, accept_proxy: {}",
            [
                "2:41 accept_proxy trusts nobody: list the peers whose header is believed in `from`"
            ]
        ),
        (
            "address: 127.0.0.1:1, accept_proxy: { from: [] }",
            [
                "2:49 expected at least one block of addresses, found a list"
            ]
        ),
        (
            "address: 127.0.0.1:1, accept_proxy: { from: [10.0.0.0/8], max_header: 15 }",
            [
                "2:75 expected a size of 16...65535 bytes, found \"15\""
            ]
        ),
        ("address: 127.0.0.1:1, detect: [quic]", ["2:36 expected tls or http, found \"quic\""]),
        ("address: 127.0.0.1:1, half_close: yes", ["2:39 expected true or false, found \"yes\""]),
        (
            "address: 127.0.0.1:1, hello: { max_size: 100 }",
            ["2:46 expected a size of 512...65536 bytes, found \"100\""]
        ),
        (
            "address: 127.0.0.1:1, clients: { allow: 10.0.0.0/8 }",
            [
                "2:45 expected a list of blocks of addresses, or all, found \"10.0.0.0/8\""
            ]
        ),
        (
            "address: 127.0.0.1:1, clients: { allow: [10.0.0.0/33] }",
            [
                "2:46 expected a block of addresses such as 10.0.0.0/8, or one address, found \"10.0.0.0/33\""
            ]
        ),
        (
            "address: 127.0.0.1:1, timeouts: { preamble: 1s, hello: 2s }",
            [
                "2:60 the hello timeout is longer than the preamble timeout, which contains it"
            ]
        ),
        (
            "address: 127.0.0.1:1, routes: [ { match: {} } ]",
            [
                "2:37 a route says where `to` connect, or `deny`; this one has neither"
            ]
        ),
        (
            "address: 127.0.0.1:1, routes: [ { to: { cluster: c }, deny: close } ]",
            [
                "2:65 a route has either `to` or `deny`, not both"
            ]
        ),
        (
            "address: 127.0.0.1:1, routes: [ { to: {} } ]",
            [
                "2:43 expected `cluster` or `clusters` or `server_name` or `proxy_destination` or `original_destination`, found a mapping"
            ]
        ),
        (
            "address: 127.0.0.1:1, routes: [ { source: p, deny: close } ]",
            [
                "2:47 `source` stands in the route's `to.server_name`, or in the cluster"
            ]
        ),
        (
            "address: 127.0.0.1:1, routes: [ { to: { server_name: {} } } ]",
            [
                "2:58 to.server_name has no `port`: a number, or listener"
            ]
        ),
        (
            "address: 127.0.0.1:1, routes: [ { to: { server_name: { port: 0 } } } ]",
            [
                "2:66 expected a port 1...65535, or listener, found \"0\""
            ]
        ),
        (
            "address: 127.0.0.1:1, routes: [ { match: { server_names: [\"a*.x\"] }, deny: close } ]",
            [
                "2:63 \"a*.x\" is not a server name, *.suffix or *: a name has only letters, digits, `-`, `_` and `.`"
            ]
        ),
        (
            "address: 127.0.0.1:1, routes: [ { match: { server_names: [10.0.0.1] }, deny: close } ]",
            [
                "2:63 \"10.0.0.1\" is not a server name, *.suffix or *: an address is no server name"
            ]
        ),
        (
            "address: 127.0.0.1:1, routes: [ { match: { server_names: [] }, deny: close } ]",
            [
                "2:62 expected at least one of the server names; leave the key out to match all, found a list"
            ]
        ),
        (
            "address: 127.0.0.1:1, routes: [ { match: { alpn: [\"\"] }, deny: close } ]",
            [
                "2:55 expected a protocol name of 1...255 bytes such as h2, found \"\""
            ]
        ),
        // Faults between parts stand where the part is written.
        (
            "address: 127.0.0.1:1, routes: [ { name: r, to: { cluster: none } } ]",
            [
                "2:52 listener \"127.0.0.1:1\", route \"r\": there is no cluster \"none\""
            ]
        ),
        (
            "name: a, address: 127.0.0.1:1",
            [
                "2:11 listener \"a\": has no route, so every client would be refused"
            ]
        ),
        (
            "address: 127.0.0.1:1, detect: none, routes: [ { name: r, to: { server_name: { port: 1 } } } ]",
            [
                "2:66 listener \"127.0.0.1:1\", route \"r\": forwards to the server name, but the listener detects none"
            ]
        ),
        (
            "address: 127.0.0.1:1, routes: [ { name: r, deny: close }, { name: r, deny: close } ]",
            [
                "2:71 listener \"127.0.0.1:1\", route \"r\" is already defined at test.conf:2:45"
            ]
        ),
    ])
    func listenerFault(keys: String, errors: [String]) {
        #expect(reading("listeners:\n- { \(keys) }\n").errorLines == errors)
    }

    @Test func twoListenersOfOneAddressAreRefused() {
        let result = reading(
            """
            listeners:
              - { name: a, address: 127.0.0.1:1, routes: [ { deny: close } ] }
              - { name: b, address: 127.0.0.1:1, routes: [ { deny: close } ] }
            """)
        #expect(result.errorLines == ["3:13 listener \"b\": 127.0.0.1:1 is listened on twice"])
    }

    @Test func bitsBehindThePrefixAreWarnedAbout() {
        let result = reading(Self.frame + "destinations: { allow: [10.1.2.3/8] }\n")
        #expect(result.warningLines == ["3:25 \"10.1.2.3/8\" has bits behind its prefix; it means 10.0.0.0/8"])
        #expect(result.configuration != nil)
    }

    @Test func brokenYAMLIsPlaced() {
        #expect(reading("listeners: [ {\n").errorLines.count == 1)
        #expect(reading("listeners:\n\t- x\n").errorLines.first?.hasPrefix("2:1 ") == true)
    }
}
