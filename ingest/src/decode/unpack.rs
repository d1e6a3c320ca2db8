//! Packed payloads, unpacked as far as the limits allow: what grows beyond them is never held.

use std::borrow::Cow;
use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;
use meterlake_config::payload_map::Compression;
use meterlake_model::DeadReason;

use super::Refusal;

/// The most bytes that a payload may unpack to.
pub const MAX_UNPACKED_BYTES: usize = 1024 * 1024;
/// How many times its own size a payload may unpack to.
pub const MAX_RATIO: usize = 100;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The payload as it was before it was packed.
pub(super) fn unpacked(compression: Compression, payload: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    let limit = MAX_UNPACKED_BYTES.min(payload.len().saturating_mul(MAX_RATIO));
    let found = match compression {
        Compression::Auto if payload.starts_with(&GZIP) => Compression::Gzip,
        Compression::Auto if payload.starts_with(&ZSTD) => Compression::Zstd,
        Compression::Auto => Compression::None,
        stated => stated,
    };
    let (name, bytes) = match found {
        Compression::Gzip => ("gzip", gzip(payload, limit)),
        Compression::Zstd => ("zstd", zstandard(payload, limit)),
        Compression::None | Compression::Auto => return Ok(Cow::Borrowed(payload)),
    };
    if payload.is_empty() {
        return Err(Refusal::new(DeadReason::Syntax, format!("the payload is not {name}: it is empty")));
    }
    match bytes {
        Ok(bytes) if bytes.len() <= limit => Ok(Cow::Owned(bytes)),
        Ok(_) => Err(too_large(payload, limit)),
        Err(error) if is_full(&error) => Err(too_large(payload, limit)),
        Err(error) => Err(Refusal::new(DeadReason::Syntax, format!("the payload is not {name}: {error}"))),
    }
}

fn too_large(payload: &[u8], limit: usize) -> Refusal {
    let detail = format!("the {} bytes of the payload unpack to more than {limit}", payload.len());
    Refusal::new(DeadReason::TooLarge, detail)
}

/// One byte more than the limit at most.
fn gzip(payload: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit + 1).unwrap_or(u64::MAX);
    MultiGzDecoder::new(payload).take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// In one pass into a buffer of the limit's size, so that no window that the frame asks for is ever allocated.
fn zstandard(payload: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    zstd::bulk::Decompressor::new()?.decompress(payload, limit)
}

/// Whether the buffer was too small, in the library's own words.
fn is_full(error: &io::Error) -> bool {
    error.to_string().contains("too small")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 19).unwrap()
    }

    /// Text that packs to about a half.
    fn text(bytes: usize) -> Vec<u8> {
        let digits = |n: u64| format!("{} ", (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % 1_000);
        (0..).flat_map(|n| digits(n).into_bytes()).take(bytes).collect()
    }

    #[test]
    fn what_was_packed_comes_out_as_it_was() {
        for bytes in [Vec::new(), b"{}".to_vec(), text(200_000), text(MAX_UNPACKED_BYTES)] {
            for (compression, packed) in [
                (Compression::Gzip, gzipped(&bytes)),
                (Compression::Zstd, zstandard(&bytes)),
                (Compression::None, bytes.clone()),
            ] {
                assert_eq!(*unpacked(compression, &packed).unwrap(), *bytes, "{compression:?}");
                assert_eq!(
                    *unpacked(Compression::Auto, &packed).unwrap(),
                    *bytes,
                    "{compression:?} by its first bytes"
                );
            }
        }
    }

    #[test]
    fn two_packed_parts_are_one_payload() {
        let twice = |part: Vec<u8>| [part.clone(), part].concat();
        assert_eq!(*unpacked(Compression::Gzip, &twice(gzipped(b"ab"))).unwrap(), *b"abab");
        assert_eq!(*unpacked(Compression::Zstd, &twice(zstandard(b"ab"))).unwrap(), *b"abab");
    }

    #[test]
    fn what_grows_beyond_the_limits_is_too_large() {
        for bytes in [vec![0; 16 * MAX_UNPACKED_BYTES], vec![b' '; 200_000], text(MAX_UNPACKED_BYTES + 1)] {
            for packed in [gzipped(&bytes), zstandard(&bytes)] {
                let refusal = unpacked(Compression::Auto, &packed).unwrap_err();
                assert_eq!(refusal.reason, DeadReason::TooLarge, "{}", refusal.detail);
            }
        }
    }

    #[test]
    fn what_is_torn_or_something_else_is_a_fault_of_syntax() {
        for (compression, packed) in
            [(Compression::Gzip, gzipped(b"abcdefgh")), (Compression::Zstd, zstandard(b"abcdefgh"))]
        {
            for bytes in [&packed[..packed.len() - 3], b"{}", b""] {
                let refused = unpacked(compression, bytes).map(|bytes| bytes.into_owned());
                let reason = refused.as_ref().err().map(|refusal| refusal.reason);
                assert_eq!(reason, Some(DeadReason::Syntax), "{compression:?} {bytes:?}: {refused:?}");
            }
        }
    }
}
