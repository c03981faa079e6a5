/// Builds the bytes of a ClientHello, well formed by default; every part can be set, wrong lengths included.
package struct HelloBuilder: Sendable {
    package struct Extension: Sendable {
        package var type: UInt16
        package var body: [UInt8]

        package init(type: UInt16, body: [UInt8]) {
            self.type = type
            self.body = body
        }
    }

    package var messageType: UInt8 = 1
    package var legacyVersion: UInt16 = 0x0303
    package var random = [UInt8](0x40..<0x60)
    package var sessionID = [UInt8](0x80..<0xa0)
    package var cipherSuites: [UInt16] = [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0x00ff]
    package var compressionMethods: [UInt8] = [0]
    /// nil: no extension block at all.
    package var extensions: [Extension]?
    /// Written as the extension block, behind its right length, instead of `extensions`.
    package var extensionBlock: [UInt8]?

    /// Lengths to write instead of the right ones.
    package var messageLength: Int?
    package var sessionIDLength: UInt8?
    package var cipherSuitesLength: UInt16?
    package var compressionMethodsLength: UInt8?
    package var extensionsLength: UInt16?

    /// A small TLS 1.3 hello. nil: no server_name extension. Empty `alpn`: no such extension.
    package init(serverName: String? = "good.test", alpn: [String] = []) {
        var extensions: [Extension] = []
        if let serverName { extensions.append(.serverName(serverName)) }
        extensions.append(Extension(type: 10, body: [0, 4, 0, 0x1d, 0, 0x17]))
        if !alpn.isEmpty { extensions.append(.alpn(alpn)) }
        extensions.append(Extension(type: 13, body: [0, 4, 4, 3, 8, 4]))
        extensions.append(Extension(type: 43, body: [4, 3, 4, 3, 3]))
        self.extensions = extensions
    }

    /// A small hello with these extensions only.
    package init(extensions: [Extension]?) {
        self.extensions = extensions
    }

    /// The handshake message, its 4-byte header included.
    package var message: [UInt8] {
        var body = Self.bytes(of: legacyVersion) + random
        body += [sessionIDLength ?? UInt8(sessionID.count)] + sessionID
        body += Self.bytes(of: cipherSuitesLength ?? UInt16(cipherSuites.count * 2))
        for suite in cipherSuites { body += Self.bytes(of: suite) }
        body += [compressionMethodsLength ?? UInt8(compressionMethods.count)] + compressionMethods
        var block = extensionBlock
        if block == nil, let extensions {
            block = extensions.flatMap { Self.bytes(of: $0.type) + Self.prefixed($0.body) }
        }
        if let block { body += Self.bytes(of: extensionsLength ?? UInt16(block.count)) + block }
        let length = messageLength ?? body.count
        return [messageType, UInt8(length >> 16 & 0xff), UInt8(length >> 8 & 0xff), UInt8(length & 0xff)] + body
    }

    /// The message in one record, or in several that start at these offsets into it.
    package func records(splitAt offsets: [Int] = [], version: UInt16 = 0x0301) -> [UInt8] {
        Self.records(of: message, splitAt: offsets, version: version)
    }

    package static func records(of message: [UInt8], splitAt offsets: [Int] = [], version: UInt16 = 0x0301) -> [UInt8] {
        var wire: [UInt8] = []
        var start = 0
        for end in offsets + [message.count] {
            wire += record(Array(message[start..<end]), version: version)
            start = end
        }
        return wire
    }

    /// One record; `length` is written instead of the right one.
    package static func record(
        _ payload: [UInt8], type: UInt8 = 22, version: UInt16 = 0x0301, length: UInt16? = nil
    ) -> [UInt8] {
        [type] + bytes(of: version) + bytes(of: length ?? UInt16(payload.count)) + payload
    }

    /// Adds a padding extension (RFC 7685) so that the message has `byteCount` bytes.
    package func padded(toMessageByteCount byteCount: Int) -> HelloBuilder {
        var builder = self
        let missing = byteCount - message.count - 4
        precondition(missing >= 0 && extensions != nil)
        builder.extensions?.append(Extension(type: 21, body: [UInt8](repeating: 0, count: missing)))
        return builder
    }

    package static func bytes(of value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }

    /// `body` behind its 16-bit length.
    package static func prefixed(_ body: [UInt8]) -> [UInt8] { bytes(of: UInt16(body.count)) + body }
}

extension HelloBuilder.Extension {
    package static func serverName(_ name: String) -> Self { serverNames([(0, Array(name.utf8))]) }

    package static func serverName(bytes: [UInt8]) -> Self { serverNames([(0, bytes)]) }

    /// A server_name extension with these entries: type and name.
    package static func serverNames(_ entries: [(type: UInt8, name: [UInt8])]) -> Self {
        var list: [UInt8] = []
        for entry in entries { list += [entry.type] + HelloBuilder.prefixed(entry.name) }
        return Self(type: 0, body: HelloBuilder.prefixed(list))
    }

    package static func alpn(_ names: [String]) -> Self { alpn(bytes: names.map { Array($0.utf8) }) }

    package static func alpn(bytes names: [[UInt8]]) -> Self {
        var list: [UInt8] = []
        for name in names { list += [UInt8(name.count)] + name }
        return Self(type: 16, body: HelloBuilder.prefixed(list))
    }

    /// A key_share of X25519MLKEM768 (1216 bytes) and X25519.
    package static var postQuantumKeyShare: Self {
        let hybrid = HelloBuilder.bytes(of: 0x11ec) + HelloBuilder.prefixed([UInt8](repeating: 0xa5, count: 1216))
        let classic = HelloBuilder.bytes(of: 0x001d) + HelloBuilder.prefixed([UInt8](repeating: 0x5a, count: 32))
        return Self(type: 51, body: HelloBuilder.prefixed(hybrid + classic))
    }

    /// encrypted_client_hello of the shape that real and GREASE ECH share (RFC 9849 §6.2).
    package static var encryptedClientHello: Self {
        let head: [UInt8] = [0, 0, 1, 0, 1, 0x42]
        let key = HelloBuilder.prefixed([UInt8](repeating: 7, count: 32))
        return Self(type: 0xfe0d, body: head + key + HelloBuilder.prefixed([UInt8](repeating: 9, count: 144)))
    }
}
