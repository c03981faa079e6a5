/// A step in making a driver that the kernel refused; `code` is an errno.
package struct DriverSetupFailure: Error, Sendable {
    package let step: String
    package let code: Int32

    package init(step: String, code: Int32) {
        self.step = step
        self.code = code
    }
}
