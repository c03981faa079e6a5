import Testing
import WeirConfig
import WeirModel

/// What an nginx file says that cannot be served is said with its line and column (T-22).
@Suite struct NginxErrorTests {
    @Test(arguments: [
        // Grammar.
        ("stream {\n  server {\n", ["3:1 the file ends inside the block \"server\" of line 2: expected `}`"]),
        ("stream { }\n}\n", ["2:1 unexpected `}`"]),
        ("stream {\n  ;\n}", ["2:3 unexpected `;`"]),
        ("stream { { } }", ["1:10 unexpected `{`"]),
        ("user x", ["1:1 expected a mapping for a configuration, found \"user x\""]),
        ("user x;\npid y\n", ["3:1 expected `;` or `{` after \"y\", at the end of the file"]),
        ("stream { listen 1 }", ["1:19 expected `;` or `{` after \"1\", before this `}`"]),
        ("user \"x;\n", ["1:6 this quote is not closed"]),
        ("user \"x\"y;\n", ["1:9 expected a space, `;` or `{` after the quote"]),
        // Names, places and counts.
        ("strem { }", ["1:1 unknown directive \"strem\" at the top level; did you mean \"stream\"?"]),
        ("listen 443;", ["1:1 \"listen\" stands in `server`, not at the top level"]),
        ("stream;", ["1:1 \"stream\" needs a block `{ ... }`"]),
        ("worker_processes 1 { }", ["1:1 \"worker_processes\" takes no block"]),
        ("worker_processes 1 2;", ["1:1 \"worker_processes\" takes 1 argument, not 2"]),
        ("worker_processes 1\nstream { }", ["1:1 \"worker_processes\" takes no block"]),
        (
            "worker_processes 1\npid x;",
            [
                "1:1 \"worker_processes\" takes 1 argument, not 3; is a `;` missing before line 2?"
            ]
        ),
        ("worker_processes 1; worker_processes 2;", ["1:21 \"worker_processes\" repeats line 1"]),
        ("worker_processes many;", ["1:18 expected auto or a number 1...256, found \"many\""]),
        ("http { server { } }", ["1:1 \"http\" is not supported: only `stream` is served"]),
        ("mail { }", ["1:1 \"mail\" is not supported: only `stream` is served"]),
        // Upstreams, zones and maps.
        ("stream { upstream u { } server { listen 1; proxy_pass u; } }", ["1:10 upstream \"u\" has no `server`"]),
        (
            "stream { upstream u { server 10.0.0.1; } }",
            [
                "1:30 \"10.0.0.1\" names no port: expected address:port or name:port"
            ]
        ),
        ("stream { upstream u { server unix:/x; } }", ["1:30 unix sockets are not supported"]),
        (
            "stream { upstream u { server a:1 wieght=1; } }",
            [
                "1:34 unknown parameter \"wieght\" of `server`; did you mean \"weight\"?"
            ]
        ),
        ("stream { upstream u { server a:1 weight=0; } }", ["1:41 expected a number 1...65535, found \"0\""]),
        ("stream { upstream u { server a:1 service=x; } }", ["1:34 \"service\" of `server` is not supported yet"]),
        ("stream { upstream u { server a:1 max_conns=x; } }", ["1:44 expected a number 0...100000000, found \"x\""]),
        ("stream { upstream u { least_time connect; server a:1; } }", ["1:23 \"least_time\" is not supported yet"]),
        (
            "stream { upstream u { hash $ssl_preread_server_name; server a:1; } }",
            ["1:28 `hash` by \"$ssl_preread_server_name\" is not supported yet; use $remote_addr"]
        ),
        ("stream { upstream u { random three; server a:1; } }", ["1:30 expected `two` or nothing, found \"three\""]),
        ("stream { upstream u { server a:1; }\nupstream U { server a:1; } }", ["2:10 upstream \"U\" repeats line 1"]),
        (
            "stream { limit_conn_zone $server_port zone=a:1m; }",
            [
                "1:26 connections are counted per `$binary_remote_addr` only, not per \"$server_port\""
            ]
        ),
        ("stream { geo $x { default 1; } }", ["1:10 \"geo\" is not supported yet"]),
        ("stream { map $a b { } }", ["1:17 expected a variable such as $name, found \"b\""]),
        // Servers.
        ("stream { server { listen 1; } }", ["1:10 this server has no `proxy_pass`"]),
        ("stream { server { proxy_pass a:1; } }", ["1:10 this server has no `listen`"]),
        ("stream { server { listen 1; return x; } }", ["1:29 \"return\" is not supported yet"]),
        (
            "stream { server { listen 1; proxy_pass a:1; }\nserver { listen 1; proxy_pass a:1; } }",
            [
                "2:10 listener \"0.0.0.0:1\" is already defined at test.conf:1:19"
            ]
        ),
        (
            "stream { server { listen 1; proxy_pass $ssl_preread_server_name:443; } }",
            [
                "1:40 the target depends on the ClientHello: the server needs `ssl_preread on`"
            ]
        ),
    ])
    func fileFault(text: String, errors: [String]) {
        #expect(reading(text).errorLines == errors)
    }

