//! Compressed bodies, piece by piece, so that a compressed stream still arrives in pieces.

use std::io::{self, Write};

use bytes::Bytes;

use crate::catalog::fault::Encoding;

enum Packer {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

/// Each piece compressed such that it can be opened when it arrives; one more piece, the end, follows the last.
///
/// # Errors
/// None in practice: everything is written to memory.
pub(super) fn packed(pieces: &[Bytes], encoding: Encoding) -> io::Result<Vec<Bytes>> {
    let mut packer = Packer::new(encoding)?;
    let mut packed = Vec::with_capacity(pieces.len() + 1);
    for piece in pieces {
        packer.write(piece)?;
        packed.push(std::mem::take(packer.output()).into());
    }
    packed.push(packer.finish()?.into());
    Ok(packed)
}

/// So many bytes of white space, gzipped: a thousandth of their size.
pub(super) fn bomb(bytes: u64) -> io::Result<Bytes> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::copy(&mut io::Read::take(io::repeat(b' '), bytes), &mut encoder)?;
    Ok(encoder.finish()?.into())
}

impl Packer {
    fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Gzip => Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast())),
            // A buffer, a quality and a window that are small and quick: nobody measures how well this compresses.
            Encoding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(Vec::new(), 4096, 1, 18))),
            Encoding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
        })
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let writer: &mut dyn Write = match self {
            Self::Gzip(writer) => writer,
            Self::Brotli(writer) => writer,
            Self::Zstd(writer) => writer,
        };
        writer.write_all(piece)?;
        writer.flush()
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(writer) => writer.get_mut(),
            Self::Brotli(writer) => writer.get_mut(),
            Self::Zstd(writer) => writer.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(writer) => writer.finish(),
            Self::Brotli(writer) => Ok(writer.into_inner()),
            Self::Zstd(writer) => writer.finish(),
        }
    }
}
