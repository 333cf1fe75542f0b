//! The Huffman code of HPACK (RFC 7541 5.2 and appendix B): a decoder, and the same as a table for
//! the kernel side.

use std::collections::{BTreeMap, BTreeSet};

/// A symbol was emitted: bits 8 to 15 of the entry.
pub const EMITS: u32 = 1 << 16;
/// EOS, or no code at all.
pub const FAILS: u32 = 1 << 17;
/// The string may end here.
pub const MAY_END: u32 = 1 << 18;

/// Padding is shorter than a byte.
const PADDING_MAX: u32 = 7;

/// Length of EOS, the last code of all.
const EOS_LENGTH: u32 = 30;

/// Appendix B. The code is canonical: symbols by the length of their codes, and within a length in
/// order, have consecutive codes, so the lengths say it all. What remains at the end is EOS.
const CODES: [(u32, &[u8]); 21] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, &[92, 195, 208]),
    (20, &[128, 130, 131, 162, 184, 194, 224, 226]),
    (21, &[153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230]),
    (
        22,
        &[
            129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187,
            189, 190, 196, 198, 228, 232, 233,
        ],
    ),
    (
        23,
        &[
            1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174,
            175, 180, 182, 183, 188, 191, 197, 231, 239,
        ],
    ),
    (24, &[9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237]),
    (25, &[199, 207, 234, 235]),
    (26, &[192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255]),
    (27, &[203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254]),
    (
        28,
        &[
            2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31,
            127, 220, 249,
        ],
    ),
    (EOS_LENGTH, &[10, 13, 22]),
];

/// Appends what a string decodes to. False if it is malformed: EOS within, padding that is not the
/// beginning of EOS or is longer than 7 bits; what was decoded before that has been appended.
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    let mut bytes = coded.iter();
    let mut bits = 0_u64; // the next ones, from the top
    let mut held = 0;
    loop {
        while held <= u64::BITS - u8::BITS {
            let Some(byte) = bytes.next() else { break };
            bits |= u64::from(*byte) << (u64::BITS - u8::BITS - held);
            held += u8::BITS;
        }
        // Ones behind the end, as if the padding went on: then the end is EOS.
        let window = (bits | u64::MAX.checked_shr(held).unwrap_or(0)) >> 32;
        if held <= PADDING_MAX && window == u64::from(u32::MAX) {
            return true;
        }
        match symbol(window) {
            Some((symbol, length)) if length <= held => {
                out.push(symbol);
                bits <<= length;
                held -= length;
            }
            _ => return false,
        }
    }
}

/// The symbol whose code begins these 32 bits, and the length of its code; none for EOS.
fn symbol(window: u64) -> Option<(u8, u32)> {
    let mut first = 0;
    for (length, symbols) in CODES {
        let unused = u32::BITS - length;
        let end = first + ((symbols.len() as u64) << unused);
        if window < end {
            let rank = usize::try_from((window - first) >> unused).ok()?;
            return Some((*symbols.get(rank)?, length));
        }
        first = end;
    }
    None
}

/// A place in the tree of codes: the bits that lead there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    depth: u32,
    path: u64,
}

impl Node {
    const ROOT: Self = Self { depth: 0, path: 0 };

    const fn child(self, bit: u64) -> Self {
        Self { depth: self.depth + 1, path: self.path << 1 | bit }
    }

    fn ancestors(self) -> impl Iterator<Item = Self> {
        (0..self.depth).map(move |depth| Self { depth, path: self.path >> (self.depth - depth) })
    }

    /// All bits since the last symbol may be padding.
    const fn may_end(self) -> bool {
        self.depth <= PADDING_MAX && self.path == (1 << self.depth) - 1
    }
}

/// All codes with their symbols; EOS has none.
fn leaves() -> BTreeMap<Node, Option<u8>> {
    let symbols = CODES.iter().flat_map(|(length, symbols)| symbols.iter().map(|s| (*length, Some(*s))));
    let mut next = 0_u64; // aligned to 32 bits
    symbols
        .chain([(EOS_LENGTH, None)])
        .map(|(length, symbol)| {
            let leaf = Node { depth: length, path: next >> (u32::BITS - length) };
            next += 1 << (u32::BITS - length);
            (leaf, symbol)
        })
        .collect()
}

/// The decoder as a state machine that takes half a byte a step, the high half first, from state 0.
///
/// The entry at `state * 16 + nibble`: bits 0 to 7 are the next state, 8 to 15 the symbol if
/// [`EMITS`] is set; [`FAILS`] ends it; a string may end only where [`MAY_END`] is set. States are
/// the inner nodes of the tree. No code is shorter than 5 bits, so no step emits twice.
#[must_use]
pub fn kernel_table() -> Box<[u32; 4096]> {
    let leaves = leaves();
    let inner: BTreeSet<Node> = leaves.keys().flat_map(|leaf| leaf.ancestors()).collect();
    // The root sorts first.
    let states: BTreeMap<Node, u32> = inner.into_iter().zip(0..).collect();
    let mut table = Box::new([FAILS; 4096]);
    let steps = states.keys().flat_map(|from| (0..16).map(move |nibble| (*from, nibble)));
    for (entry, (from, nibble)) in table.iter_mut().zip(steps) {
        *entry = step(&leaves, &states, from, nibble).unwrap_or(FAILS);
    }
    table
}

