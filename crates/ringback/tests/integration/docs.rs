//! The documents: both languages say the same, what they show works, and links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringback_testkit::ServerBuilder;
use serde_json::json;

use crate::operation::metrics;
use crate::{BINARY, ringback};

/// The repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A part of a page, from a heading to the next.
#[derive(Default)]
struct Section {
    /// The level of the heading.
    level: usize,
    /// What is shown in blocks.
    blocks: Vec<String>,
    /// What is written beside them.
    text: String,
    /// How many rows of tables and entries of lists there are.
    rows: usize,
}

impl Section {
    /// What is written as code within text.
    fn code(&self) -> BTreeSet<String> {
        let code = self.text.split('`').skip(1).step_by(2);
        code.map(|code| code.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }
}

/// A page in parts, and the anchors of its headings.
fn read(path: &Path) -> (Vec<Section>, Vec<String>) {
    let text = fs::read_to_string(path).unwrap();
    let (mut sections, mut anchors) = (vec![Section::default()], Vec::new());
    let mut block: Option<String> = None;
    for line in text.lines() {
        let last = sections.last_mut().unwrap();
        if line.trim_start().starts_with("```") {
            match block.take() {
                None => block = Some(format!("{}\n", line.trim())),
                Some(shown) => last.blocks.push(shown),
            }
        } else if let Some(shown) = &mut block {
            shown.push_str(line);
            shown.push('\n');
        } else if line.starts_with('#') {
            let level = line.bytes().take_while(|byte| *byte == b'#').count();
            anchors.push(anchor(line[level..].trim()));
            sections.push(Section {
                level,
                ..Section::default()
            });
        } else {
            let is_row = ["| ", "- ", "* "]
                .iter()
                .any(|start| line.starts_with(start));
            last.rows += usize::from(is_row);
            last.text.push_str(line);
            last.text.push('\n');
        }
    }
    assert!(block.is_none(), "{path:?}: a block is not closed");
    (sections, anchors)
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let letters = heading.to_lowercase();
    letters
        .chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

/// Every page below a folder, by its path from there.
fn pages(folder: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), path);
            }
        }
    }
    found
}

/// A folder of the documents.
fn folder(name: &str) -> PathBuf {
    Path::new(ROOT).join("docs").join(name)
}