    /// The directive stands at 6:1 of a server that is right.
    @Test(arguments: [
        ("proxy_timout 5s;", ["6:1 unknown directive \"proxy_timout\" in `server`; did you mean \"proxy_timeout\"?"]),
        ("proxy_timeout soon;", ["6:15 expected a time such as 500ms, 30s, 5m or 1h, found \"soon\""]),
        ("proxy_timeout 0;", ["6:15 expected a time above zero, found \"0\""]),
        ("proxy_timeout 1s; proxy_timeout 2s;", ["6:19 \"proxy_timeout\" repeats line 6"]),
        ("proxy_protocol yes;", ["6:16 expected on or off, found \"yes\""]),
        ("proxy_bind $remote_addr transparent;", ["6:25 `transparent` is not supported yet"]),
        ("proxy_bind $remote_addr;", ["6:12 `proxy_bind` with variables is not supported yet"]),
        ("proxy_bind 10.0.0.1:5;", ["6:12 expected an IP address without port, or off, found \"10.0.0.1:5\""]),
        (
            "resolver dns.example;",
            [
                "6:10 expected the address of a name server (names are not looked up for this), found \"dns.example\""
            ]
        ),
        (
            "resolver 10.0.0.53 vaild=5s;",
            [
                "6:20 unknown parameter \"vaild\" of `resolver`; did you mean \"valid\"?"
            ]
        ),
        ("resolver 10.0.0.53 valid=x;", ["6:26 expected a time such as 500ms, 30s, 5m or 1h, found \"x\""]),
        ("resolver 10.0.0.53 ipv4=off ipv6=off;", ["6:1 ipv4=off and ipv6=off together leave no address to find"]),
        ("resolver valid=5s;", ["6:1 `resolver` names no name server"]),
        ("allow 10.0.0.0/40;", ["6:7 expected an address or a block such as 10.0.0.0/8, found \"10.0.0.0/40\""]),
        ("deny unix:;", ["6:6 unix sockets are not supported"]),
        ("limit_conn addr 5;", ["6:12 there is no `limit_conn_zone` \"addr\""]),
        ("access_log syslog:server=x;", ["6:12 logging to syslog is not supported yet"]),
        ("access_log /a; access_log /b;", ["6:16 a second access log is not supported yet"]),
        (
            "listen 444 ssl;",
            [
                "6:12 `listen ... ssl` is not supported: TLS passes through and is never ended here"
            ]
        ),
        ("listen 444 udp;", ["6:12 `listen ... udp` is not supported yet"]),
        ("listen 444 reuseprot;", ["6:12 unknown parameter \"reuseprot\" of `listen`; did you mean \"reuseport\"?"]),
        ("listen unix:/run/x;", ["6:8 unix sockets are not supported"]),
        ("listen 10.0.0.1;", ["6:8 `listen` names no port: expected a port, address:port or [v6]:port"]),
        ("listen 70000;", ["6:8 expected a port, address:port or [v6]:port, found \"70000\""]),
        ("listen 1-65535;", ["6:8 expected a port, address:port or [v6]:port, found \"1-65535\""]),
        (
            "listen host.example:1;",
            [
                "6:8 expected a port, address:port or [v6]:port (names are not looked up for this), found \"host.example:1\""
            ]
        ),
        (
            "ssl_certificate x;",
            [
                "6:1 \"ssl_certificate\" is not supported: TLS passes through and is never ended here"
            ]
        ),
        ("proxy_ssl on;", ["6:1 \"proxy_ssl\" is not supported: TLS passes through and is never ended here"]),
        ("js_preread x;", ["6:1 \"js_preread\" is not supported: scripts are not run"]),
        ("proxy_upload_rate 1m;", ["6:1 \"proxy_upload_rate\" is not supported yet"]),
        ("proxy_responses 1;", ["6:1 \"proxy_responses\" is not supported: UDP is not proxied"]),
        ("server_name x;", ["6:1 \"server_name\" is not supported yet"]),
        ("proxy_pass a:1;", ["6:1 \"proxy_pass\" repeats line 5"]),
    ])
    func serverFault(directives: String, errors: [String]) {
        let text = """
            stream {
            server {
            listen 443;
            ssl_preread on;
            proxy_pass $ssl_preread_server_name:443;
            \(directives)
            }
            }
            """
        #expect(reading(text).errorLines == errors)
    }

