//! A block of text and words come in, the lines that hold one of the words come out: most lines of a log are passed over at this speed.

/// One line: how many line ends stand before it in the block, where it begins, and where it ends, without its line end.
pub type Line = (usize, usize, usize);

/// The words by their first two bytes, so that most places of a block are passed over by one look at a bit.
struct Words<'a> {
    pairs: Vec<u64>,
    by_pair: Vec<(u16, &'a [u8])>,
}

impl<'a> Words<'a> {
    fn new(words: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut pairs = vec![0_u64; 1 << 10];
        let mut by_pair: Vec<(u16, &[u8])> = words
            .filter(|word| word.len() >= 2)
            .map(|word| (u16::from_be_bytes([word[0], word[1]]), word))
            .collect();
        by_pair.sort_unstable();
        for (pair, _) in &by_pair {
            pairs[usize::from(pair >> 6)] |= 1 << (pair & 63);
        }
        Self { pairs, by_pair }
    }

    fn begins_at(&self, text: &[u8], pair: u16) -> bool {
        if self.pairs[usize::from(pair >> 6)] >> (pair & 63) & 1 == 0 {
            return false;
        }
        let from = self.by_pair.partition_point(|(known, _)| *known < pair);
        self.by_pair[from..]
            .iter()
            .take_while(|(known, _)| *known == pair)
            .any(|(_, word)| text.starts_with(word))
    }
}

/// The lines of `block` that hold one of `words`, in order. A word has two bytes or more and no line end; shorter ones are not looked for.
#[must_use]
pub fn marked_lines<'a>(block: &[u8], words: impl Iterator<Item = &'a [u8]>) -> Vec<Line> {
    let words = Words::new(words);
    let mut found = Vec::new();
    let mut number = 0;
    let mut start = 0;
    let mut at = 0;
    while at < block.len() {
        let byte = block[at];
        if byte == b'\n' {
            number += 1;
            start = at + 1;
        } else if let Some(next) = block.get(at + 1)
            && words.begins_at(&block[at..], u16::from_be_bytes([byte, *next]))
        {
            let end = block[at..]
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(block.len(), |more| at + more);
            found.push((number, start, end));
            at = end;
            continue;
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(block: &str, words: &[&str]) -> Vec<Line> {
        marked_lines(block.as_bytes(), words.iter().map(|word| word.as_bytes()))
    }

    #[test]
    fn lines_with_a_word_are_found_once_and_counted() {
        let block = "one\nread tcp tcp\n\nno\n connection reset\ntc";
        assert_eq!(
            marked(block, &["tcp ", "reset", "tc"]),
            [(1, 4, 16), (4, 21, 38), (5, 39, 41)]
        );
        assert_eq!(marked(block, &["x", "", "t", "resett"]), []);
        assert_eq!(marked("", &["ab"]), []);
    }

    #[test]
    fn words_of_one_beginning_are_told_apart() {
        let words = ["EOF", "EPIPE", "ECONNRESET", "ECONNREFUSED"];
        assert_eq!(
            marked("ECONN\nECONNREFUSED\nEPIP\nxEOF", &words),
            [(1, 6, 18), (3, 24, 28)]
        );
    }

    #[test]
    fn what_is_found_is_what_a_plain_search_finds() {
        let mut seed = 1_u32;
        let block: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'\n' + (seed >> 24) as u8 % 7
        })
        .take(20_000)
        .collect();
        let words: [&[u8]; 4] = [
            b"\x0b\x0c\x0d",
            b"\x0f\x0f",
            b"\x10\x0b\x0c\x0c",
            b"\x0c\x0e\x10\x0b\x0d",
        ];
        let found: Vec<usize> = marked_lines(&block, words.into_iter())
            .iter()
            .map(|line| line.0)
            .collect();
        let plain: Vec<usize> = block
            .split(|byte| *byte == b'\n')
            .enumerate()
            .filter(|(_, line)| {
                words
                    .iter()
                    .any(|word| line.windows(word.len()).any(|part| part == *word))
            })
            .map(|(number, _)| number)
            .collect();
        assert!(plain.len() > 10);
        assert_eq!(found, plain);
    }
}