/// The entry for one step; none if it fails.
fn step(
    leaves: &BTreeMap<Node, Option<u8>>,
    states: &BTreeMap<Node, u32>,
    from: Node,
    nibble: u64,
) -> Option<u32> {
    let mut at = from;
    let mut entry = 0;
    for shift in (0..4).rev() {
        at = at.child(nibble >> shift & 1);
        if let Some(leaf) = leaves.get(&at) {
            entry |= EMITS | u32::from((*leaf)?) << 8;
            at = Node::ROOT;
        }
    }
    let end = if at.may_end() { MAY_END } else { 0 };
    Some(entry | states.get(&at)? | end)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static TABLE: LazyLock<Box<[u32; 4096]>> = LazyLock::new(kernel_table);

    /// As the kernel side does it.
    fn decode_by_table(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut entry = MAY_END;
        for nibble in coded.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
            entry = TABLE[(entry as usize & 0xff) * 16 + usize::from(nibble)];
            if entry & FAILS != 0 {
                return None;
            }
            if entry & EMITS != 0 {
                out.push(u8::try_from(entry >> 8 & 0xff).unwrap());
            }
        }
        (entry & MAY_END != 0).then_some(out)
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(coded, &mut out).then_some(out)
    }

    fn encoded(text: &[u8]) -> Vec<u8> {
        // The encoder of strings is private there: a literal without index, and no name.
        let mut block = Vec::new();
        let flags = httlib_hpack::Encoder::HUFFMAN_VALUE;
        httlib_hpack::Encoder::default().encode((Vec::new(), text.to_vec(), flags), &mut block).unwrap();
        let length = block[2] & 0x7f;
        let more = if length < 0x7f { 0 } else { block[3..].iter().position(|b| b & 0x80 == 0).unwrap() + 1 };
        block.split_off(3 + more)
    }

    #[test]
    fn the_code_is_complete() {
        let leaves = leaves();
        let symbols: BTreeSet<u8> = leaves.values().copied().flatten().collect();
        assert_eq!((leaves.len(), symbols.len()), (257, 256));
        assert_eq!(leaves.keys().map(|leaf| 1_u64 << (32 - leaf.depth)).sum::<u64>(), 1 << 32);
        for (symbol, path) in
            [(Some(b'0'), 0), (Some(b'z'), 0x7b), (Some(22), 0x3fff_fffe), (None, 0x3fff_ffff)]
        {
            assert!(leaves.iter().any(|(leaf, s)| (*s, leaf.path) == (symbol, path)), "{symbol:?}");
        }
    }

    #[test]
    fn every_symbol_of_another_encoder() {
        for symbol in 0..=u8::MAX {
            for text in [vec![symbol], vec![symbol; 3], vec![symbol, b'a', symbol]] {
                let coded = encoded(&text);
                assert_eq!(decoded(&coded).as_ref(), Some(&text), "{symbol}");
                assert_eq!(decode_by_table(&coded).as_ref(), Some(&text), "{symbol}");
            }
        }
    }

    #[test]
    fn ends() {
        let cases: [(&[u8], Option<&[u8]>); 8] = [
            (b"", Some(b"")),
            (b"\x1f", Some(b"a")),
            (b"\x18", None),                    // a, then zeros
            (b"\xff", None),                    // 8 bits of padding
            (b"\x1f\xff", None),                // 11 bits
            (b"\xff\xff\xff\xff", None),        // EOS
            (b"\x07\xff\xff\xff\xff", None),    // EOS behind a symbol
            (b"\xff\xff\xff\xf3", Some(b"\n")), // the first of the longest codes
        ];
        for (coded, wanted) in cases {
            assert_eq!(decoded(coded).as_deref(), wanted, "{coded:x?}");
            assert_eq!(decode_by_table(coded).as_deref(), wanted, "{coded:x?}");
        }
    }

    #[test]
    fn the_table_is_of_its_form() {
        let mut reached = BTreeSet::from([0]);
        reached.extend(TABLE.iter().filter(|entry| **entry & FAILS == 0).map(|entry| entry & 0xff));
        assert_eq!(reached.len(), 256);
        for entry in TABLE.iter() {
            assert_eq!(entry >> 19, 0);
            assert!(*entry & EMITS != 0 || entry & 0xff00 == 0);
        }
        let may_end = TABLE.iter().filter(|e| **e & MAY_END != 0).map(|e| e & 0xff).collect::<BTreeSet<_>>();
        assert_eq!(may_end.len(), 8);
    }

    proptest! {
        #[test]
        fn both_decoders_agree(coded in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decoded(&coded), decode_by_table(&coded));
        }

        /// Long codes and ends are rare in random bytes.
        #[test]
        fn both_decoders_agree_on_long_codes(
            coded in proptest::collection::vec(prop_oneof![Just(0xff), any::<u8>()], 0..12),
        ) {
            prop_assert_eq!(decoded(&coded), decode_by_table(&coded));
        }

        #[test]
        fn texts_round_trip(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let coded = encoded(&text);
            prop_assert_eq!(decode_by_table(&coded), Some(text.clone()));
            prop_assert_eq!(decoded(&coded), Some(text));
        }
    }
}
