//! The bytes of a file as UTF-8: decompressed and decoded by what they start with.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use encoding_rs::{Decoder, Encoding, UTF_16BE, UTF_16LE};

/// An opened file or pipe.
pub(crate) struct Source {
    /// What it starts with, as stored.
    head: Vec<u8>,
    /// Its length as stored, where it has one.
    length: Option<u64>,
    /// How much has been read of what is stored.
    counter: Arc<AtomicU64>,
    /// What is in it, decompressed.
    content: Box<dyn BufRead + Send>,
}

/// The text of a file.
pub(crate) struct Text {
    /// What it starts with: up to 64 KiB of it.
    pub(crate) head: Vec<u8>,
    /// All of it, the head too.
    pub(crate) content: Box<dyn BufRead + Send>,
}

/// Why a file is no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The bytes do not come: the file is damaged or the disk is.
    #[error("cannot be read to the end")]
    Read(#[from] io::Error),
    /// The file is something else; here is what to do with it.
    #[error("{0}")]
    Foreign(&'static str),
}

impl Source {
    /// Recognizes the compression.
    pub(crate) fn open(mut stored: Box<dyn Read + Send>, length: Option<u64>) -> io::Result<Self> {
        let head = start_of(&mut stored)?;
        let counter = Arc::new(AtomicU64::new(0));
        let whole = Counting {
            stored: Cursor::new(head.clone()).chain(stored),
            counter: Arc::clone(&counter),
        };
        let content: Box<dyn BufRead + Send> = if head.starts_with(&GZIP) {
            let decoder = flate2::read::MultiGzDecoder::new(whole);
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        } else if head.starts_with(&ZSTD) {
            let decoder = zstd::stream::read::Decoder::new(whole)?;
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        } else {
            Box::new(BufReader::with_capacity(BUFFER, whole))
        };
        Ok(Self {
            head,
            length,
            counter,
            content,
        })
    }

    /// What it starts with, as stored: up to 64 KiB.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Its length as stored, where it has one.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Counts what has been read of what is stored.
    pub(crate) fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.counter)
    }

    /// What is in it, as UTF-8 without a byte order mark. Without an encoding, UTF-16 is recognized by its byte
    /// order mark or by its zero bytes; all else is left as it is.
    pub(crate) fn into_text(
        mut self,
        encoding: Option<&'static Encoding>,
    ) -> Result<Text, SourceError> {
        let head = start_of(&mut self.content)?;
        if let Some((_, advice)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
            return Err(SourceError::Foreign(advice));
        }
        let encoding = encoding.or_else(|| utf_16(&head));
        let whole = Cursor::new(head).chain(self.content);
        let mut content: Box<dyn BufRead + Send> = match encoding {
            Some(encoding) => Box::new(BufReader::with_capacity(
                BUFFER,
                Decoding::new(whole, encoding),
            )),
            None => Box::new(whole),
        };
        let mut head = start_of(&mut content)?;
        if head.starts_with(BYTE_ORDER_MARK) {
            head.drain(..BYTE_ORDER_MARK.len());
        }
        let content = Box::new(Cursor::new(head.clone()).chain(content));
        Ok(Text { head, content })
    }
}

