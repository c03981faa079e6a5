// swift-tools-version: 6.2
import PackageDescription

// The harness that measures Weir and its peers. `Engine` is a link to ../Sources: the generator drives the engine's own
// ring, whose names are the engine's package's alone, so this package builds the few modules it needs as its own.
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

let package = Package(
    name: "weir-benchmarks",
    products: [.executable(name: "weir-load", targets: ["Load"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        .target(name: "CWeir", path: "Engine/CWeir", linkerSettings: [.linkedLibrary("uring")]),
        module("WeirNet"),
        module("WeirMemory", uses: ["CWeir"]),
        module("WeirIO", uses: ["WeirNet", "WeirMemory"]),
        module("WeirSockets", uses: ["CWeir", "WeirNet", "WeirMemory", "WeirIO"]),
        module("WeirUring", uses: ["CWeir", "WeirNet", "WeirMemory", "WeirIO", "WeirSockets"]),
        .executableTarget(
            name: "Load",
            dependencies: [
                "CWeir", "WeirUring", "WeirSockets", "WeirNet", "WeirMemory",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            path: "Load", swiftSettings: strict),
    ]
)
