//! The committed inputs of a fuzz target, and mutations of them that are the same on every machine, through the target's own
//! check: what a fuzzer once found stays found without one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer inputs say nothing that shorter ones do not.
const BYTES_MAX: usize = 16 << 10;
/// Only what has no bound takes this long, however busy the machine is.
const LONGEST: Duration = Duration::from_secs(90);

/// Runs the files of `corpus/<target>` and `mutations` variants of them, made with the words of `dictionaries/<target>.dict`.
/// `fuzz` is the folder of both.
pub(crate) fn replay(fuzz: &Path, target: &str, mutations: usize, check: impl Fn(&[u8])) {
    let folder = fuzz.join("corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{} holds {} inputs", folder.display(), files.len());
    let inputs: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    for (file, input) in files.iter().zip(&inputs) {
        run(&check, input, &file.display().to_string());
    }
    let words = words(&std::fs::read_to_string(fuzz.join(format!("dictionaries/{target}.dict"))).unwrap());
    let mut random = Random(0x706f_7274_6375_6c6c);
    for number in 0..mutations {
        let at = number % inputs.len();
        let input = mutated(&inputs, at, &words, &mut random);
        run(&check, &input, &format!("mutation {number} of {}", files[at].display()));
    }
}

fn run(check: &impl Fn(&[u8]), input: &[u8], name: &str) {
    let began = Instant::now();
    let shown = input.escape_ascii();
    assert!(catch_unwind(AssertUnwindSafe(|| check(input))).is_ok(), "{name}: b\"{shown}\"");
    assert!(began.elapsed() < LONGEST, "{name} takes {:?}: b\"{shown}\"", began.elapsed());
}

/// One to four changes, each of them small.
fn mutated(inputs: &[Vec<u8>], at: usize, words: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = inputs[at].clone();
    for _ in 0..=random.below(4) {
        let from = random.below(input.len() + 1);
        let to = (from + random.below(32)).min(input.len());
        let other = &inputs[random.below(inputs.len())];
        match random.below(7) {
            0 => input.truncate(from),
            1 => drop(input.drain(from..to)),
            2 => input.insert(from, random.below(256) as u8),
            3 => input.iter_mut().skip(from).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            4 => drop(input.splice(from..to, words[random.below(words.len())].iter().copied())),
            5 => drop(input.splice(from..from, words[random.below(words.len())].iter().copied())),
            _ => {
                let cut = random.below(other.len() + 1);
                input.truncate(from);
                input.extend_from_slice(&other[cut..]);
            }
        }
        input.truncate(BYTES_MAX);
    }
    input
}

/// The words of a libFuzzer dictionary: a quoted word a line.
fn words(dictionary: &str) -> Vec<Vec<u8>> {
    let quoted = |line: &str| Some(line.trim().strip_prefix('"')?.strip_suffix('"')?.to_owned());
    dictionary.lines().filter_map(quoted).map(|word| unescaped(&word)).collect()
}

fn unescaped(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = after;
            }
            (b'\\', [next, after @ ..]) => {
                bytes.push(*next);
                rest = after;
            }
            _ => bytes.push(first),
        }
    }
    bytes
}

/// `splitmix64`: the same numbers everywhere, and no dependency for them.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % end.max(1) as u64) as usize
    }
}
