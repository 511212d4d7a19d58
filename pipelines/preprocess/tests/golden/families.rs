//! The image and video processors of each family, patch for patch and tile for tile, by both libraries.

use reelsight_media::{MediaTime, Pts, RgbFrame, TimeBase};
use reelsight_preprocess::{
    Backend, Filter, LlavaOnevisionPreprocess, Normalise, PixelTensor, QwenVlPreprocess, SmolVlmPreprocess,
};

use crate::{picture, reference, sha256};

const NEEDS: &str = "transformers, torchvision";
const BACKENDS: [(&str, Backend); 2] = [("torchvision", Backend::Torchvision), ("pillow", Backend::Pillow)];
const SIZES: [(u32, u32); 9] = [
    (320, 180),
    (180, 320),
    (96, 96),
    (33, 47),
    (500, 41),
    (28, 28),
    (1, 1),
    (640, 479),
    (57, 300),
];

fn frame(width: u32, height: u32, seed: u64) -> RgbFrame {
    RgbFrame {
        width,
        height,
        data: picture(width, height, seed).into(),
        index: 0,
        time: MediaTime {
            pts: Pts(0),
            base: TimeBase::new(1, 25).unwrap(),
        },
        damaged: false,
    }
}

fn digest<'d>(values: impl IntoIterator<Item = &'d [f32]>) -> String {
    let bytes = values.into_iter().flatten().flat_map(|value| value.to_le_bytes());
    sha256(&bytes.collect::<Vec<u8>>())
}

fn pictures(pictures: &[PixelTensor]) -> String {
    digest(pictures.iter().map(|picture| &*picture.data))
}

/// A request to the reference, and what is made here.
struct Case {
    request: String,
    ours: Box<dyn Fn() -> String>,
}

fn cases<C: Copy + 'static>(
    inputs: Vec<C>,
    request: impl Fn(&C) -> String,
    ours: fn(&C) -> String,
) -> impl Iterator<Item = Case> {
    let made: Vec<_> = inputs
        .into_iter()
        .map(|input| Case {
            request: request(&input),
            ours: Box::new(move || ours(&input)),
        })
        .collect();
    made.into_iter()
}

/// All in one run of the reference, which takes seconds to start.
#[test]
fn images_and_videos_equal_those_of_the_reference_processors() {
    let all: Vec<_> = idefics3()
        .chain(qwen_images())
        .chain(qwen_videos())
        .chain(llava_onevision())
        .collect();
    let requests: Vec<_> = all.iter().map(|case| case.request.clone()).collect();
    let Some(answers) = reference(NEEDS, &requests) else {
        return;
    };
    assert_eq!(answers.len(), all.len());
    for (Case { request, ours }, answer) in all.iter().zip(answers) {
        assert_eq!(ours(), answer, "{request}");
    }
}

fn idefics3() -> impl Iterator<Item = Case> {
    let mut inputs = Vec::new();
    for backend in BACKENDS {
        for edges in [(364, 182), (168, 56), (100, 100)] {
            for size in SIZES {
                inputs.push((backend, edges, true, size));
            }
        }
        inputs.extend(SIZES.map(|size| (backend, (168, 56), false, size)));
    }
    cases(
        inputs,
        |((name, _), (longest, side), split, (w, h))| {
            format!("tiles {name} {longest} {side} {} {w} {h} 3", u8::from(*split))
        },
        |&((_, backend), (longest, side), split, (w, h))| {
            let processor = SmolVlmPreprocess {
                image_longest_edge: longest,
                max_image_size: side,
                split,
                backend,
                ..SmolVlmPreprocess::default()
            };
            let tiles = processor.tiles(&frame(w, h, 3)).unwrap();
            assert_eq!(tiles.grid, processor.tile_grid(w, h));
            format!("{} {} {}", tiles.grid.0, tiles.grid.1, pictures(&tiles.pictures))
        },
    )
}

