//! XML, element by element: a line each, indented, so that people and `diff` can read it.

use std::io::{self, Write};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use sha2::{Digest, Sha256};

/// A document that is being written.
pub(super) struct Xml<W: Write>(Writer<W>);

type Attributes<'a> = &'a [(&'a str, &'a str)];

impl<W: Write> Xml<W> {
    /// With the declaration.
    pub(super) fn begin(out: W) -> io::Result<Self> {
        let mut writer = Writer::new_with_indent(out, b' ', 1);
        writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        Ok(Self(writer))
    }

    /// Opens an element.
    pub(super) fn open(&mut self, name: &str, attributes: Attributes<'_>) -> io::Result<()> {
        self.0.write_event(Event::Start(start(name, attributes)))
    }

    /// Closes it.
    pub(super) fn close(&mut self, name: &str) -> io::Result<()> {
        self.0.write_event(Event::End(BytesEnd::new(name)))
    }

    /// An element that holds a text.
    pub(super) fn text(&mut self, name: &str, text: impl AsRef<str>) -> io::Result<()> {
        self.0.write_event(Event::Start(BytesStart::new(name)))?;
        self.0.write_event(Event::Text(BytesText::new(text.as_ref())))?;
        self.0.write_event(Event::End(BytesEnd::new(name)))
    }

    /// An element that holds a number.
    pub(super) fn number(&mut self, name: &str, number: impl Into<i64>) -> io::Result<()> {
        self.text(name, number.into().to_string())
    }

    /// An element that holds nothing.
    pub(super) fn empty(&mut self, name: &str, attributes: Attributes<'_>) -> io::Result<()> {
        self.0.write_event(Event::Empty(start(name, attributes)))
    }

    /// Closes the document, with a line break at its end.
    pub(super) fn finish(self) -> io::Result<W> {
        let mut out = self.0.into_inner();
        out.write_all(b"\n")?;
        Ok(out)
    }
}

fn start<'a>(name: &'a str, attributes: Attributes<'_>) -> BytesStart<'a> {
    let mut start = BytesStart::new(name);
    for (name, value) in attributes {
        start.push_attribute((*name, *value));
    }
    start
}

/// A UUID of a name: the same for ever. Version 8 of RFC 9562, 122 bits of a SHA-256.
pub(super) fn uuid(name: &str) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(format!("meterlake:{name}"))[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A text as one segment of a path in a URI.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
