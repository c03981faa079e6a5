import FuzzHarness

/// Each has a file of its own.
private let targets: [any FuzzTarget.Type] = [
    ClientHelloTarget.self, ClientHelloOpenSSLTarget.self, ProxyHeaderTarget.self, HTTPHeadTarget.self,
    HTTPStatusTarget.self, ServerHelloTarget.self, ConfigNativeTarget.self, ConfigNginxTarget.self,
    ConfigManifestsTarget.self, ConfigFilesTarget.self,
]

@_cdecl("LLVMFuzzerInitialize")
public func fuzzerInitialize(_: UnsafeMutablePointer<CInt>?, _: UnsafeMutableRawPointer?) -> CInt {
    FuzzRun.begin(targets)
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzerTestOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt { unsafe FuzzRun.test(data, size) }

@_cdecl("LLVMFuzzerCustomMutator")
public func fuzzerCustomMutator(
    _ data: UnsafeMutablePointer<UInt8>, _ size: Int, _ capacity: Int, _ seed: UInt32
) -> Int { unsafe FuzzRun.mutate(data, size, capacity, seed) }
