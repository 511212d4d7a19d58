//! Pixels and time: the vocabulary that every pipeline crate shares.
//!
//! Owns [`RgbFrame`], exact media time ([`Pts`], [`TimeBase`], [`MediaTime`]), the [`Timeline`] of a video
//! (the presentation times of all its frames, known before anything is decoded), the [`FrameSource`] trait by
//! which frames reach an engine, the [`ByteSource`] trait by which bytes reach a demuxer, and the byte-bounded channel that lets encoding begin with the first frame.
//! Does not own: how frames are found ([`reelsight-decode`]) or chosen ([`reelsight-sampling`]). Starts no threads.
//!
//! ```
//! use reelsight_media::{Pts, TimeBase, Timeline};
//! let timeline = Timeline::new(TimeBase::new(1, 25).unwrap(), vec![0, 1, 2, 3], 4).unwrap();
//! assert_eq!(timeline.index_at_secs(0.05), 1);
//! assert_eq!(timeline.duration_secs(), 0.16);
//! ```
//!
//! [`reelsight-decode`]: ../reelsight_decode/index.html
//! [`reelsight-sampling`]: ../reelsight_sampling/index.html

mod bytes;
mod cancel;
mod channel;
mod frame;
mod source;
mod time;
mod timeline;

pub use bytes::{ByteSource, ReadFailure, cancelled};
pub use cancel::CancelFlag;
pub use channel::{ByteReceiver, ByteSender, Closed, Weighted, byte_channel};
pub use frame::RgbFrame;
pub use source::{FrameError, FrameErrorKind, FrameSource, IterSource};
pub use time::{MediaTime, Pts, TimeBase, label_from_secs};
pub use timeline::{Timeline, TimelineError};
