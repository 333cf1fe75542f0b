//! A file of ring records, for replays: a header, then each record with its length in front.

use std::io::{self, Read, Write};

use thiserror::Error;

use crate::bpf::abi::{ev_connect, ev_head, ev_span};

const MAGIC: [u8; 8] = *b"spanwire";
/// Of this file's own layout.
const VERSION: u32 = 1;
/// No record is longer.
const RECORD_MAX: usize = 64 << 10;

/// Changes with the layout of the records, as far as their sizes do.
#[expect(clippy::cast_possible_truncation, reason = "sizes of small structs")]
const LAYOUT: u32 =
    ((size_of::<ev_span>() << 20) | (size_of::<ev_head>() << 10) | size_of::<ev_connect>()) as u32;

/// Why a file is no recording, or not one that can be read to its end.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// The file itself.
    #[error("reading: {0}")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("this is no recording")]
    Foreign,
    /// Made by another version of spanwire.
    #[error("the recording is of another version of spanwire")]
    Version,
    /// Ends in the middle of a record.
    #[error("record {number} is cut short")]
    Cut {
        /// Counted from 0.
        number: u64,
    },
    /// A length that no record has.
    #[error("record {number} claims to have {length} bytes")]
    Length {
        /// Counted from 0.
        number: u64,
        /// As it stands there.
        length: u32,
    },
}

/// Writes a recording.
#[derive(Debug)]
pub struct Writer<W>(W);

impl<W: Write> Writer<W> {
    /// `offset` turns kernel time into wall-clock time.
    pub fn new(mut out: W, offset: u64) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&LAYOUT.to_le_bytes())?;
        out.write_all(&offset.to_le_bytes())?;
        Ok(Self(out))
    }

    /// Appends a record.
    pub fn push(&mut self, record: &[u8]) -> io::Result<()> {
        let length = u32::try_from(record.len()).map_err(io::Error::other)?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(record)
    }
}

/// Reads a recording, record by record; after an error there are no more.
#[derive(Debug)]
pub struct Recording<R> {
    input: R,
    offset: u64,
    number: u64,
    ended: bool,
}

impl<R: Read> Recording<R> {
    /// Reads the header.
    pub fn open(mut input: R) -> Result<Self, RecordingError> {
        let mut header = [0; 24];
        input.read_exact(&mut header).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => RecordingError::Foreign,
            _ => error.into(),
        })?;
        let (magic, rest) = header.split_at(8);
        if magic != MAGIC {
            return Err(RecordingError::Foreign);
        }
        let (version, offset) = rest.split_at(8);
        if version != [VERSION.to_le_bytes(), LAYOUT.to_le_bytes()].concat() {
            return Err(RecordingError::Version);
        }
        let offset = offset.try_into().map_or(0, u64::from_le_bytes);
        Ok(Self { input, offset, number: 0, ended: false })
    }

    /// Turns the records' time into wall-clock time.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, RecordingError> {
        let number = self.number;
        let mut length = Vec::new();
        self.input.by_ref().take(4).read_to_end(&mut length)?;
        let length = match <[u8; 4]>::try_from(length.as_slice()) {
            Ok(bytes) => u32::from_le_bytes(bytes),
            Err(_) if length.is_empty() => return Ok(None),
            Err(_) => return Err(RecordingError::Cut { number }),
        };
        let wanted = length as usize;
        if wanted > RECORD_MAX {
            return Err(RecordingError::Length { number, length });
        }
        let mut record = Vec::with_capacity(wanted);
        self.input.by_ref().take(length.into()).read_to_end(&mut record)?;
        if record.len() < wanted {
            return Err(RecordingError::Cut { number });
        }
        self.number += 1;
        Ok(Some(record))
    }
}

impl<R: Read> Iterator for Recording<R> {
    type Item = Result<Vec<u8>, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(records: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, 42).unwrap();
        records.iter().for_each(|record| writer.push(record).unwrap());
        out
    }

    proptest! {
        #[test]
        fn records_come_back(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..9)) {
            let bytes = written(&records);
            let recording = Recording::open(bytes.as_slice()).unwrap();
            prop_assert_eq!(recording.offset(), 42);
            prop_assert_eq!(recording.collect::<Result<Vec<_>, _>>().unwrap(), records);
        }

        #[test]
        fn a_cut_is_named(cut in 1_usize..30) {
            let mut bytes = written(&[vec![1; 12], vec![2; 14]]);
            bytes.truncate(bytes.len() - cut);
            let read: Vec<_> = Recording::open(bytes.as_slice()).unwrap().collect();
            let whole = read.iter().filter(|record| record.is_ok()).count();
            prop_assert_eq!(whole, if cut > 18 { 0 } else { 1 });
            prop_assert_eq!(read.len() - whole, usize::from(cut != 18));
        }
    }

    #[test]
    fn what_is_no_recording_is_said_to_be_none() {
        assert!(matches!(Recording::open(&b"spam"[..]), Err(RecordingError::Foreign)));
        assert!(matches!(Recording::open(&[b'x'; 99][..]), Err(RecordingError::Foreign)));
        let mut other = written(&[]);
        other[8] = 9;
        assert!(matches!(Recording::open(other.as_slice()), Err(RecordingError::Version)));
        let mut long = written(&[vec![]]);
        *long.last_mut().unwrap() = 1;
        let error = Recording::open(long.as_slice()).unwrap().next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "record 0 claims to have 16777216 bytes");
    }
}
