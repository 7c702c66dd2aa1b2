//! `cargo xtask`: the one entry for chores.
fn main() {}
