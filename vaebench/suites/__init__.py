"""The suites: one module each, with `Options` and `build(config) -> vaebench.suite.Suite`."""
