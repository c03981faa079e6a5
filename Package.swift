// swift-tools-version: 6.2
import PackageDescription

// Every Swift target: language mode 6, strict memory safety, warnings as errors. The word `unsafe` belongs to
// WeirMemory, WeirSockets, WeirUring, WeirEpoll, WeirResolver, WeirConfig's YAML reader, the file calls and the log thread of WeirTelemetry, and
// the thread and socket set-up of Weir.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("ExistentialAny"),
]

/// One module of the engine. `uses` is the whole list of its arrows; docs/ARCHITECTURE.md draws them.
func module(_ name: String, uses: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: uses, swiftSettings: strict)
}

func tests(_ name: String, of uses: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: uses, swiftSettings: strict)
}

// The fuzzers: built only by tools/fuzz, which asks for them and gives the sanitizers. A target of theirs is no test, and
// needs libFuzzer's main and OpenSSL's headers.
let fuzzers: [Target] = Context.environment["WEIR_FUZZ"] == nil ? [] : [
    .target(
        name: "CFuzz", path: "Tests/Fuzz/CFuzz",
        cSettings: [.unsafeFlags(["-fsanitize=fuzzer-no-link,address,undefined"])],
        linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
    .target(name: "FuzzHarness", dependencies: ["CFuzz"], path: "Tests/Fuzz/Harness", swiftSettings: strict),
    .executableTarget(
        name: "WeirFuzz",
        dependencies: ["CFuzz", "FuzzHarness", "WeirNet", "WeirWire", "WeirModel", "WeirConfig", "WeirRouting"],
        path: "Tests/Fuzz/Targets", swiftSettings: strict),
    .executableTarget(
        name: "WeirFuzzAdmin",
        dependencies: [
            "FuzzHarness", "WeirAdmin",
            .product(name: "NIOCore", package: "swift-nio", condition: .when(traits: ["Command"])),
            .product(name: "NIOEmbedded", package: "swift-nio", condition: .when(traits: ["Command"])),
        ],
        path: "Tests/Fuzz/Admin", swiftSettings: strict),
]

let package = Package(
    name: "weir",
    products: [
        .library(name: "Weir", targets: ["Weir"]),
        .library(name: "WeirTesting", targets: ["WeirTesting"]),
        .executable(name: "weir", targets: ["WeirCommand"]),
    ],
    traits: [
        .trait(name: "Command", description: "The weir executable: argument parsing and the admin HTTP endpoint."),
        .default(enabledTraits: ["Command"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    ],
    targets: [
        // C
        .target(name: "CWeir", linkerSettings: [.linkedLibrary("uring")]),
        .target(name: "CAllocationCounter"),
        .systemLibrary(name: "CAres", pkgConfig: "libcares", providers: [.apt(["libc-ares-dev"])]),
        .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),

        // Values and pure decisions
        module("WeirNet"),
        module("WeirWire", uses: ["WeirNet"]),
        module("WeirModel", uses: ["WeirNet"]),
        module("WeirMemory", uses: ["CWeir"]),
        module("WeirRouting", uses: ["WeirNet", "WeirMemory", "WeirModel"]),
        module("WeirUpstream", uses: ["WeirNet", "WeirMemory", "WeirModel", "WeirRouting"]),
        module("WeirSession", uses: ["WeirNet", "WeirWire"]),

        // The loop and its kernels
        module("WeirIO", uses: ["WeirNet", "WeirMemory"]),
        module("WeirSockets", uses: ["CWeir", "WeirNet", "WeirMemory", "WeirIO"]),
        module("WeirUring", uses: ["CWeir", "WeirNet", "WeirMemory", "WeirIO", "WeirSockets"]),
        module("WeirEpoll", uses: ["CWeir", "WeirNet", "WeirMemory", "WeirIO", "WeirSockets"]),
        module("WeirTelemetry", uses: ["WeirNet", "WeirMemory"]),
        module(
            "WeirEngine",
            uses: [
                "WeirNet", "WeirMemory", "WeirWire", "WeirModel", "WeirRouting", "WeirUpstream", "WeirSession", "WeirIO",
                "WeirTelemetry",
            ]),
        module(
            "WeirHealth",
            uses: ["WeirNet", "WeirMemory", "WeirWire", "WeirModel", "WeirRouting", "WeirUpstream", "WeirIO"]),
        module("WeirResolver", uses: ["CAres", "CWeir", "WeirNet", "WeirMemory", "WeirModel", "WeirUpstream"]),

        // The library, and the daemon around it
        module(
            "Weir",
            uses: [
                "CWeir", "WeirNet", "WeirMemory", "WeirModel", "WeirRouting", "WeirUpstream", "WeirIO",
                "WeirSockets", "WeirUring", "WeirEpoll", "WeirEngine", "WeirSession", "WeirTelemetry", "WeirResolver",
                "WeirHealth",
            ]),
        module(
            "WeirExplain",
            uses: ["WeirNet", "WeirMemory", "WeirWire", "WeirModel", "WeirRouting", "WeirUpstream", "WeirSession"]),
        module("WeirConfig", uses: ["CYAML", "CWeir", "WeirNet", "WeirModel"]),
        module(
            "WeirAdmin",
            uses: [
                "Weir", "WeirNet", "WeirTelemetry",
                .product(name: "NIOCore", package: "swift-nio", condition: .when(traits: ["Command"])),
                .product(name: "NIOPosix", package: "swift-nio", condition: .when(traits: ["Command"])),
                .product(name: "NIOHTTP1", package: "swift-nio", condition: .when(traits: ["Command"])),
            ]),
        .executableTarget(
            name: "WeirCommand",
            dependencies: [
                "Weir", "WeirNet", "WeirModel", "WeirMemory", "WeirConfig", "WeirAdmin", "WeirExplain", "WeirResolver",
                "WeirUpstream", "CWeir",
                .product(name: "ArgumentParser", package: "swift-argument-parser", condition: .when(traits: ["Command"])),
            ],
            swiftSettings: strict),
        module(
            "WeirTesting",
            uses: [
                "WeirNet", "WeirMemory", "WeirWire", "WeirModel", "WeirRouting", "WeirUpstream", "WeirSession", "WeirTelemetry",
                "WeirIO", "WeirEngine", "CWeir",
            ]),

        // Tests. AllocationCheck and Simulate are programs: what one measures holds for optimised code only, and the other
        // plays days for as long as it is asked to.
        .executableTarget(
            name: "AllocationCheck",
            dependencies: ["Weir", "WeirModel", "WeirNet", "WeirMemory", "WeirTesting", "CAllocationCounter"],
            path: "Tests/AllocationCheck", swiftSettings: strict),
        .executableTarget(
            name: "Simulate", dependencies: ["WeirTesting"], path: "Tests/Simulate", swiftSettings: strict),
        tests("WeirNetTests", of: ["WeirNet", "WeirModel"]),
        .target(name: "CLeakCheck", path: "Tests/CLeakCheck"),
        tests("WeirMemoryTests", of: ["WeirMemory", "CLeakCheck"]),
        tests("WeirWireTests", of: ["WeirWire", "WeirNet", "WeirTesting"]),
        tests("WeirConfigTests", of: ["WeirConfig", "WeirRouting", "WeirModel", "WeirNet"]),
        tests("WeirRoutingTests", of: ["WeirRouting", "WeirModel", "WeirNet", "WeirMemory"]),
        tests(
            "WeirExplainTests",
            of: ["WeirExplain", "WeirSession", "WeirRouting", "WeirUpstream", "WeirModel", "WeirNet"]),
        tests("WeirUpstreamTests", of: ["WeirUpstream", "WeirRouting", "WeirModel", "WeirNet", "WeirMemory"]),
        tests("WeirResolverTests", of: ["WeirResolver", "WeirUpstream", "WeirModel", "WeirNet", "WeirTesting", "WeirMemory"]),
        tests("WeirSessionTests", of: ["WeirSession", "WeirWire", "WeirNet"]),
        tests("WeirTelemetryTests", of: ["WeirTelemetry", "WeirNet", "WeirMemory"]),
        tests("WeirAdminTests", of: ["Weir", "WeirAdmin", "WeirNet"]),
        .target(
            name: "WeirDriverHarness",
            dependencies: ["WeirEpoll", "WeirUring", "WeirSockets", "WeirIO", "WeirNet", "WeirMemory", "CWeir"],
            path: "Tests/WeirDriverHarness", swiftSettings: strict),
        tests("WeirDriverTests", of: ["WeirDriverHarness", "WeirUring", "WeirEpoll", "WeirSockets", "WeirIO", "WeirNet", "WeirMemory", "CWeir"]),
        tests("WeirUringTests", of: ["WeirDriverHarness", "WeirUring", "WeirSockets", "WeirIO", "WeirNet", "WeirMemory", "CWeir"]),
        tests(
            "WeirHealthTests",
            of: [
                "WeirHealth", "Weir", "WeirDriverHarness", "WeirTesting", "WeirUring", "WeirEpoll", "WeirSockets", "WeirIO",
                "WeirUpstream", "WeirRouting", "WeirModel", "WeirWire", "WeirNet", "WeirMemory",
            ]),
        tests("WeirCommandTests", of: ["WeirCommand", "Weir", "WeirModel", "WeirNet"]),
        tests(
            "WeirSimulationTests",
            of: ["WeirTesting", "WeirEngine", "WeirSession", "WeirIO", "WeirModel", "WeirNet", "WeirRouting", "WeirMemory", "WeirTelemetry", "WeirUpstream", "WeirWire"]),
        tests(
            "WeirIntegrationTests",
            of: [
                "Weir", "WeirTesting", "WeirModel", "WeirNet", "WeirWire", "WeirMemory", "WeirSockets",
                "WeirTelemetry", "WeirUpstream", "CWeir",
            ]),
    ] + fuzzers
)
