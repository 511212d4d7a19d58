//! reelsight: the one binary.
fn main() {}
