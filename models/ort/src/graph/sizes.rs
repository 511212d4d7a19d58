//! Sizes that several passes need, computed in the graph from what the host feeds.

use super::{Unsupported, edit::Editor, proto::element};

const MASK: &str = "attention_mask";

/// Names of one-element int64 tensors.
pub(crate) struct Sizes {
    /// Sequences of the batch.
    pub(crate) batch: String,
    /// New tokens of each.
    pub(crate) new: String,
    /// Cached and new tokens together: the width of the mask.
    pub(crate) total: String,
}

impl Sizes {
    pub(crate) fn new(editor: &mut Editor) -> Result<Self, Unsupported> {
        let main = ["inputs_embeds", "input_ids"]
            .into_iter()
            .find(|name| editor.has_input(name));
        let Some(main) = main.filter(|_| editor.has_input(MASK)) else {
            return Err(Unsupported::new(
                "it does not take attention_mask and inputs_embeds or input_ids",
            ));
        };
        let shape = editor.op("Shape", &[main], &[]);
        let mask = editor.op("Shape", &[MASK], &[]);
        let (first, second) = (editor.ints(&[0]), editor.ints(&[1]));
        Ok(Self {
            batch: editor.op("Gather", &[&shape, &first], &[]),
            new: editor.op("Gather", &[&shape, &second], &[]),
            total: editor.op("Gather", &[&mask, &second], &[]),
        })
    }

    /// What `GroupQueryAttention` wants: the last position of each sequence, and the width of the cache in use.
    pub(crate) fn lengths(&self, editor: &mut Editor) -> [String; 2] {
        let to = [("to", super::edit::Value::Int(i64::from(element::INT32)))];
        let one = editor.ints(&[1]);
        let last = editor.op("Sub", &[&self.total, &one], &[]);
        let last = editor.op("Cast", &[&last], &to);
        let last = editor.op("Expand", &[&last, &self.batch], &[]);
        let scalar = editor.ints(&[]);
        let total = editor.op("Reshape", &[&self.total, &scalar], &[]);
        [last, editor.op("Cast", &[&total], &to)]
    }
}
