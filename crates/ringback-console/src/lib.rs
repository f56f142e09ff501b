//! The web console of Ringback, as files in the program: `ringback-admin` serves them.
//!
//! `web/` has the sources (plain ES modules), `vendor/` the libraries, with version, licence and checksum in
//! its README. Both are in the program as they are. What is sent is made of them [once](bundle), when it is first asked
//! for: each file is named by a hash of its content, so that browsers keep it for good.

mod bundle;
mod sources;

use std::io::Write as _;
use std::sync::{LazyLock, OnceLock};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bundle::Bundle;
use flate2::Compression;
use flate2::write::GzEncoder;

/// A file of the console.
#[derive(Debug)]
pub struct File {
    /// Its name below `/console/files/`, with a hash of its content; that of the page is empty.
    pub name: String,
    /// The media type.
    pub content_type: &'static str,
    /// The entity tag, quotes included: it is the same for every encoding, since clients that revalidate ask for
    /// the same one again.
    pub etag: String,
    /// The content, uncompressed.
    plain: String,
    /// The content by gzip, once it was asked for.
    gzip: OnceLock<Vec<u8>>,
    /// The same by brotli.
    brotli: OnceLock<Vec<u8>>,
}

/// How a file travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// Compressed by gzip (RFC 1952).
    Gzip,
    /// Compressed by brotli (RFC 7932), which makes an eighth less of it. Browsers take it over https and from their own machine.
    Brotli,
}

impl File {
    /// The content in an encoding. It is compressed when it is first asked for.
    #[must_use]
    pub fn bytes(&self, encoding: Encoding) -> &[u8] {
        match encoding {
            Encoding::Identity => self.plain.as_bytes(),
            Encoding::Gzip => self.gzip.get_or_init(|| gzip(&self.plain)),
            Encoding::Brotli => self.brotli.get_or_init(|| brotli(&self.plain)),
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

/// A text by gzip.
fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory cannot fail.
    let _infallible = encoder.write_all(text.as_bytes());
    encoder.finish().unwrap_or_default()
}

/// A text by brotli.
fn brotli(text: &str) -> Vec<u8> {
    let parameters = BrotliEncoderParams {
        size_hint: text.len(),
        ..BrotliEncoderParams::default()
    };
    let mut encoder = CompressorWriter::with_params(Vec::new(), BUFFER_BYTES, &parameters);
    // Writing to memory cannot fail.
    let _infallible = encoder.write_all(text.as_bytes());
    encoder.into_inner()
}

/// How much the brotli encoder reads at once.
const BUFFER_BYTES: usize = 16 * 1024;

/// The page: the same for every view.
#[must_use]
pub fn page() -> &'static File {
    &BUNDLE.page
}

/// The file with this name below `/console/files/`.
#[must_use]
pub fn file(name: &str) -> Option<&'static File> {
    BUNDLE.files.iter().find(|file| file.name == name)
}

/// The views, each at a path of its own below `/console/`.
pub const VIEWS: [&str; 9] = [
    "find",
    "explain",
    "problems",
    "map",
    "manage",
    "contact",
    "statistics",
    "audit",
    "node",
];

/// Everything that is served.
static BUNDLE: LazyLock<Bundle> = LazyLock::new(|| Bundle::of(&sources::SOURCES));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_together_keep_to_the_budget() {
        let files = BUNDLE.files.iter().chain([&BUNDLE.page]);
        let bytes: usize = files.map(|file| file.bytes(Encoding::Brotli).len()).sum();
        assert!(bytes <= 60_000, "{bytes}");
    }

    #[test]
    fn every_source_is_served_and_every_name_in_a_file_leads_to_one() {
        assert_eq!(BUNDLE.files.len() + 1, sources::SOURCES.len());
        let page = &page().plain;
        let mut names: Vec<&str> = page
            .split("/console/files/")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(names.len() > 3, "{page}");
        for file in BUNDLE
            .files
            .iter()
            .filter(|file| file.name.ends_with(".js"))
        {
            for specifier in bundle::specifiers(&file.plain) {
                let name = file.plain[specifier].strip_prefix("./");
                names.push(name.unwrap_or_else(|| panic!("{}: imports from elsewhere", file.name)));
            }
        }
        for name in names {
            assert!(file(name).is_some(), "{name}");
        }
        assert!(
            !page.contains("http:") && !page.contains("https:"),
            "{page}"
        );
    }

    #[test]
    fn what_is_compressed_is_what_is_sent_plainly() {
        for file in BUNDLE.files.iter().chain([&BUNDLE.page]) {
            let mut text = String::new();
            let mut reader = flate2::read::GzDecoder::new(file.bytes(Encoding::Gzip));
            std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
            assert_eq!(text, file.plain, "{}", file.name);
            let mut text = String::new();
            let mut reader = brotli::Decompressor::new(file.bytes(Encoding::Brotli), BUFFER_BYTES);
            std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
            assert_eq!(text, file.plain, "{}", file.name);
        }
    }
}
