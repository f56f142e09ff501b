//! Makes what is sent of the sources: files named by their content, with these names in their imports.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::File;
use crate::sources::Source;

/// Everything that is served.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The page.
    pub(crate) page: File,
    /// The files that it loads.
    pub(crate) files: Vec<File>,
}

/// The sources, and what has been made of them so far.
struct Bundler<'s> {
    /// The sources.
    sources: &'s [Source],
    /// Each source that was begun, with its name once it has one.
    named: Vec<(&'s str, Option<String>)>,
    /// The files made so far, each behind those that it imports.
    files: Vec<File>,
}

impl Bundle {
    /// Makes the files. The first source is the page.
    pub(crate) fn of(sources: &[Source]) -> Self {
        let mut bundler = Bundler {
            sources,
            named: Vec::new(),
            files: Vec::new(),
        };
        for (path, _) in sources.iter().skip(1) {
            bundler.name_of(path);
        }
        let page = sources.first().map_or("", |(_, text)| *text);
        let page = bundler.page(page);
        Self {
            page: file(String::new(), "text/html; charset=utf-8", page),
            files: bundler.files,
        }
    }
}

impl Bundler<'_> {
    /// The name of the file made of a source; `None`: there is no such source, or it imports itself by way of others.
    fn name_of(&mut self, path: &str) -> Option<String> {
        if let Some((_, name)) = self.named.iter().find(|(named, _)| *named == path) {
            return name.clone();
        }
        let (path, text) = *self.sources.iter().find(|(source, _)| *source == path)?;
        self.named.push((path, None));
        let (stem, extension) = path.rsplit_once('/')?.1.rsplit_once('.')?;
        let (content_type, text) = match extension {
            "js" => (
                "text/javascript; charset=utf-8",
                self.linked(path, &stripped_script(path, text)),
            ),
            "css" => ("text/css; charset=utf-8", stripped_style(text)),
            _ => ("image/svg+xml", text.to_owned()),
        };
        let name = format!("{stem}.{}.{extension}", hash(&text, 10));
        self.files.push(file(name.clone(), content_type, text));
        let (_, entry) = self.named.iter_mut().find(|(named, _)| *named == path)?;
        *entry = Some(name.clone());
        Some(name)
    }

    /// The page, with the names of what it loads. Everything that its script needs is asked for at once.
    fn page(&mut self, text: &str) -> String {
        let mut page = String::new();
        for (index, piece) in text.split('"').enumerate() {
            if index > 0 {
                page.push('"');
            }
            match self.name_of(&format!("web/{piece}")) {
                Some(name) => page.extend([FILES, &name]),
                None => page.push_str(piece),
            }
        }
        let scripts = self.files.iter().map(|file| &file.name);
        let preloads = scripts
            .filter(|name| name.ends_with(".js") && self.is_needed(name))
            .fold(String::new(), |mut links, name| {
                // Writing to a string cannot fail.
                let _infallible =
                    writeln!(links, "<link rel=\"modulepreload\" href=\"{FILES}{name}\">");
                links
            });
        page.replace("<!-- preloads -->\n", &preloads)
    }

    /// Whether the first view cannot be shown without this script.
    fn is_needed(&self, name: &str) -> bool {
        let main = self.named.iter().find(|(path, _)| *path == MAIN);
        let Some((_, Some(main))) = main else {
            return false;
        };
        let mut needed = vec![main.as_str()];
        let mut seen = 0;
        while let Some(next) = needed.get(seen) {
            seen += 1;
            let Some(file) = self.files.iter().find(|file| file.name == *next) else {
                continue;
            };
            for specifier in static_specifiers(&file.plain) {
                let imported = &file.plain[specifier];
                let imported = imported.strip_prefix("./").unwrap_or(imported);
                if !needed.contains(&imported) {
                    needed.push(imported);
                }
            }
        }
        name != main && needed.contains(&name)
    }

    /// A script with the names of files in its imports.
    fn linked(&mut self, path: &str, text: &str) -> String {
        let folder = path.split_once('/').map_or("", |(folder, _)| folder);
        let mut linked = String::new();
        let mut done = 0;
        for specifier in specifiers(text) {
            let written = &text[specifier.clone()];
            let library = LIBRARIES.iter().find(|(name, _)| *name == written);
            let target = match (library, written.strip_prefix("./")) {
                (Some((_, path)), _) => Some((*path).to_owned()),
                (None, Some(name)) => Some(format!("{folder}/{name}")),
                (None, None) => None,
            };
            if let Some(name) = target.and_then(|target| self.name_of(&target)) {
                linked.extend([&text[done..specifier.start], "./", &name]);
                done = specifier.end;
            }
        }
        linked.push_str(&text[done..]);
        linked
    }
}

/// Where the specifiers of imports and exports stand in a script: `import "x"`, `from "x"`, `import("x")`.
pub(crate) fn specifiers(text: &str) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = static_specifiers(text)
        .chain(
            specifiers_behind(text, "import(")
                .filter(|range| text[range.end + 1..].starts_with(')')),
        )
        .collect();
    all.sort_by_key(|range| range.start);
    all
}

