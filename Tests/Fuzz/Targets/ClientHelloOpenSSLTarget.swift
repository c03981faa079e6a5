import CFuzz
import FuzzHarness
import WeirNet
import WeirWire

/// T-05, T-06: for the same bytes our server name is the one that OpenSSL's server reads, or we refuse. A backend that sees
/// another name than the one we routed by is how access rules are passed.
enum ClientHelloOpenSSLTarget: FuzzTarget {
    static let name = "client-hello-openssl"

    /// What OpenSSL 3.0 refuses before it has a ClientHello, of what is one to us. Each is a fault of an extension that we do
    /// not read, so the backend ends the handshake and no name is read twice:
    /// an extension other than server_name twice, one that has no place in a ClientHello, or pre_shared_key not last.
    private static let refusedBeforeTheHello = ["tls_collect_extensions: bad extension"]

    /// The one thing that OpenSSL must not refuse later on, since we have read it: its words for a fault in server_name.
    private static let serverNameReader = "tls_parse_ctos_server_name"

    static func check(_ bytes: Span<UInt8>) -> String? {
        // OpenSSL's own limit is about 128 KiB; ours must not be what makes the difference.
        let ours = readWhole(HelloReading(byteCountMax: 65536), bytes)
        var theirs = unsafe cfuzz_tls_reading()
        unsafe bytes.withUnsafeBufferPointer { unsafe cfuzz_tls_read($0.baseAddress, $0.count, &theirs) }
        return unsafe compare(bytes, ours, theirs)
    }

    static func mutate(_ bytes: [UInt8], _ random: inout FuzzRandom) -> [UInt8]? {
        ClientHelloTarget.mutate(bytes, &random)
    }

    private static func compare(
        _ bytes: Span<UInt8>, _ ours: Reading<ClientHello, HelloRefusal>, _ theirs: cfuzz_tls_reading
    ) -> String {
        let progress = unsafe cfuzz_tls_progress(rawValue: UInt32(theirs.progress))
        var reason: String {
            let function = unsafe withUnsafeBytes(of: theirs.function) {
                unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            return unsafe "\(function): \(String(cString: theirs.reason))"
        }
        switch (ours, progress) {
        case (.needMore, CFUZZ_TLS_NEED_MORE):
            return "both want more"
        case (.needMore, CFUZZ_TLS_REFUSED):
            return "OpenSSL refuses early: \(reason)"
        case (.needMore, _):
            fail("OpenSSL has read a hello that we want more of")
        case (.refused(let refusal), CFUZZ_TLS_NEED_MORE), (.refused(let refusal), CFUZZ_TLS_REFUSED):
            return "neither accepts: \(refusal.label)"
        case (.refused(let refusal), CFUZZ_TLS_HELLO):
            return "only OpenSSL reads the message, and refuses later: \(refusal.label)"
        case (.refused(let refusal), _):
            return "only OpenSSL accepts: \(refusal.label)"
        case (.accepted(_, let byteCount), CFUZZ_TLS_NEED_MORE):
            require(recordIsCutOff(bytes, byteCount), "we accept, but OpenSSL wants more")
            return "accepted, OpenSSL waits for the end of the record"
        case (.accepted, CFUZZ_TLS_REFUSED):
            require(refusedBeforeTheHello.contains(reason), "OpenSSL refuses what we accept: \(reason)")
            return "only we accept: \(reason)"
        case (.accepted(let hello, _), _):
            unsafe requireSameName(hello, theirs)
            require(!reason.hasPrefix(serverNameReader), "OpenSSL refuses the server name: \(reason)")
            return progress == CFUZZ_TLS_SERVER_NAME
                ? "both accept" : "only we accept, OpenSSL read the message: \(reason)"
        }
    }

    /// OpenSSL takes a record when it is whole; for us a hello is whole with its last byte (CH-27).
    private static func recordIsCutOff(_ bytes: Span<UInt8>, _ end: Int) -> Bool {
        var index = 0
        while index < end {
            index += 5 + (Int(bytes[index + 3]) << 8 | Int(bytes[index + 4]))
        }
        return index > bytes.count
    }

    private static func requireSameName(_ hello: ClientHello, _ theirs: cfuzz_tls_reading) {
        let extensionCount = unsafe Int(theirs.extension_length)
        require((extensionCount < 0) == hello.serverName.isNone, "server_name is there for one of us only")
        hello.withServerNameAsSent { name in
            if extensionCount >= 0 {
                // The list's length, host_name, the name's length: nothing but this one name.
                let listByteCount = name.count + 3
                let expected: InlineArray<5, UInt8> = [
                    UInt8(listByteCount >> 8), UInt8(listByteCount & 0xff), 0, 0, UInt8(name.count),
                ]
                require(extensionCount == expected.count + name.count, "server_name has \(extensionCount) bytes")
                unsafe withUnsafeBytes(of: theirs.extension) { body in
                    for index in expected.indices {
                        require(unsafe body[index] == expected[index], "server_name's lengths")
                    }
                    for index in name.indices {
                        require(unsafe body[expected.count + index] == name[index], "another name in server_name")
                    }
                }
            }
            guard unsafe theirs.progress == Int32(CFUZZ_TLS_SERVER_NAME.rawValue) else { return }
            let count = unsafe Int(theirs.name_length)
            require(count == (hello.serverName.isNone ? -1 : name.count), "OpenSSL's name has \(count) bytes")
            unsafe withUnsafeBytes(of: theirs.name) { theirs in
                for index in name.indices { require(unsafe theirs[index] == name[index], "OpenSSL has another name") }
            }
        }
    }
}