fn qwen_images() -> impl Iterator<Item = Case> {
    let mut inputs = Vec::new();
    for backend in BACKENDS {
        for pixels in [
            (56 * 56, 28 * 28 * 1280),
            (100 * 28 * 28, 120 * 28 * 28),
            (1, 9000),
        ] {
            inputs.extend(SIZES.map(|size| (backend, pixels, size)));
        }
    }
    cases(
        inputs,
        |((name, _), (least, most), (w, h))| format!("qwen {name} {least} {most} {w} {h} 8"),
        |&((_, backend), (min_pixels, max_pixels), (w, h))| {
            let processor = QwenVlPreprocess {
                min_pixels,
                max_pixels,
                backend,
                ..QwenVlPreprocess::images()
            };
            let patches = processor.preprocess(&[&frame(w, h, 8)], 1).unwrap();
            let [t, rows, columns] = patches.grid;
            assert_eq!(patches.grid, processor.grid(w, h, 1).unwrap());
            format!("{t} {rows} {columns} {}", digest([&*patches.data]))
        },
    )
}

fn qwen_videos() -> impl Iterator<Item = Case> {
    let mut inputs = Vec::new();
    for cap in [false, true] {
        for pixels in [(56 * 56, 28 * 28 * 20), (10 * 28 * 28, 12 * 28 * 28)] {
            for frames in [1, 2, 5, 8] {
                inputs.extend([(96, 64), (33, 47), (300, 57)].map(|size| (cap, pixels, frames, size)));
            }
        }
    }
    cases(
        inputs,
        |(cap, (least, most), frames, (w, h))| {
            format!("qwenvideo {} {least} {most} {frames} {w} {h} 4", u8::from(*cap))
        },
        |&(cap, (min_pixels, max_pixels), count, (w, h))| {
            let processor = QwenVlPreprocess {
                min_pixels,
                max_pixels,
                video_tokens: cap.then_some(60),
                ..QwenVlPreprocess::videos()
            };
            let frames: Vec<_> = (0..count).map(|at| frame(w, h, 4 + at as u64)).collect();
            let frames: Vec<_> = frames.iter().collect();
            let groups: Vec<_> = frames
                .chunks(2)
                .map(|group| processor.preprocess(group, count).unwrap())
                .collect();
            let [t, rows, columns] = processor.grid(w, h, count).unwrap();
            assert_eq!(t as usize, groups.len());
            format!(
                "{t} {rows} {columns} {}",
                digest(groups.iter().map(|group| &*group.data))
            )
        },
    )
}

fn llava_onevision() -> impl Iterator<Item = Case> {
    let mut inputs = Vec::new();
    for backend in BACKENDS {
        for images in [1_u64, 2] {
            for side in [42, 98] {
                inputs.extend(SIZES.map(|size| (backend, images, side, size)));
            }
        }
    }
    cases(
        inputs,
        |((name, _), images, side, (w, h))| format!("llava {name} {side} {images} {w} {h} 6"),
        |&((_, backend), images, side, (w, h))| {
            let pins = (1..4).flat_map(|rows| (1..4).map(move |columns| (side * columns, side * rows)));
            let processor = LlavaOnevisionPreprocess {
                side,
                pinpoints: pins.collect(),
                features: side / 14,
                max_tiles: 9,
                filter: Filter::Bicubic,
                normalise: Normalise::CLIP,
                backend,
            };
            let made: Vec<_> = if images == 1 {
                processor.image(&frame(w, h, 6)).unwrap()
            } else {
                let squared = |at| processor.squared(&frame(w, h, 6 + at)).unwrap();
                (0..images).map(squared).collect()
            };
            format!("{} {}", made.len(), pictures(&made))
        },
    )
}

#[test]
fn pictures_that_are_too_narrow_are_refused() {
    let narrow = frame(3, 601, 1);
    assert!(QwenVlPreprocess::images().preprocess(&[&narrow], 1).is_err());
    assert!(QwenVlPreprocess::images().preprocess(&[], 1).is_err());
}
