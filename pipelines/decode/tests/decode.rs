//! The crate against decoders that nobody here wrote, and against files that nobody wants.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say on stderr what they skip"
)]

mod decode {
    pub(crate) mod support;

    mod bad_input;
    mod bytes;
    mod conformance;
    mod corpus;
    mod fields;
    mod mutations;
    mod recipes;
    mod shapes;
    mod threads;
}
