//! What is in `web/` and `vendor/`.

/// A source: its path in the crate, and its text.
pub(crate) type Source = (&'static str, &'static str);

/// Embeds files by their paths in the crate.
macro_rules! embed {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../", $path)))),*]
    };
}

/// Every source, the page first.
pub(crate) const SOURCES: [Source; 24] = embed![
    "web/index.html",
    "web/app.js",
    "web/audit.js",
    "web/contact.js",
    "web/en.js",
    "web/explain.js",
    "web/find.js",
    "web/icon.svg",
    "web/import.js",
    "web/live.js",
    "web/manage.js",
    "web/map.js",
    "web/node.js",
    "web/problems.js",
    "web/pt-BR.js",
    "web/state.js",
    "web/statistics.js",
    "web/style.css",
    "web/ui.js",
    "vendor/htm.js",
    "vendor/preact-hooks.js",
    "vendor/preact.js",
    "vendor/signals-core.js",
    "vendor/signals.js",
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_both_folders_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = 0;
        for folder in ["web", "vendor"] {
            for entry in fs::read_dir(root.join(folder)).unwrap() {
                let path = format!("{folder}/{}", entry.unwrap().file_name().display());
                let is_text = Path::new(&path).extension().is_some_and(|extension| {
                    ["js", "css", "svg", "html"]
                        .iter()
                        .any(|known| *known == extension)
                });
                if is_text {
                    assert!(SOURCES.iter().any(|(source, _)| *source == path), "{path}");
                    found += 1;
                }
            }
        }
        assert_eq!(found, SOURCES.len());
    }
}
