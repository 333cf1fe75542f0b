//! HPACK (RFC 7541) for an observer, who may join a connection in its middle and miss header blocks.
//!
//! Every entry of the dynamic table has a number, and the kernel side counts them; so it is known
//! which entry a block refers to, also where that entry went by unseen. Such a name or value is
//! `None`, never a guess.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::huffman;

/// Kept per direction, by the accounting of RFC 7541 4.1. A sender never refers to what it has
/// evicted, so this bounds memory alone.
const SIZE_MAX: usize = 64 * 1024;

/// What an entry counts beyond its name and value.
const ENTRY_OVERHEAD: usize = 32;

/// More entries than this can never be kept.
const ENTRIES_MAX: usize = SIZE_MAX / ENTRY_OVERHEAD;

/// Bytes of an integer behind its prefix: enough for 32 bits.
const INTEGER_BYTES_MAX: u32 = 5;

/// Appendix A; the first has index 1.
const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Why a block was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    /// The capture ends within a field, or a length leads past the end.
    #[error("the header block ends within a field")]
    Cut,
    /// Index 0 as a whole field.
    #[error("index 0 is no header field")]
    Index,
    /// More than 32 bits, or than 5 bytes for them.
    #[error("an integer is too long")]
    Integer,
    /// A string that is not of the Huffman code.
    #[error("a string is not of the Huffman code")]
    Huffman,
    /// An update of the table's size behind a field.
    #[error("the table's size changes within the header block")]
    SizeUpdate,
}

/// Name and value of a field: `None` where the entry went by unseen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name.
    pub name: Option<Cow<'a, [u8]>>,
    /// The value.
    pub value: Option<Cow<'a, [u8]>>,
}

/// An entry of the dynamic table; by default one that went by unseen.
#[derive(Debug, Default)]
struct Entry {
    name: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
}

impl Entry {
    fn of(field: &Field<'_>) -> Self {
        Self { name: field.name.as_deref().map(Box::from), value: field.value.as_deref().map(Box::from) }
    }

    /// At most what the sender counts, so what is kept here covers what the sender keeps.
    fn size(&self) -> usize {
        let length = |text: &Option<Box<[u8]>>| text.as_ref().map_or(0, |text| text.len());
        ENTRY_OVERHEAD + length(&self.name) + length(&self.value)
    }

    fn field(&self) -> Field<'_> {
        Field {
            name: self.name.as_deref().map(Cow::Borrowed),
            value: self.value.as_deref().map(Cow::Borrowed),
        }
    }
}

/// The dynamic table of one direction of a connection.
#[derive(Debug, Default)]
pub struct Table {
    /// Without gaps, oldest first; the last has the number before `next`.
    entries: VecDeque<Entry>,
    /// Number of the next entry.
    next: u32,
    /// Of all entries.
    size: usize,
}

impl Table {
    /// Decodes one whole header block, `first` being the number of the first entry it inserts.
    ///
    /// # Errors
    ///
    /// The block is malformed or cut short. The fields before that place have been given, and what
    /// they inserted stays.
    pub fn decode(
        &mut self,
        first: u32,
        block: &[u8],
        mut on_field: impl FnMut(Field<'_>),
    ) -> Result<(), HpackError> {
        self.seek(first);
        let mut input = Input(block);
        let mut fields_seen = false;
        while !input.0.is_empty() {
            let start = input.byte()?;
            if start & 0xe0 == 0x20 {
                let size = input.integer(start, 5)?;
                if fields_seen {
                    return Err(HpackError::SizeUpdate);
                }
                // Any other size only makes the sender refer to less.
                if size == 0 {
                    self.clear();
                }
                continue;
            }
            fields_seen = true;
            if start & 0x80 != 0 {
                let index = input.integer(start, 7)?;
                on_field(self.field(index)?);
                continue;
            }
            let inserts = start & 0x40 != 0;
            let index = input.integer(start, if inserts { 6 } else { 4 })?;
            let name = if index == 0 { Some(input.string()?) } else { self.field(index)?.name };
            let field = Field { name, value: Some(input.string()?) };
            let entry = inserts.then(|| Entry::of(&field));
            on_field(field);
            if let Some(entry) = entry {
                self.insert(entry);
            }
        }
        Ok(())
    }

    /// Makes `first` the next number.
    fn seek(&mut self, first: u32) {
        let ahead = usize::try_from(first.wrapping_sub(self.next)).unwrap_or(usize::MAX);
        let back = usize::try_from(self.next.wrapping_sub(first)).unwrap_or(usize::MAX);
        if back < ahead {
            // A block fed twice. It inserts again what is dropped here; were it another one, the old
            // entries would be wrong under these numbers.
            let kept = self.entries.len().saturating_sub(back);
            self.size -= self.entries.drain(kept..).map(|entry| entry.size()).sum::<usize>();
        } else if ahead > ENTRIES_MAX || self.entries.is_empty() {
            self.clear();
        } else {
            (0..ahead).for_each(|_| self.insert(Entry::default()));
        }
        self.next = first;
    }

    fn field(&self, index: u32) -> Result<Field<'_>, HpackError> {
        let index = usize::try_from(index).map_err(|_| HpackError::Integer)?;
        let at = index.checked_sub(1).ok_or(HpackError::Index)?;
        if let Some((name, value)) = STATIC_TABLE.get(at) {
            let [name, value] = [name, value].map(|text| Some(Cow::Borrowed(text.as_bytes())));
            return Ok(Field { name, value });
        }
        let back = index - STATIC_TABLE.len();
        let entry = self.entries.len().checked_sub(back).and_then(|at| self.entries.get(at));
        Ok(entry.map(Entry::field).unwrap_or_default())
    }

