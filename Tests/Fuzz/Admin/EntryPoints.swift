import FuzzHarness

#if Command
    private let targets: [any FuzzTarget.Type] = [AdminHTTPTarget.self]
#else
    // SwiftNIO is not there.
    private let targets: [any FuzzTarget.Type] = []
#endif

@_cdecl("LLVMFuzzerInitialize")
public func fuzzerInitialize(_: UnsafeMutablePointer<CInt>?, _: UnsafeMutableRawPointer?) -> CInt {
    FuzzRun.begin(targets)
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzerTestOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt { unsafe FuzzRun.test(data, size) }
