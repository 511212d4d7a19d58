//! The crate against decoders that nobody here wrote, and against files that nobody wants.

mod decode {
    pub(crate) mod support;

    mod bad_input;
    mod corpus;
    mod shapes;
}