    /// The target stands at 6:12.
    @Test(arguments: [
        (
            "backend",
            ["6:12 there is no `upstream` \"backend\", and as an address it has no port; did you mean \"backends\"?"]
        ),
        ("example.com", ["6:12 there is no `upstream` \"example.com\", and as an address it has no port"]),
        ("unix:/x", ["6:12 unix sockets are not supported"]),
        ("10.0.0.1:0", ["6:12 expected address:port or name:port, found \"10.0.0.1:0\""]),
        ("$ssl_preread_server_name", ["6:12 `$ssl_preread_server_name` alone names no port: append `:443`"]),
        (
            "$ssl_preread_server_name:x",
            ["6:12 expected a port 1...65535 after the server name, found \"$ssl_preread_server_name:x\""]
        ),
        (
            "$ssl_preread_server_name.internal:443",
            [
                "6:12 a target built around the server name is not supported: use the name as it is"
            ]
        ),
        (
            "$ssl_preread_sever_name:443",
            [
                "6:12 unknown variable \"$ssl_preread_sever_name\"; did you mean \"$ssl_preread_server_name\"?"
            ]
        ),
        (
            "$remote_addr:443",
            [
                "6:12 variable \"$remote_addr\" is not supported in a target; usable: $ssl_preread_server_name, "
                    + "$ssl_preread_alpn_protocols, $server_port"
            ]
        ),
        ("a$", ["6:12 expected a target in which `$` begins a variable, found \"a$\""]),
    ])
    func targetFault(target: String, errors: [String]) {
        let text = """
            stream {
            upstream backends { server 10.0.0.1:1; }
            server {
            listen 443;
            ssl_preread on;
            proxy_pass \(target);
            }
            }
            """
        #expect(reading(text).errorLines == errors)
    }

    @Test func twoServersShareOneResolverAndOneLog() {
        let text = """
            stream {
            server { listen 1; proxy_pass a:1; resolver 10.0.0.53; access_log /a; }
            server { listen 2; proxy_pass a:1; resolver 10.0.0.54; access_log /b; }
            }
            """
        #expect(
            reading(text).errorLines == [
                "3:36 another `resolver` than in line 2: all servers share one",
                "3:56 another `access_log` than before: all servers share one",
            ])
    }
}