    fn insert(&mut self, entry: Entry) {
        self.size += entry.size();
        self.entries.push_back(entry);
        self.next = self.next.wrapping_add(1);
        while self.size > SIZE_MAX {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.size -= oldest.size();
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.size = 0;
    }
}

/// What is left of a block.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Result<u8, HpackError> {
        let (byte, rest) = self.0.split_first().ok_or(HpackError::Cut)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// RFC 7541 5.1: it begins in the low bits of `start`.
    fn integer(&mut self, start: u8, prefix_bits: u32) -> Result<u32, HpackError> {
        let mask = u8::MAX >> (u8::BITS - prefix_bits);
        let prefix = start & mask;
        if prefix < mask {
            return Ok(prefix.into());
        }
        let mut value = u64::from(prefix);
        for place in 0..INTEGER_BYTES_MAX {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| HpackError::Integer);
            }
        }
        Err(HpackError::Integer)
    }

    /// RFC 7541 5.2.
    fn string(&mut self) -> Result<Cow<'a, [u8]>, HpackError> {
        let start = self.byte()?;
        let length = usize::try_from(self.integer(start, 7)?).map_err(|_| HpackError::Integer)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(HpackError::Cut)?;
        self.0 = rest;
        if start & 0x80 == 0 {
            return Ok(Cow::Borrowed(text));
        }
        // No code is shorter than 5 bits.
        let mut plain = Vec::with_capacity(text.len() * 8 / 5);
        if huffman::decode(text, &mut plain) { Ok(Cow::Owned(plain)) } else { Err(HpackError::Huffman) }
    }
}

#[cfg(test)]
mod tests {
    use httlib_hpack::Encoder;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    type Known = (Option<Vec<u8>>, Option<Vec<u8>>);
    type Texts<'a> = &'a [(&'a str, &'a str)];

    fn fields_of(table: &mut Table, first: u32, block: &[u8]) -> (Vec<Known>, Result<(), HpackError>) {
        let mut fields = Vec::new();
        let result = table.decode(first, block, |field| {
            fields.push((field.name.map(Cow::into_owned), field.value.map(Cow::into_owned)));
        });
        (fields, result)
    }

    fn known(fields: Texts<'_>) -> Vec<Known> {
        fields.iter().map(|(name, value)| (Some((*name).into()), Some((*value).into()))).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d.try_into().unwrap()).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// Blocks, how many entries each inserts, and what they say.
    fn check(blocks: &[(&str, u32, Texts<'_>)]) {
        // The numbers wrap on the way.
        for start in [0, 7, u32::MAX, u32::MAX - 2] {
            let mut table = Table::default();
            let mut first = start;
            for (hex, inserted, fields) in blocks {
                let got = fields_of(&mut table, first, &bytes(hex));
                assert_eq!(got, (known(fields), Ok(())), "{hex}");
                first = first.wrapping_add(*inserted);
                assert_eq!(table.next, first);
            }
        }
    }

    const REQUESTS: [Texts<'_>; 3] = [
        &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
            ("cache-control", "no-cache"),
        ],
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ],
    ];