/// The same without those that are loaded only when they are needed.
fn static_specifiers(text: &str) -> impl Iterator<Item = Range<usize>> {
    specifiers_behind(text, "from").chain(specifiers_behind(text, "import"))
}

/// Where the texts in quotes stand that follow a word.
fn specifiers_behind<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
    text.match_indices(word).filter_map(move |(at, _)| {
        let is_more = |byte: &u8| byte.is_ascii_alphanumeric() || b"_$.\"'`".contains(byte);
        if text.as_bytes()[..at].last().is_some_and(is_more) {
            return None;
        }
        let rest = text[at + word.len()..].trim_start();
        let quote = rest
            .chars()
            .next()
            .filter(|first| matches!(first, '"' | '\''))?;
        let start = text.len() - rest.len() + 1;
        let length = text[start..].find(quote)?;
        Some(start..start + length).filter(|range| !text[range.clone()].contains('\n'))
    })
}

/// A script without what is for its readers: comments on lines of their own, and indentation.
fn stripped_script(path: &str, text: &str) -> String {
    let is_ours = path.starts_with("web/");
    ended(text.lines().filter_map(|line| {
        let kept = if is_ours { line.trim_start() } else { line };
        let is_comment = is_ours && kept.starts_with("//");
        let kept = kept.split_once(SOURCE_MAP).map_or(kept, |(code, _)| code);
        (!is_comment).then_some(kept)
    }))
}

/// A style sheet without comments and indentation.
fn stripped_style(text: &str) -> String {
    let mut style = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("/*") {
        style.push_str(before);
        rest = behind.split_once("*/").map_or("", |(_, after)| after);
    }
    style.push_str(rest);
    ended(style.lines().map(str::trim_start))
}

/// The lines that are not empty, each with its end.
fn ended<'t>(lines: impl Iterator<Item = &'t str>) -> String {
    lines
        .filter(|line| !line.is_empty())
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// A file with this content.
fn file(name: String, content_type: &'static str, plain: String) -> File {
    File {
        name,
        content_type,
        etag: format!("\"{}\"", hash(&plain, 20)),
        plain,
        gzip: OnceLock::new(),
        brotli: OnceLock::new(),
    }
}

/// The first hexadecimal digits of a hash of a text.
fn hash(text: &str, digits: usize) -> String {
    let mut hash = format!("{:x}", Sha256::digest(text));
    hash.truncate(digits);
    hash
}

/// Where the files are served.
const FILES: &str = "/console/files/";

/// The script that the page starts with.
const MAIN: &str = "web/app.js";

/// What stands before the address of a source map, which is not served.
const SOURCE_MAP: &str = "//# sourceMappingURL=";

/// The sources of libraries, by the names under which they are imported.
const LIBRARIES: [(&str, &str); 5] = [
    ("preact", "vendor/preact.js"),
    ("preact/hooks", "vendor/preact-hooks.js"),
    ("@preact/signals-core", "vendor/signals-core.js"),
    ("@preact/signals", "vendor/signals.js"),
    ("htm", "vendor/htm.js"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_name_files_by_content_and_come_before_who_imports_them() {
        let sources: [Source; 5] = [
            (
                "web/index.html",
                "<link href=\"style.css\">\n<!-- preloads -->\n<script src=\"app.js\"></script>\n",
            ),
            (
                "web/app.js",
                "// For readers.\nimport {a} from './part.js';\n  import(\"./late.js\");\n",
            ),
            (
                "web/part.js",
                "import\"preact\";export const a = x.from(\"./late.js\");\n",
            ),
            ("web/late.js", "1;\n//# sourceMappingURL=late.js.map\n"),
            (
                "vendor/preact.js",
                "  2;//# sourceMappingURL=preact.mjs.map",
            ),
        ];
        let bundle = Bundle::of(&sources);
        let text = |stem: &str| {
            let file = bundle
                .files
                .iter()
                .find(|file| file.name.starts_with(stem))
                .unwrap();
            (file.name.clone(), file.plain.clone())
        };
        let (preact, library) = text("preact.");
        assert_eq!(library, "  2;\n");
        let (late, _) = text("late.");
        let (part, code) = text("part.");
        assert_eq!(
            code,
            format!("import\"./{preact}\";export const a = x.from(\"./late.js\");\n")
        );
        let (app, code) = text("app.");
        assert_eq!(
            code,
            format!("import {{a}} from './{part}';\nimport(\"./{late}\");\n")
        );
        // The style sheet is none of the sources, so its name stays.
        assert_eq!(
            bundle.page.plain,
            format!(
                "<link href=\"style.css\">\n\
                 <link rel=\"modulepreload\" href=\"{FILES}{preact}\">\n\
                 <link rel=\"modulepreload\" href=\"{FILES}{part}\">\n\
                 <script src=\"{FILES}{app}\"></script>\n"
            )
        );
    }

    #[test]
    fn style_sheets_lose_their_comments() {
        assert_eq!(
            stripped_style("a {\n  /* b\n c */ d: e;\n}\n/* f"),
            "a {\nd: e;\n}\n"
        );
    }
}
