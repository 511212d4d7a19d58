//! Stable reasons: what `ErrorInfo.reason` may say. Clients match on these, never on messages.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $($(#[$doc])* pub const $name: &str = stringify!($name);)+
        /// Every reason of this table.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

reasons! {
    /// A field of the request is wrong; `BadRequest` names it.
    INVALID_REQUEST,
    /// The message is larger than the server takes.
    MESSAGE_TOO_LARGE,
    /// The bytes are not the message that the method takes.
    MESSAGE_MALFORMED,
    /// There is no such service or method on this listener.
    UNKNOWN_METHOD,
    /// What the request names does not exist.
    NOT_FOUND,
    /// The `request_id` was used for a different request.
    REQUEST_ID_REUSED,
    /// Nothing answers at the source's address, or it has no such resource.
    SOURCE_UNREACHABLE,
    /// The source wants credentials that the request does not have.
    SOURCE_AUTH_FAILED,
    /// No trustworthy TLS connection to the source.
    SOURCE_TLS,
    /// The source is too slow.
    SOURCE_TIMEOUT,
    /// The operator's policy forbids this source.
    SOURCE_BLOCKED_BY_POLICY,
    /// More bytes than the server takes.
    SOURCE_TOO_LARGE,
    /// More media time or frames than the server takes.
    SOURCE_TOO_LONG,
    /// The file behind a session is not the one that it was made from, or a source changed while it was read.
    SOURCE_CHANGED,
    /// There is no file at the path.
    SOURCE_NOT_FOUND,
    /// The path leads to a directory.
    SOURCE_IS_DIRECTORY,
    /// The file is there but cannot be read.
    SOURCE_UNREADABLE,
    /// No bytes.
    MEDIA_EMPTY,
    /// A still image, a text, a playlist, noise.
    NOT_A_VIDEO,
    /// More tracks than the server takes.
    TRACK_LIMIT,
    /// The decoder failed in a way that is not the file's fault.
    DECODER_FAILED,
    /// The bytes are damaged.
    MEDIA_CORRUPT,
    /// There is no picture in it.
    NO_VIDEO_TRACK,
    /// A codec that this build cannot decode.
    CODEC_UNSUPPORTED,
    /// Wider, higher or more pixels than the server decodes.
    RESOLUTION_LIMIT,
    /// The decoder took too long.
    DECODER_TIMEOUT,
    /// The process that decoded the video died; nothing else was touched.
    DECODER_CRASHED,
    /// Decoding the video takes more memory than the server allows.
    DECODER_MEMORY,
    /// The server's system cannot lock decoders in, so it takes no sources from strangers.
    SANDBOX_UNAVAILABLE,
    /// Prompt and video do not fit into the model's context.
    CONTEXT_EXCEEDED,
    /// The server has no such model, or none at all.
    MODEL_NOT_LOADED,
    /// The model computes what is not a number: its weights, or this precision of them, are broken.
    MODEL_BROKEN,
    /// The JSON schema is no schema, is too large, or has what cannot be enforced.
    SCHEMA_INVALID,
    /// The answer ended before it was valid JSON.
    SCHEMA_UNSATISFIED,
    /// The device has no memory left.
    DEVICE_MEMORY,
    /// As many asks run and wait as the server takes.
    QUEUE_FULL,
    /// A quota other than the queue is used up.
    QUOTA_EXCEEDED,
    /// The session's time is over.
    SESSION_EXPIRED,
    /// The upload ended before its last byte.
    UPLOAD_INCOMPLETE,
    /// The chunk does not begin where the upload stands.
    UPLOAD_OFFSET_MISMATCH,
    /// Another connection writes to the same upload.
    UPLOAD_IN_PROGRESS,
    /// crc32c or sha256 differ from what was announced.
    DIGEST_MISMATCH,
    /// The deadline passed while the request waited.
    DEADLINE_BEFORE_START,
    /// The deadline passed while the request was worked on.
    DEADLINE_EXCEEDED,
    /// The caller went away or cancelled.
    CANCELLED,
    /// The client did not read its stream for too long.
    CLIENT_TOO_SLOW,
    /// The server shuts down; another one, or the same one later, will answer.
    DRAINING,
    /// The server was restarted while the operation ran.
    SERVER_RESTARTED,
    /// The operation is still running.
    OPERATION_RUNNING,
    /// A bug or a broken machine; the log knows more.
    INTERNAL,
}