    const RESPONSES: [Texts<'_>; 3] = [
        &[
            (":status", "302"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("location", "https://www.example.com"),
        ],
        &[
            (":status", "307"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("location", "https://www.example.com"),
        ],
        &[
            (":status", "200"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
            ("location", "https://www.example.com"),
            ("content-encoding", "gzip"),
            ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
        ],
    ];

    #[test]
    fn rfc_c3_requests() {
        check(&[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", 1, REQUESTS[0]),
            ("8286 84be 5808 6e6f 2d63 6163 6865", 1, REQUESTS[1]),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", 1, REQUESTS[2]),
        ]);
    }

    #[test]
    fn rfc_c4_requests_with_huffman() {
        check(&[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", 1, REQUESTS[0]),
            ("8286 84be 5886 a8eb 1064 9cbf", 1, REQUESTS[1]),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", 1, REQUESTS[2]),
        ]);
    }

    #[test]
    fn rfc_c5_responses() {
        check(&[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
                 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
                 6c65 2e63 6f6d",
                4,
                RESPONSES[0],
            ),
            ("4803 3330 37c1 c0bf", 1, RESPONSES[1]),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
                 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
                 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
                 3d31",
                3,
                RESPONSES[2],
            ),
        ]);
    }

    #[test]
    fn rfc_c6_responses_with_huffman() {
        check(&[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                4,
                RESPONSES[0],
            ),
            ("4883 640e ffc1 c0bf", 1, RESPONSES[1]),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
                 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
                 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                3,
                RESPONSES[2],
            ),
        ]);
    }

    #[test]
    fn rfc_c2_literals() {
        check(&[
            (
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                1,
                &[("custom-key", "custom-header")],
            ),
            ("040c 2f73 616d 706c 652f 7061 7468", 0, &[(":path", "/sample/path")]),
            ("1008 7061 7373 776f 7264 0673 6563 7265 74", 0, &[("password", "secret")]),
            ("82", 0, &[(":method", "GET")]),
        ]);
    }

    #[test]
    fn integers() {
        for (coded, prefix_bits, wanted) in [
            ("0a", 5, Ok(10)),
            ("1f 9a0a", 5, Ok(1337)),
            ("2a", 8, Ok(42)),
            ("1f 00", 5, Ok(31)),
            ("1f 80 80 80 80 00", 5, Ok(31)),
            ("0f f0 ff ff ff 0f", 4, Ok(u32::MAX)),
            ("0f f1 ff ff ff 0f", 4, Err(HpackError::Integer)),
            ("0f ff ff ff ff 7f", 4, Err(HpackError::Integer)),
            ("0f 80 80 80 80 80 00", 4, Err(HpackError::Integer)),
            ("0f 80 80", 4, Err(HpackError::Cut)),
        ] {
            let coded = bytes(coded);
            assert_eq!(Input(&coded[1..]).integer(coded[0], prefix_bits), wanted, "{coded:x?}");
        }
    }

    #[test]
    fn malformed() {
        for (block, wanted) in [
            ("82 80", HpackError::Index),
            ("82 ff ff ff ff ff ff 00", HpackError::Integer),
            ("82 00 81 18 00", HpackError::Huffman),
            ("82 20", HpackError::SizeUpdate),
            ("82 ff", HpackError::Cut),
            ("82 00", HpackError::Cut),
            ("82 00 05 61 62", HpackError::Cut),
            ("82 00 01 61", HpackError::Cut),
            ("82 44 7f", HpackError::Cut),
        ] {
            let got = fields_of(&mut Table::default(), 0, &bytes(block));
            assert_eq!(got, (known(&[(":method", "GET")]), Err(wanted)), "{block}");
        }
        assert_eq!(fields_of(&mut Table::default(), 0, b""), (Vec::new(), Ok(())));
    }

    #[test]
    fn an_unseen_entry_is_not_guessed() {
        let mut table = Table::default();
        // a: b is number 10; number 11 has a name that went by; then both are referred to.
        assert!(fields_of(&mut table, 10, b"\x40\x01a\x01b").1.is_ok());
        let (fields, _) = fields_of(&mut table, 12, b"\xbe\xbf\xc0\x7e\x01c\xbe");
        let c = Some(b"c".to_vec());
        assert_eq!(
            fields,
            [(None, None), known(&[("a", "b")])[0].clone(), (None, None), (None, c.clone()), (None, c)]
        );
        // What was known is so for as long as it can be referred to: 10 is now the third.
        assert_eq!(fields_of(&mut table, 13, b"\xc0").0, known(&[("a", "b")]));
    }

    #[test]
    fn a_jump_too_far_forgets() {
        for first in [4000, 1 << 30, 1 << 31, u32::MAX] {
            let mut table = Table::default();
            assert!(fields_of(&mut table, 0, b"\x40\x01a\x01b").1.is_ok());
            assert_eq!(fields_of(&mut table, first, b"\xbe").0, [(None, None)]);
            assert_eq!((table.entries.len(), table.size, table.next), (0, 0, first));
        }
    }

    #[test]
    fn a_block_fed_twice() {
        let mut table = Table::default();
        assert!(fields_of(&mut table, 5, b"\x40\x01a\x01b").1.is_ok());
        let block = b"\xbe\x40\x01c\x01d\x40\x01e\x01f\xc0\xbe";
        let once = fields_of(&mut table, 6, block);
        assert_eq!(once.0, known(&[("a", "b"), ("c", "d"), ("e", "f"), ("a", "b"), ("e", "f")]));
        assert_eq!(fields_of(&mut table, 6, &block[..8]).1, Err(HpackError::Cut));
        assert_eq!(fields_of(&mut table, 6, block), once);
        assert_eq!((table.entries.len(), table.size, table.next), (3, 3 * 34, 8));
        // Another block in its place: what the first had inserted is not taken for its own.
        assert!(fields_of(&mut table, 6, b"\x40\x01x\x01y").1.is_ok());
        assert_eq!(fields_of(&mut table, 8, b"\xbe\xbf").0, [(None, None), known(&[("x", "y")])[0].clone()]);
    }

    #[test]
    fn size_updates() {
        let mut table = Table::default();
        assert!(fields_of(&mut table, 0, b"\x40\x01a\x01b").1.is_ok());
        assert_eq!(fields_of(&mut table, 1, b"\x3f\xe1\x1f\xbe").0, known(&[("a", "b")]));
        assert_eq!(
            fields_of(&mut table, 1, b"\x20\x3f\xe1\x1f\x40\x01c\x01d\xbe\xbf").0[1..],
            [known(&[("c", "d")])[0].clone(), (None, None)]
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut table = Table::default();
        let mut block = b"\x40\x00\x7f\xe1\x5d".to_vec(); // a value of 12128 bytes
        block.resize(block.len() + 12128, b'x');
        for first in 0..100 {
            assert!(table.decode(first, &block, |_| {}).is_ok());
            assert!(table.size <= SIZE_MAX);
        }
        assert_eq!((table.entries.len(), table.size), (5, 5 * (12128 + 32)));
        // The oldest that is kept is still right.
        assert_eq!(
            fields_of(&mut table, 100, b"\xc2\xc3").0,
            [(Some(Vec::new()), Some(vec![b'x'; 12128])), (None, None)]
        );
        let mut huge = b"\x40\x00\x7f\x80\x80\x08".to_vec();
        huge.resize(huge.len() + 127 + (8 << 14), b'y');
        assert!(table.decode(100, &huge, |_| {}).is_ok());
        assert_eq!((table.entries.len(), table.size, table.next), (0, 0, 101));
        assert!(table.decode(102, b"\x40\x00\x00", |_| {}).is_ok());
        assert!(table.decode(102 + 2048, b"", |_| {}).is_ok());
        assert_eq!((table.entries.len(), table.size), (2048, SIZE_MAX));
    }

    /// A block of another encoder, and how often it inserts.
    #[derive(Debug)]
    struct Block {
        fields: Vec<(Vec<u8>, Vec<u8>)>,
        coded: Vec<u8>,
        first: u32,
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        // Few, so that they return.
        let usual = vec![":path", ":status", "cookie", "x-a", "x-b", "x-c", "x-trace-id"];
        prop_oneof![8 => select(usual).prop_map(Into::into), 1 => vec(any::<u8>(), 0..20)]
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        let usual = vec!["/", "200", "", "a", "b", "0af7651916cd43dd8448eb211c80319c"];
        prop_oneof![8 => select(usual).prop_map(Into::into), 1 => vec(any::<u8>(), 0..300)]
    }

    /// Header lists, each field with the flags of its encoding, and before it maybe a new table size.
    fn blocks() -> impl Strategy<Value = Vec<Block>> {
        let flags = select(vec![Encoder::WITH_INDEXING, Encoder::WITH_INDEXING, 0, Encoder::NEVER_INDEXED]);
        let huffman = 0..=(Encoder::HUFFMAN_NAME | Encoder::HUFFMAN_VALUE);
        let best = select(vec![Encoder::BEST_FORMAT, Encoder::BEST_FORMAT, 0]);
        let flags = (flags, huffman, best).prop_map(|(index, huffman, best)| index | huffman | best);
        let lists =
            vec((proptest::option::weighted(0.1, 0..6000_u32), vec((name(), value(), flags), 0..12)), 1..20);
        let start = prop_oneof![Just(0), Just(u32::MAX - 10), any::<u32>()];
        (lists, start).prop_map(|(lists, mut next)| {
            let mut encoder = Encoder::default();
            let mut blocks = Vec::new();
            for (size, list) in lists {
                let mut block = Block { fields: Vec::new(), coded: Vec::new(), first: next };
                if let Some(size) = size {
                    encoder.update_max_dynamic_size(size, &mut block.coded).unwrap();
                }
                for (name, value, flags) in list {
                    let start = block.coded.len();
                    encoder.encode((name.clone(), value.clone(), flags), &mut block.coded).unwrap();
                    // As the kernel side counts.
                    next = next.wrapping_add(u32::from(block.coded[start] & 0xc0 == 0x40));
                    block.fields.push((name, value));
                }
                blocks.push(block);
            }
            blocks
        })
    }

    /// What is known is right, and nothing is left out.
    fn agrees(table: &mut Table, block: &Block) -> Result<(), TestCaseError> {
        let (fields, result) = fields_of(table, block.first, &block.coded);
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(fields.len(), block.fields.len());
        for ((name, value), (true_name, true_value)) in fields.iter().zip(&block.fields) {
            prop_assert!(name.as_ref().is_none_or(|name| name == true_name));
            prop_assert!(value.as_ref().is_none_or(|value| value == true_value));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn blocks_of_another_encoder(blocks in blocks()) {
            let mut table = Table::default();
            for block in blocks {
                let wanted = block.fields.into_iter().map(|(name, value)| (Some(name), Some(value)));
                let got = fields_of(&mut table, block.first, &block.coded);
                prop_assert_eq!(got, (wanted.collect(), Ok(())));
            }
        }

        #[test]
        fn missed_blocks_leave_gaps_and_no_lies(blocks in blocks(), seen in vec(any::<bool>(), 20)) {
            let mut table = Table::default();
            for (block, _) in blocks.iter().zip(seen).filter(|(_, seen)| *seen) {
                agrees(&mut table, block)?;
            }
        }

        #[test]
        fn joining_late(blocks in blocks(), at in any::<Index>()) {
            let mut table = Table::default();
            for block in &blocks[at.index(blocks.len())..] {
                agrees(&mut table, block)?;
            }
        }

        /// Cut anywhere, then fed again whole, or not.
        #[test]
        fn cut_blocks(blocks in blocks(), cuts in vec((any::<Index>(), any::<bool>()), 20)) {
            let mut table = Table::default();
            for (block, (cut, again)) in blocks.iter().zip(cuts) {
                let part = &block.coded[..cut.index(block.coded.len() + 1)];
                let (fields, result) = fields_of(&mut table, block.first, part);
                prop_assert!(matches!(result, Ok(()) | Err(HpackError::Cut)));
                for ((name, value), (true_name, true_value)) in fields.iter().zip(&block.fields) {
                    prop_assert!(name.as_ref().is_none_or(|name| name == true_name));
                    prop_assert!(value.as_ref().is_none_or(|value| value == true_value));
                }
                if again {
                    agrees(&mut table, block)?;
                }
            }
        }

        #[test]
        fn any_bytes(blocks in vec((prop_oneof![0..50_u32, any::<u32>()], vec(any::<u8>(), 0..200)), 0..20)) {
            let mut table = Table::default();
            for (first, block) in blocks {
                let mut fields = 0;
                let _result = table.decode(first, &block, |_| fields += 1);
                prop_assert!(fields <= block.len());
                prop_assert!(table.size == table.entries.iter().map(Entry::size).sum::<usize>());
                prop_assert!(table.size <= SIZE_MAX);
            }
        }
    }
}
