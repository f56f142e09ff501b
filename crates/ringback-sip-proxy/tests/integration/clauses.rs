//! The page that says which test holds which clause.

use std::fs;
use std::path::Path;

/// Adds the text of all Rust files in a folder and below.
fn add_sources(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            add_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *sources += &fs::read_to_string(path).unwrap();
        }
    }
}

#[test]
fn the_clauses_name_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/design/forwarding-clauses.md")).unwrap();
    let mut sources = String::new();
    for folder in [
        "ringback-sip-proxy",
        "ringback-sip-server/tests",
        "ringback/tests",
    ] {
        add_sources(&root.join("crates").join(folder), &mut sources);
    }
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let names = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    let mut count = 0;
    for name in names.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        let is_test = sources.contains(&format!("fn {name}("));
        // The flows of sipp are made by a macro.
        let is_flow = sources.contains(&format!("    {name}: \"caller_"));
        assert!(is_test || is_flow, "{name}");
        count += 1;
    }
    assert!(count > 80, "{count}");
}