/// Reads the first 64 KiB, or all where there is less.
fn start_of(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    reader.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The byte order of UTF-16, if a text that starts like this is UTF-16: by its byte order mark, or because one byte
/// of most of its characters is zero, and always the same one.
fn utf_16(head: &[u8]) -> Option<&'static Encoding> {
    match head {
        [0xff, 0xfe, ..] => return Some(UTF_16LE),
        [0xfe, 0xff, ..] => return Some(UTF_16BE),
        _ => {}
    }
    let pairs = head.chunks_exact(2).take(SAMPLE);
    let count = pairs.len();
    let (mut first, mut second) = (0, 0);
    for pair in pairs {
        first += usize::from(pair.first() == Some(&0));
        second += usize::from(pair.last() == Some(&0));
    }
    if count == 0 {
        None
    } else if first * 10 < count && second * 2 > count {
        Some(UTF_16LE)
    } else if second * 10 < count && first * 2 > count {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// Turns another encoding into UTF-8 while it is read. What cannot be decoded becomes U+FFFD.
struct Decoding<R> {
    /// What is decoded.
    encoded: R,
    /// Turns the encoding into UTF-8.
    decoder: Decoder,
    /// Whether the decoder was told that there is no more.
    ended: bool,
}

impl<R: BufRead> Decoding<R> {
    /// Reads this encoding; a byte order mark counts more.
    fn new(encoded: R, encoding: &'static Encoding) -> Self {
        Self {
            encoded,
            decoder: encoding.new_decoder(),
            ended: false,
        }
    }
}

impl<R: BufRead> Read for Decoding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.len() < LONGEST_CHARACTER {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        while !self.ended {
            let encoded = self.encoded.fill_buf()?;
            let is_last = encoded.is_empty();
            let (result, used, written, _) = self.decoder.decode_to_utf8(encoded, buffer, is_last);
            self.encoded.consume(used);
            self.ended = is_last && result == encoding_rs::CoderResult::InputEmpty;
            if written > 0 {
                return Ok(written);
            }
        }
        Ok(0)
    }
}

/// Counts what is read.
struct Counting<R> {
    /// What is counted.
    stored: R,
    /// The count, in bytes.
    counter: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stored.read(buffer)?;
        self.counter.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// How much is read to recognize a file, in bytes.
const HEAD: usize = 64 * 1024;

/// How much is decompressed at once, in bytes.
const BUFFER: usize = 256 * 1024;

/// How many pairs of bytes are looked at to recognize UTF-16.
const SAMPLE: usize = 512;

/// More than any decoder writes at once, in bytes.
const LONGEST_CHARACTER: usize = 16;

/// What gzip starts with (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What zstd starts with (RFC 8878 §3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What some programs put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What files start with that are no text, and what to do with them.
const FOREIGN: &[(&[u8], &str)] = &[
    (
        b"PK\x03\x04",
        "this is a workbook or a zip archive; save the sheet as CSV, or unpack the archive",
    ),
    (
        b"\xd0\xcf\x11\xe0",
        "this is an Excel workbook; save the sheet as CSV",
    ),
    (b"BZh", "this is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ\0", "this is compressed with xz; unpack it first"),
    (
        b"SQLite format 3\0",
        "this is an SQLite database; export the table as CSV",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], encoding: Option<&'static Encoding>) -> String {
        let source = Source::open(Box::new(Cursor::new(bytes.to_vec())), None).unwrap();
        let mut text = String::new();
        source
            .into_text(encoding)
            .unwrap()
            .content
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    fn utf_16_bytes(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn utf_16_is_recognized_in_both_orders_with_and_without_a_mark() {
        // Longer than every buffer, with characters of one, two, three and four bytes.
        let line = "to;from\r\n+12025550142;\"Zoë € 😀\"\r\n";
        let plain = line.repeat(20_000);
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let marked = format!("\u{feff}{plain}");
            assert!(text(&utf_16_bytes(&marked, order), None) == plain);
            assert!(text(&utf_16_bytes(&plain, order), None) == plain);
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(text(b"\xef\xbb\xbfto\n", None), "to\n");
        assert_eq!(
            text(b"\xef\xbb\xbfto\n", Some(encoding_rs::WINDOWS_1252)),
            "to\n"
        );
    }

    #[test]
    fn a_named_encoding_is_decoded_and_nothing_else_is_touched() {
        let latin = b"Jos\xe9,1";
        assert_eq!(text(latin, Some(encoding_rs::WINDOWS_1252)), "José,1");
        let source = Source::open(Box::new(Cursor::new(latin.to_vec())), None).unwrap();
        assert_eq!(source.into_text(None).unwrap().head, latin);
        assert_eq!(text(b"", None), "");
        assert_eq!(text(b"a", None), "a");
    }

    #[test]
    fn files_that_are_no_text_are_told_by_what_they_are() {
        let source = Source::open(Box::new(Cursor::new(b"PK\x03\x04rest".to_vec())), None).unwrap();
        let error = source.into_text(None).err().unwrap().to_string();
        assert!(error.contains("save the sheet as CSV"), "{error}");
    }
}
