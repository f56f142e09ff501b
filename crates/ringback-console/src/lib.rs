//! The web console of Ringback, as files in the program: `ringback-admin` serves them.
//!
//! `web/` has the sources (plain ES modules), `vendor/` the libraries, with version, licence and checksum in
//! its README. `bundle.mjs` (node alone, no packages) writes `dist/` and `src/files.rs` from both: it names each file by
//! its hash, puts these names into the imports, and compresses. What it writes is committed, so that Cargo builds
//! without node; `bundle.mjs --check` tells whether it is up to date.

mod files;

/// A file of the console.
#[derive(Debug)]
pub struct File {
    /// Its name below `/console/files/`, with a hash of its content.
    pub name: &'static str,
    /// The media type.
    pub content_type: &'static str,
    /// The entity tag, quotes included: it is the same for every encoding, since clients that revalidate ask for
    /// the same one again.
    pub etag: &'static str,
    /// The content, uncompressed.
    plain: &'static [u8],
    /// The content, by gzip.
    gzip: &'static [u8],
    /// The content, by brotli.
    brotli: &'static [u8],
}

/// How a file travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// Compressed by gzip (RFC 1952).
    Gzip,
    /// Compressed by brotli (RFC 7932).
    Brotli,
}

impl File {
    /// The content in an encoding.
    #[must_use]
    pub const fn bytes(&self, encoding: Encoding) -> &'static [u8] {
        match encoding {
            Encoding::Identity => self.plain,
            Encoding::Gzip => self.gzip,
            Encoding::Brotli => self.brotli,
        }
    }
}

impl Encoding {
    /// The name in `Content-Encoding`; none for a file as it is.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
        }
    }
}

/// The page: the same for every view.
#[must_use]
pub const fn page() -> &'static File {
    &files::PAGE
}

/// The file with this name below `/console/files/`.
#[must_use]
pub fn file(name: &str) -> Option<&'static File> {
    files::FILES.iter().find(|file| file.name == name)
}

/// The views, each at a path of its own below `/console/`.
pub const VIEWS: [&str; 8] = [
    "find",
    "explain",
    "problems",
    "map",
    "manage",
    "contact",
    "statistics",
    "node",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_together_keep_to_the_budget() {
        let files = files::FILES.iter().chain([&files::PAGE]);
        let bytes: usize = files.map(|file| file.bytes(Encoding::Brotli).len()).sum();
        assert!(bytes <= 60_000, "{bytes}");
        let files = files::FILES.iter().chain([&files::PAGE]);
        let bytes: usize = files.map(|file| file.bytes(Encoding::Gzip).len()).sum();
        assert!(bytes <= 70_000, "{bytes}");
    }

    #[test]
    fn the_page_loads_nothing_but_files_that_are_there() {
        let page = std::str::from_utf8(page().bytes(Encoding::Identity)).unwrap();
        let mut count = 0;
        for piece in page.split("/console/files/").skip(1) {
            let name = piece.split('"').next().unwrap();
            assert!(file(name).is_some(), "{name}");
            count += 1;
        }
        assert!(count >= 2, "{count}");
        assert!(
            !page.contains("http:") && !page.contains("https:"),
            "{page}"
        );
    }
}
