// swift-tools-version: 6.2
import PackageDescription

// What measures Weir: Load, the generator of the harness that compares it with its peers, and Micro, which runs parts of
// the engine one by one. `Engine` is a link to ../Sources: both use names that are the engine's package's alone, so this
// package builds the modules they need as its own.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("ExistentialAny"),
]

func module(_ name: String, uses: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: uses, path: "Engine/\(name)", swiftSettings: strict)
}

// Built only by tools/bench-micro, which asks for it. SwiftPM builds the tools of every plugin in use, whatever product
// is wanted, and Load needs neither those nor the package they come from.
let buildsMicro = Context.environment["WEIR_MICRO"] != nil
let benchmark: [Package.Dependency] = [
    // Without its traits, each of which brings a library that replaces malloc(3) or calls of the Swift runtime: its own
    // counts of allocations are 0 then and say nothing. CAllocationCounter counts.
    .package(url: "https://github.com/ordo-one/benchmark", exact: "1.38.1", traits: [])
]
let micro: [Target] = [
    .target(name: "CAllocationCounter", path: "Engine/CAllocationCounter"),
    .systemLibrary(name: "CYAML", path: "Engine/CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
    module("WeirConfig", uses: ["CYAML", "CWeir", "WeirNet", "WeirModel"]),
    .executableTarget(
        name: "Micro",
        dependencies: [
            "CAllocationCounter", "WeirNet", "WeirMemory", "WeirWire", "WeirModel", "WeirRouting", "WeirUpstream",
            "WeirSession", "WeirTelemetry", "WeirEngine", "WeirConfig",
            .product(name: "Benchmark", package: "benchmark"),
        ],
        path: "Micro",
        // A captured hello: a link to where the fuzzers and tests have it.
        resources: [.embedInCode("chromium.bin")],
        swiftSettings: strict,
        plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
]

let package = Package(
    name: "weir-benchmarks",
    products: [.executable(name: "weir-load", targets: ["Load"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ] + (buildsMicro ? benchmark : []),
    targets: [
        .target(name: "CWeir", path: "Engine/CWeir", linkerSettings: [.linkedLibrary("uring")]),
        module("WeirNet"),
        module("WeirWire", uses: ["WeirNet"]),
        module("WeirModel", uses: ["WeirNet"]),
        module("WeirMemory", uses: ["CWeir"]),
        module("WeirRouting", uses: ["WeirNet", "WeirMemory", "WeirModel"]),
        module("WeirUpstream", uses: ["WeirNet", "WeirMemory", "WeirModel", "WeirRouting"]),
        module("WeirSession", uses: ["WeirNet", "WeirWire"]),
        module("WeirIO", uses: ["WeirNet", "WeirMemory"]),
        module("WeirSockets", uses: ["CWeir", "WeirNet", "WeirMemory", "WeirIO"]),
        module("WeirUring", uses: ["CWeir", "WeirNet", "WeirMemory", "WeirIO", "WeirSockets"]),
        module("WeirTelemetry", uses: ["WeirNet", "WeirMemory"]),
        module(
            "WeirEngine",
            uses: [
                "WeirNet", "WeirMemory", "WeirWire", "WeirModel", "WeirRouting", "WeirUpstream", "WeirSession",
                "WeirIO", "WeirTelemetry",
            ]),
        .executableTarget(
            name: "Load",
            dependencies: [
                "CWeir", "WeirUring", "WeirSockets", "WeirNet", "WeirMemory",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            path: "Load", swiftSettings: strict),
    ] + (buildsMicro ? micro : [])
)
