//! Files that nobody wants.
