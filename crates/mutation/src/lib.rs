//! For tests alone: runs a fuzz entry point over seeds and over pseudo-random changes of them, the same changes each time.
//!
//! libFuzzer is for those who have hours (`./fuzz/run`); this is what every run of the tests does with the same entry points.
//! `COUNTERSIGN_FUZZ_FACTOR=100` makes it a hundred times longer.

use std::path::Path;

/// A small generator of numbers (xorshift) with a fixed start: what fails once fails again.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Default for Numbers {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Numbers {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number under `bound`; 0 when there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.number() % bound).unwrap_or_default()
    }
}

/// The pieces that one character each of `text` is.
#[must_use]
pub fn characters(text: &str) -> Vec<String> {
    text.chars().map(String::from).collect()
}

/// The files of a folder in the order of their names.
///
/// # Panics
///
/// When it cannot be read or holds fewer than three files: a corpus that went missing is no corpus.
#[must_use]
#[expect(clippy::expect_used, reason = "for tests alone")]
pub fn corpus(folder: impl AsRef<Path>) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of the corpus")
        .map(|entry| entry.expect("an entry of the corpus").path())
        .collect();
    files.sort();
    assert!(files.len() >= 3, "a corpus of {} files", files.len());
    files
        .iter()
        .map(|file| std::fs::read(file).expect("a file of the corpus"))
        .collect()
}

/// Calls `target` with every seed, and `rounds` times in all with a changed one. `pieces` are what means something to the parser:
/// its delimiters, its words, values at a limit.
///
/// # Panics
///
/// When there is no seed, and when `target` does.
pub fn run<S: AsRef<[u8]>, P: AsRef<[u8]>>(
    mut target: impl FnMut(&[u8]),
    seeds: &[S],
    pieces: &[P],
    rounds: usize,
) {
    assert!(!seeds.is_empty(), "no seeds");
    let factor: usize = std::env::var("COUNTERSIGN_FUZZ_FACTOR")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    for seed in seeds {
        target(seed.as_ref());
    }
    let mut numbers = Numbers::default();
    let changed = seeds.iter().cycle().take(rounds.saturating_mul(factor));
    for seed in changed {
        target(&mutated(seed.as_ref(), pieces, &mut numbers));
    }
}

/// `seed` with one to five changes: a piece put in, bytes removed, replaced or flipped, a part repeated in another place, the end
/// cut off.
pub fn mutated<P: AsRef<[u8]>>(seed: &[u8], pieces: &[P], numbers: &mut Numbers) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=numbers.below(5) {
        let at = numbers.below(data.len() + 1);
        let end = |longest: usize, numbers: &mut Numbers| {
            (at + 1 + numbers.below(longest)).min(data.len())
        };
        match numbers.below(12) {
            0..=3 => {
                if let Some(piece) = pieces.get(numbers.below(pieces.len())) {
                    data.splice(at..at, piece.as_ref().iter().copied());
                }
            }
            4 | 5 => {
                // Small parts mostly; sometimes whole elements.
                let longest = if numbers.below(3) == 0 { 300 } else { 16 };
                let end = end(longest, numbers);
                data.drain(at..end);
            }
            6 | 7 => {
                let value = numbers.number().to_le_bytes()[0];
                if let Some(byte) = data.get_mut(at) {
                    *byte = value;
                }
            }
            8 => {
                let bit = numbers.below(8);
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            9 | 10 => {
                let longest = if numbers.below(3) == 0 { 900 } else { 40 };
                let end = end(longest, numbers);
                let part = data.get(at..end).unwrap_or_default().to_vec();
                let to = numbers.below(data.len() + 1);
                data.splice(to..to, part);
            }
            _ if numbers.below(4) == 0 => data.truncate(at),
            _ => data.insert(at, numbers.number().to_le_bytes()[0]),
        }
    }
    data
}
