use std::{env, fs, path::Path};

/// Holds a text against what `tests/snapshots` has under this name. A change that is meant is written
/// there by `KISTA_UPDATE=1 cargo test -p kista-cli --test kista`, and then read.
pub(crate) fn snapshot(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/snapshots");
    let file = folder.join(format!("{name}.txt"));
    if env::var_os("KISTA_UPDATE").is_some() {
        fs::create_dir_all(&folder).unwrap();
        fs::write(&file, text).unwrap();
        return;
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    let differs = kept.lines().zip(text.lines()).position(|(kept, new)| kept != new);
    let first = differs.unwrap_or_else(|| kept.lines().count().min(text.lines().count()));
    let around = |text: &str| {
        let lines = text.lines().skip(first.saturating_sub(3)).take(8);
        lines.collect::<Vec<_>>().join("\n  ")
    };
    assert!(
        kept == text,
        "{} differs from line {} on (KISTA_UPDATE=1 writes it anew)\nit was:\n  {}\nit is:\n  {}",
        file.display(),
        first + 1,
        around(&kept),
        around(text)
    );
}
