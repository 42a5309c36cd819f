//! The programs of `docs/examples`, which CI runs, are what `docs/APPS.md` shows.

use std::fs;

use crate::source::root;

#[test]
fn the_page_shows_the_files_word_for_word() {
    let folder = root().join("docs/examples");
    let page = fs::read_to_string(root().join("docs/APPS.md")).unwrap();
    let mut shown: Vec<&str> = blocks(&page);
    for (name, language) in
        [("service.rs", "rust"), ("app.py", "python"), ("app.js", "js"), ("app.sh", "sh")]
    {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let block = format!("{language}\n{text}");
        let place = shown.iter().position(|shown| *shown == block);
        shown.remove(place.unwrap_or_else(|| panic!("docs/APPS.md does not show {name}")));
    }
    // What is left is commands, and no program that nothing runs.
    assert!(shown.iter().all(|block| block.starts_with('\n')), "{shown:?}");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 4, "a program that the page does not show");
}

/// What stands between fences, with what the fence says of it.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```").skip(1).step_by(2).collect()
}
