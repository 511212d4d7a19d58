//! One way into every parser of packets, for fuzzing.
//!
//! Bytes are read as a codec, a length and that much extradata, then packets, each after a length of its own. Whatever
//! they say, the parsers must end, and a packet may only refer to packets before it.

use ffmpeg_next::codec::Id;

use crate::classify::Classifier;

const CODECS: [Id; 8] = [
    Id::H264,
    Id::HEVC,
    Id::AV1,
    Id::VP8,
    Id::VP9,
    Id::MPEG1VIDEO,
    Id::MPEG2VIDEO,
    Id::MPEG4,
];

/// Classifies the packets that `data` describes.
///
/// # Panics
/// When a packet claims to refer to itself or a later one.
pub fn parsers(data: &[u8]) {
    let Some((&codec, mut rest)) = data.split_first() else {
        return;
    };
    let extradata = part(&mut rest);
    let mut classifier = Classifier::new(CODECS[usize::from(codec) % CODECS.len()], extradata, false);
    let mut packet = 0_u32;
    while !rest.is_empty() {
        classifier.classify(part(&mut rest), codec >= 128);
        let references = classifier.references().unwrap_or_default();
        assert!(
            references.iter().all(|&other| other < packet),
            "a reference to the future"
        );
        packet += 1;
    }
}

/// The next part of the input: two bytes of length, then as many bytes as there are.
fn part<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some((&[high, low], after)) = rest.split_first_chunk() else {
        *rest = &[];
        return &[];
    };
    let length = usize::from(high) << 8 | usize::from(low);
    let (part, after) = after.split_at(length.min(after.len()));
    *rest = after;
    part
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;

    use super::*;

    fn corpus() -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/parsers");
        let files = fs::read_dir(folder).unwrap();
        files
            .map(|file| fs::read(file.unwrap().path()).unwrap())
            .collect()
    }

    #[test]
    fn the_corpus_is_parsed() {
        let corpus = corpus();
        assert!(corpus.len() >= CODECS.len());
        for input in &corpus {
            parsers(input);
        }
    }

    proptest! {
        #[test]
        fn a_changed_corpus_is_parsed(
            choice in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut input = choice.get(&corpus()).clone();
            for (at, byte) in changes {
                let at = at.index(input.len());
                input[at] = byte;
            }
            parsers(&input);
            parsers(&input[..cut.index(input.len())]);
        }
    }
}
