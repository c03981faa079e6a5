import FuzzHarness
import WeirConfig

/// Files in native YAML: libyaml's events, our tree of them, and every key.
enum ConfigNativeTarget: FuzzTarget {
    static let name = "config-native"

    static func check(_ bytes: Span<UInt8>) -> String? {
        let bytes = [UInt8](bytes, first: bytes.count)
        guard ConfigFormat(recognising: bytes) == .yaml else { return nil }
        return ConfigurationReading.check([(name: "fuzz.yaml", bytes: bytes)])
    }
}

/// Manifests of Kubernetes and what is built on it: every kind, and what they become together.
enum ConfigManifestsTarget: FuzzTarget {
    static let name = "config-manifests"

    static func check(_ bytes: Span<UInt8>) -> String? { ConfigNativeTarget.check(bytes) }
}

/// nginx stream configurations: words, blocks, maps with their variables and patterns, and every directive.
enum ConfigNginxTarget: FuzzTarget {
    static let name = "config-nginx"

    static func check(_ bytes: Span<UInt8>) -> String? {
        let bytes = [UInt8](bytes, first: bytes.count)
        guard ConfigFormat(recognising: bytes) == .nginx else { return nil }
        return ConfigurationReading.check([(name: "fuzz.conf", bytes: bytes)])
    }
}

/// Which format a file has, and two files of whatever format as one configuration.
enum ConfigFilesTarget: FuzzTarget {
    static let name = "config-files"

    static func check(_ bytes: Span<UInt8>) -> String? {
        let bytes = [UInt8](bytes, first: bytes.count)
        let format = ConfigFormat(recognising: bytes)
        // What says nothing in either format does not change the answer.
        for nothing in ["\n", " \t\r\n", "# stream { listeners: } ;\n"] {
            require(
                ConfigFormat(recognising: Array(nothing.utf8) + bytes) == format, "another format behind \(nothing)")
        }
        // Cut at a line, both halves are files.
        let lines = bytes.indices.filter { bytes[$0] == 0x0a }
        var random = FuzzRandom(of: bytes.span)
        let cut = lines.isEmpty ? bytes.count : lines[random.below(lines.count)] + 1
        let (first, second) = (Array(bytes[..<cut]), Array(bytes[cut...]))
        guard
            let answer = ConfigurationReading.check([(name: "first", bytes: first), (name: "second", bytes: second)])
        else { return nil }
        return "\(ConfigFormat(recognising: first))_\(ConfigFormat(recognising: second))_\(answer)"
    }
}
