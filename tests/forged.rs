//! What must not compile: forging a permit or an answer, printing a secret.
//!
//! The compiler's words are pinned, so that a case fails for its own reason and no other. They
//! change with the compiler; they are compared on the version they were pinned with.

use std::process::Command;

/// The compiler whose messages lie beside the cases.
const PINNED: &str = "rustc 1.95.";

#[test]
fn forgeries_do_not_compile() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    if !version.starts_with(PINNED) {
        println!("skipped: the messages are those of {PINNED}x, this is {version}");
        return;
    }
    let cases = trybuild::TestCases::new();
    cases.compile_fail("../tests/forged/*.rs");
}