#[test]
fn both_languages_have_the_same_pages_headings_blocks_and_words_of_code() {
    let (english, portuguese) = (pages(&folder("en")), pages(&folder("pt-br")));
    let names = |pages: &BTreeMap<PathBuf, PathBuf>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&english), names(&portuguese));
    let mut differences = Vec::new();
    for (name, path) in &english {
        let (ours, _) = read(path);
        let (theirs, _) = read(&portuguese[name]);
        let levels = |sections: &[Section]| -> Vec<usize> {
            sections.iter().map(|section| section.level).collect()
        };
        if levels(&ours) != levels(&theirs) {
            differences.push(format!("{}: other headings", name.display()));
            continue;
        }
        for (number, (our, their)) in ours.iter().zip(&theirs).enumerate() {
            let (our_code, their_code) = (our.code(), their.code());
            let (our_rows, their_rows) = (our.rows, their.rows);
            let blocks = our.blocks == their.blocks;
            if our_code != their_code || our_rows != their_rows || !blocks {
                let only_ours: Vec<_> = our_code.difference(&their_code).collect();
                let only_theirs: Vec<_> = their_code.difference(&our_code).collect();
                differences.push(format!(
                    "{}, part {number}: code {only_ours:?}, {only_theirs:?}; rows {our_rows}, {their_rows}; same blocks: {blocks}",
                    name.display()
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn links_of_documents_lead_to_files_and_headings() {
    let root = Path::new(ROOT);
    let mut pages: Vec<PathBuf> = pages(&root.join("docs")).into_values().collect();
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "benches/README.md",
        "crates/ringback/CHANGELOG.md",
    ] {
        pages.push(root.join(name));
    }
    let mut broken = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for link in text.split("](").skip(1) {
            let (link, _) = link.split_once(')').unwrap();
            if link.contains("://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            let leads = target.exists()
                && (heading.is_empty() || read(&target).1.iter().any(|anchor| anchor == heading));
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Every block of the English pages in one of these languages; those in Portuguese are the same.
fn blocks(language: &str) -> Vec<(String, String)> {
    let start = format!("```{language}\n");
    let mut found = Vec::new();
    for (name, path) in pages(&folder("en")) {
        for section in read(&path).0 {
            let shown = section.blocks.into_iter();
            found.extend(shown.filter_map(|block| {
                let text = block.strip_prefix(&start)?.to_owned();
                Some((name.display().to_string(), text))
            }));
        }
    }
    found
}

#[test]
fn configurations_that_are_shown_have_no_fault_but_files_that_are_not_here() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("ringback.toml");
    let shown = blocks("toml");
    assert!(shown.len() >= 8, "{}", shown.len());
    for (page, text) in shown {
        fs::write(&path, &text).unwrap();
        let output = ringback(&["check-config", path.to_str().unwrap()]);
        let is_absent =
            |line: &&str| line.contains("No such file") || line.starts_with("ringback: warning: ");
        let faults: Vec<&str> = output
            .stderr
            .lines()
            .filter(|line| !is_absent(line))
            .collect();
        assert!(faults.is_empty(), "{page}: {faults:?}\n{text}");
    }
}

#[test]
fn commands_that_are_shown_do_what_they_say() {
    let server = ServerBuilder::new(BINARY).start();
    let environment = server.environment(json!({ "name": "acme", "default_country": "US" }));
    let scratch = tempfile::tempdir().unwrap();
    let folder = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(folder("backup")).unwrap();
    let data = server.data_dir().to_str().unwrap();
    let programs = Path::new(BINARY).parent().unwrap().to_str().unwrap();
    let shown = blocks("sh");
    assert!(shown.len() >= 5, "{}", shown.len());
    for (number, (page, text)) in shown.iter().enumerate() {
        let restored = folder(&format!("restored-{number}"));
        let text = text
            .replace(
                "--data-dir /var/lib/ringback",
                &format!("--data-dir {restored}"),
            )
            .replace("/var/lib/ringback", data)
            .replace("/backup/ringback-3.backup", "/backup/ringback.backup")
            .replace("/backup/", &format!("{}/", folder("backup")))
            .replace("/tmp/try", &folder(&format!("try-{number}")))
            .replace("curl ", "curl --fail-with-body --silent --show-error ");
        // Backups and erasures are the administrator's, all else is an environment's.
        let token = if text.contains("erasures") || text.contains("restore") {
            server.admin_token()
        } else {
            environment.token().to_owned()
        };
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &text])
            .current_dir(scratch.path())
            .env(
                "PATH",
                format!("{programs}:{}", std::env::var("PATH").unwrap()),
            )
            .env("RINGBACK_URL", server.url())
            .env("RINGBACK_TOKEN", token)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{page}: {said}\n{text}");
    }
}

#[test]
fn every_metric_of_a_server_is_documented_with_its_type() {
    let page = metrics(&ServerBuilder::new(BINARY).start());
    let families: BTreeSet<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let text = fs::read_to_string(folder("en").join("operations/monitoring.md")).unwrap();
    let (_, table) = text.split_once("| metric | type | labels |").unwrap();
    let documented: BTreeSet<(&str, &str)> = table
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let name = cells.next()?.trim_matches('`');
            let is_metric = name.starts_with("ringback_") || name.starts_with("process_");
            Some((name, cells.next()?)).filter(|_| is_metric)
        })
        .collect();
    let missing: Vec<_> = families.difference(&documented).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    let when_configured = ["_certificate_", "_cluster_", "_outbox_", "_otel_"];
    let gone: Vec<_> = documented
        .difference(&families)
        .filter(|(name, _)| !when_configured.iter().any(|part| name.contains(part)))
        .collect();
    assert!(gone.is_empty(), "no longer there: {gone:?}");
}
