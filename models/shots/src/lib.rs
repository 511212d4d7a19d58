//! Shot changes by a network.
//!
//! Owns [`TransNetV2`], a [`ShotDetector`](reelsight_sampling::ShotDetector) over an ONNX graph that
//! `models/training/convert/transnetv2.py` makes from a published wheel. Does not own decoding: pictures are pushed.
//! Starts the one thread of its ONNX Runtime session.
//!
//! ```no_run
//! use reelsight_media::CancelFlag;
//! use reelsight_sampling::ShotDetector as _;
//! use reelsight_shots::TransNetV2;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut detector = Box::new(TransNetV2::load("models/zoo/transnetv2".as_ref(), 2, CancelFlag::new())?);
//! let (width, height) = detector.size();
//! detector.push(&vec![0; (width * height * 3) as usize])?;
//! let transitions = detector.finish(0.5)?;
//! # Ok(())
//! # }
//! ```

mod manifest;
mod transnet;

pub use manifest::{MANIFEST_FILE, ShotsError};
pub use transnet::TransNetV2;
