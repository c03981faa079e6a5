import WeirModel
import WeirNet

/// The PROXY header sent to an upstream, as the loop reads it.
package struct CompiledSendProxy: BitwiseCopyable, Sendable {
    package struct CustomTLV: BitwiseCopyable, Sendable {
        package fileprivate(set) var type: UInt8 = 0
        package fileprivate(set) var value = InlineBytes<64>()
    }

    package let version: SendProxy.Version
    package let authority: Bool
    package let alpn: Bool
    package let uniqueID: Bool
    package let crc32c: Bool
    package let forwardsAuthority: Bool
    package let forwardsALPN: Bool
    package let forwardsUniqueID: Bool
    /// Bytes that the header has at least.
    package let padTo: Int
    /// How many of `custom` are there.
    package let customCount: Int
    package let custom: InlineArray<4, CustomTLV>

    init(_ options: SendProxy) {
        precondition(options.custom.count <= SendProxy.customCountMax, "a sound configuration has at most 4")
        version = options.version
        authority = options.authority
        alpn = options.alpn
        uniqueID = options.uniqueID
        crc32c = options.crc32c
        forwardsAuthority = options.forwardedTLVs.contains(.authority)
        forwardsALPN = options.forwardedTLVs.contains(.alpn)
        forwardsUniqueID = options.forwardedTLVs.contains(.uniqueID)
        padTo = options.padTo
        customCount = options.custom.count
        var custom = InlineArray<4, CustomTLV>(repeating: CustomTLV())
        for (index, tlv) in options.custom.enumerated() {
            custom[index].type = tlv.type
            for byte in tlv.text.utf8 { custom[index].value.append(byte) }
        }
        self.custom = custom
    }
}
