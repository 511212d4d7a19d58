//! What the two sides say to each other. The parent trusts nothing that comes back: lengths, offsets and numbers are
//! checked where they are used.

mod convert;
mod error;

pub(crate) use convert::nanos;

/// To the worker.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ToWorker {
    #[prost(oneof = "Order", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(crate) order: Option<Order>,
}

/// What the worker is told.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Order {
    /// Index a source. Carries the source's descriptor.
    #[prost(message, tag = "1")]
    Index(IndexOrder),
    /// The next bytes of a packet index; sent before [`Order::Read`].
    #[prost(bytes, tag = "2")]
    Part(Vec<u8>),
    /// Decode frames. Carries the descriptors of the source and of the frame memory.
    #[prost(message, tag = "3")]
    Read(ReadOrder),
    /// A frame was taken out of the frame memory.
    #[prost(message, tag = "4")]
    Release(Release),
    /// Stop the request with this number.
    #[prost(uint64, tag = "5")]
    Cancel(u64),
    /// Try what the sandbox forbids, and say what happened.
    #[prost(message, tag = "6")]
    SelfTest(SelfTestOrder),
    /// Others decode, too, or no longer do.
    #[prost(message, tag = "7")]
    Threads(Threads),
    /// The next frames that are wanted; sent before [`Order::Read`].
    #[prost(message, tag = "8")]
    Wanted(Wanted),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct IndexOrder {
    #[prost(uint64, tag = "1")]
    pub(crate) request: u64,
    #[prost(message, required, tag = "2")]
    pub(crate) source: SourceFacts,
    #[prost(message, required, tag = "3")]
    pub(crate) limits: Limits,
}

/// What stands behind the descriptor that comes with an order.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct SourceFacts {
    /// A socket on which bytes are asked for; a regular file otherwise.
    #[prost(bool, tag = "1")]
    pub(crate) asked_for: bool,
    /// Bytes in all, when that is known.
    #[prost(uint64, optional, tag = "2")]
    pub(crate) len: Option<u64>,
    /// Reading is costly: no more than is needed.
    #[prost(bool, tag = "3")]
    pub(crate) remote: bool,
}

/// [`reelsight_decode::DecodeLimits`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Limits {
    #[prost(uint64, tag = "1")]
    pub(crate) bytes: u64,
    #[prost(double, tag = "2")]
    pub(crate) duration_secs: f64,
    #[prost(uint32, tag = "3")]
    pub(crate) width: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) height: u32,
    #[prost(uint64, tag = "5")]
    pub(crate) pixels: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) tracks: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) frames: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) memory_bytes: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) wall_nanos: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReadOrder {
    #[prost(uint64, tag = "1")]
    pub(crate) request: u64,
    #[prost(message, required, tag = "2")]
    pub(crate) source: SourceFacts,
    #[prost(message, required, tag = "3")]
    pub(crate) options: Options,
    /// Use the index of the request before; otherwise it came in parts.
    #[prost(bool, tag = "4")]
    pub(crate) same_index: bool,
    /// Bytes of the frame memory.
    #[prost(uint64, tag = "6")]
    pub(crate) memory_bytes: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) threads: u64,
}

/// [`reelsight_decode::DecodeOptions`], without the number of threads, which is in the order.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Options {
    #[prost(uint64, tag = "2")]
    pub(crate) budget_bytes: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) size: Option<Size>,
    #[prost(bool, tag = "4")]
    pub(crate) scale_in_yuv: bool,
    #[prost(message, required, tag = "5")]
    pub(crate) limits: Limits,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Size {
    #[prost(uint32, tag = "1")]
    pub(crate) width: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) height: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Wanted {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) frames: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Release {
    #[prost(uint64, tag = "1")]
    pub(crate) request: u64,
    /// Where the frame began.
    #[prost(uint64, tag = "2")]
    pub(crate) offset: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Threads {
    #[prost(uint64, tag = "1")]
    pub(crate) request: u64,
    /// Threads that may decode from now on.
    #[prost(uint64, tag = "2")]
    pub(crate) threads: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct SelfTestOrder {
    #[prost(uint64, tag = "1")]
    pub(crate) request: u64,
    /// An allocation of so many bytes must fail.
    #[prost(uint64, tag = "2")]
    pub(crate) memory_bytes: u64,
}

/// To the parent.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FromWorker {
    #[prost(oneof = "Reply", tags = "1, 2, 3, 4, 5")]
    pub(crate) reply: Option<Reply>,
}

/// What the worker says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Reply {
    /// Once, before anything else.
    #[prost(message, tag = "1")]
    Ready(Ready),
    /// The next bytes of a packet index.
    #[prost(bytes, tag = "2")]
    Part(Vec<u8>),
    /// A frame lies in the frame memory.
    #[prost(message, tag = "3")]
    Frame(Frame),
    /// The request is over.
    #[prost(message, tag = "4")]
    Ended(Ended),
    /// What the sandbox did about one thing that it should forbid.
    #[prost(message, tag = "5")]
    Check(Check),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ready {
    /// Address space in use before any request.
    #[prost(uint64, tag = "1")]
    pub(crate) base_bytes: u64,
    /// What could not be enforced, in words.
    #[prost(string, repeated, tag = "2")]
    pub(crate) missing: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Frame {
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) offset: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) width: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) height: u32,
    #[prost(bool, tag = "5")]
    pub(crate) damaged: bool,
    #[prost(message, required, tag = "6")]
    pub(crate) stats: Stats,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ended {
    #[prost(uint64, tag = "1")]
    pub(crate) request: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) error: Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub(crate) stats: Option<Stats>,
    /// CPU time of the process since it began.
    #[prost(uint64, tag = "4")]
    pub(crate) cpu_nanos: u64,
}

/// [`reelsight_decode::DecodeStats`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Stats {
    #[prost(uint64, tag = "1")]
    pub(crate) packets_seen: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) packets_decoded: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) packets_dropped: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) frames_decoded: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) frames_emitted: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) frames_damaged: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) seeks: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) intervals: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) redone: u64,
    #[prost(uint64, tag = "10")]
    pub(crate) demux_nanos: u64,
    #[prost(uint64, tag = "11")]
    pub(crate) decode_nanos: u64,
    #[prost(uint64, tag = "12")]
    pub(crate) convert_nanos: u64,
    #[prost(uint64, tag = "13")]
    pub(crate) resize_nanos: u64,
    #[prost(uint64, tag = "14")]
    pub(crate) cpu_nanos: u64,
}

/// [`reelsight_decode::DecodeError`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Error {
    /// Its stable reason.
    #[prost(string, tag = "1")]
    pub(crate) reason: String,
    /// Its text fields, in order.
    #[prost(string, tag = "2")]
    pub(crate) text: String,
    /// Its number fields, in order.
    #[prost(uint64, repeated, tag = "3")]
    pub(crate) numbers: Vec<u64>,
}

/// One line of a self-test.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Check {
    #[prost(string, tag = "1")]
    pub(crate) what: String,
    #[prost(bool, tag = "2")]
    pub(crate) holds: bool,
    #[prost(string, tag = "3")]
    pub(crate) detail: String,
}
