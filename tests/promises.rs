//! What `docs/THREATS.md` and the pages beside it name as their proof is there.
//!
//! A line of the mapping names tests (`a_share_counts_once`), files (`.ci/release`) and steps of CI
//! (`.ci/run deny`). One that names nothing, or what has been renamed since, is a promise that nobody keeps.

use std::{collections::BTreeSet, fs};

use crate::source::{files, root};

/// Where a file may lie that the text names by its name alone.
const FOLDERS: &[&str] = &["", "tests", "tests/interop", "src", "docs"];

#[test]
fn each_line_of_the_mapping_names_what_shows_it() {
    let text = page("docs/THREATS.md");
    let rows = rows(text.split_once("\n## Against the lists\n").unwrap().1);
    assert!(rows.len() > 35, "the mapping is not found: {} lines", rows.len());
    let there = There::look();
    let faults: Vec<String> = rows
        .iter()
        .flat_map(|cells| {
            let line = &cells[0];
            let proofs = quoted(cells.last().unwrap());
            let nothing = proofs.is_empty().then(|| format!("{line}: no proof is named"));
            let missing = proofs.into_iter().filter(|proof| !there.has(proof));
            let missing = missing.map(|proof| format!("{line}: {proof} is not there"));
            nothing.into_iter().chain(missing).collect::<Vec<_>>()
        })
        .collect();
    assert!(faults.is_empty(), "docs/THREATS.md:\n{}", faults.join("\n"));
}

#[test]
fn each_promise_names_what_shows_it() {
    let text = page("docs/THREATS.md");
    let section = text.split_once("\n## What is promised\n").unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let there = There::look();
    let mut promises: Vec<String> = Vec::new();
    for line in section.lines() {
        match promises.last_mut() {
            Some(last) if !line.starts_with(|first: char| first.is_ascii_digit()) => {
                last.extend([line.trim(), " "]);
            }
            _ => promises.push(line.to_owned() + " "),
        }
    }
    promises.retain(|promise| !promise.trim().is_empty());
    assert!(promises.len() >= 20, "{promises:?}");
    for promise in promises {
        assert!(
            quoted(&promise).iter().any(|proof| there.has(proof)),
            "no proof is named: {promise}"
        );
    }
}

#[test]
fn files_that_the_pages_on_security_name_are_there() {
    let there = There::look();
    let mut named = 0;
    for name in ["docs/THREATS.md", "docs/SECURITY-TESTING.md", "docs/DEPENDENCIES.md"] {
        let text = page(name);
        for proof in quoted(&text) {
            if proof.ends_with(".rs") || proof.ends_with(".py") || proof.starts_with("just ") {
                named += 1;
                assert!(there.has(&proof), "{name} names {proof}, which is not there");
            }
        }
    }
    assert!(named > 20, "{named} names only are found");
}

#[test]
fn what_is_not_there_is_missed() {
    let there = There::look();
    for proof in [
        "what_is_not_there_is_missed",
        "a_foreign_share_discards_all",
        "documents.rs",
        "kill_loop.py",
        "fuzz/fuzz_targets/json.rs",
        "tests/forged/",
        ".ci/run deny",
        "just kill-loop 1000",
    ] {
        assert!(there.has(proof), "{proof} is there");
    }
    for proof in [
        "what_was_never_written",
        // A function, and no test.
        "rows",
        "nowhere.rs",
        "nowhere/",
        ".ci/run nothing",
        "just nothing",
        "tests",
        "",
    ] {
        assert!(!there.has(proof), "{proof} is not there");
    }
    let text = "| a | b |\n|---|---|\n| c | `d` |\n\nno | row\n| e | f |";
    let found: Vec<_> = rows(text).into_iter().map(|cells| cells.join("-")).collect();
    assert_eq!(found, ["c-`d`"]);
}

/// What can be named.
struct There {
    tests: BTreeSet<String>,
    steps: BTreeSet<String>,
    recipes: BTreeSet<String>,
}

impl There {
    fn look() -> Self {
        let rust = ["src", "cli/src", "tests"].into_iter().flat_map(files);
        let mut tests: BTreeSet<String> = rust.flat_map(|file| tests_of_rust(&file.text)).collect();
        for entry in fs::read_dir(root().join("tests/interop")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "py") {
                tests.extend(functions_of_python(&fs::read_to_string(path).unwrap()));
            }
        }
        let steps = page(".ci/run");
        let steps =
            steps.lines().filter_map(|line| line.strip_prefix("step_")?.strip_suffix("() {"));
        let recipes = page("justfile");
        let recipes = recipes
            .lines()
            .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
        Self {
            tests,
            steps: steps.map(str::to_owned).collect(),
            recipes: recipes
                .map(|line| line.split([' ', ':']).next().unwrap().to_owned())
                .collect(),
        }
    }

    fn has(&self, proof: &str) -> bool {
        if let Some(step) = proof.strip_prefix(".ci/run ") {
            return self.steps.contains(step);
        }
        if let Some(recipe) = proof.strip_prefix("just ") {
            return self.recipes.contains(recipe.split(' ').next().unwrap());
        }
        let places = || FOLDERS.iter().map(|folder| root().join(folder).join(proof));
        match proof.strip_suffix('/') {
            Some(_) => places().any(|place| place.is_dir()),
            None if proof.contains('.') => places().any(|place| place.is_file()),
            None => self.tests.contains(proof),
        }
    }
}

/// Functions with an attribute `#[test]`, or one that ends so.
fn tests_of_rust(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        let signature = line.trim_start_matches("pub ").trim_start_matches("async ");
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(name) = signature.strip_prefix("fn ") {
            if is_test {
                found.push(name.split(['(', '<']).next().unwrap().to_owned());
            }
            is_test = false;
        }
    }
    found
}

/// Those at the left edge, which the programs of `tests/interop/` call one after another.
fn functions_of_python(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| line.strip_prefix("def ")?.split('(').next());
    names.map(str::to_owned).collect()
}

/// The lines of all tables below their heads, in cells.
fn rows(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut is_below_head = false;
    for line in text.lines() {
        if !line.starts_with('|') {
            is_below_head = false;
        } else if line.starts_with("|---") {
            is_below_head = true;
        } else if is_below_head {
            let cells = line.trim_matches('|').split('|');
            found.push(cells.map(|cell| cell.trim().to_owned()).collect());
        }
    }
    found
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}
