//! From a rendered template to ids: every mark of a picture becomes its tokens, and is found again among the ids.

use reelsight_text::{Message, Part, Tokenizer};

use crate::{Conversation, FamilyError, FrameSlot, Media, Prompt};

/// What replaces one mark in the rendered text.
#[derive(Debug)]
pub(crate) struct Expansion {
    /// The mark.
    pub(crate) mark: String,
    /// What replaces it.
    pub(crate) text: String,
    /// Byte of `text` with which the first block begins.
    pub(crate) first_block: usize,
    /// In order.
    pub(crate) slots: Vec<SlotPlan>,
    /// Tokens after the visual ones that belong to their block.
    pub(crate) closing: usize,
}

/// A slot that is to be found among the ids.
#[derive(Debug)]
pub(crate) struct SlotPlan {
    /// Visual tokens.
    pub(crate) tokens: usize,
    /// Pictures of the medium.
    pub(crate) pictures: std::ops::Range<usize>,
}

/// The texts that stand for pictures in questions and templates, none of which a user may write.
pub(crate) struct Marks<'a> {
    pub(crate) texts: &'a [&'a str],
}

/// Messages as templates see them. Refuses control tokens in questions and takes them out of answers.
pub(crate) fn messages(
    conversation: &Conversation,
    tokenizer: &Tokenizer,
    marks: &Marks<'_>,
) -> Result<Vec<Message>, FamilyError> {
    let forbidden = |text: &str| {
        let mark = marks.texts.iter().find(|mark| text.contains(**mark));
        tokenizer
            .control_token_in(text)
            .or(mark.copied())
            .map(ToOwned::to_owned)
    };
    let mut messages = Vec::new();
    let asked = |text: &str| match forbidden(text) {
        Some(token) => Err(FamilyError::ControlToken { token }),
        None => Ok(Part::Text {
            text: text.to_owned(),
        }),
    };
    if let Some(system) = &conversation.system {
        messages.push(Message {
            role: "system",
            content: vec![asked(system)?],
        });
    }
    for turn in &conversation.turns {
        let shown = turn.media.iter().map(|medium| match medium {
            Media::Image { .. } => Part::Image,
            Media::Video(_) => Part::Video,
        });
        let mut content: Vec<_> = shown.collect();
        if !turn.question.is_empty() || content.is_empty() {
            content.push(asked(&turn.question)?);
        }
        messages.push(Message {
            role: "user",
            content,
        });
        if let Some(answer) = &turn.answer {
            // A model can spell out a control token letter by letter; its answer must not act as one.
            let mut text = answer.clone();
            while let Some(token) = forbidden(&text) {
                text = text.replace(&token, "");
            }
            messages.push(Message {
                role: "assistant",
                content: vec![Part::Text { text }],
            });
        }
    }
    Ok(messages)
}

/// Replaces the marks of `text` in order and tokenizes. `visual` are the ids that embeddings replace.
pub(crate) fn lay_out(
    tokenizer: &Tokenizer,
    text: &str,
    bos: Option<&str>,
    expansions: &[Expansion],
    visual: &[u32],
) -> Result<Prompt, FamilyError> {
    let (text, places) = expand(text, expansions)?;
    let add_special = bos.is_none_or(|bos| !text.starts_with(bos));
    let (ids, offsets) = tokenizer.encode_with_offsets(&text, add_special)?;
    let mut frames = Vec::new();
    for (medium, (expansion, place)) in expansions.iter().zip(places).enumerate() {
        let from = place + expansion.first_block;
        let mut start = offsets.partition_point(|&(start, _)| start < from);
        for slot in &expansion.slots {
            let visual = run(&ids, start, slot.tokens, visual)?;
            let end = (visual.end + expansion.closing).min(ids.len());
            frames.push(FrameSlot {
                block: start..end,
                visual,
                medium,
                pictures: slot.pictures.clone(),
            });
            start = end;
        }
    }
    Ok(Prompt {
        ids,
        frames,
        ..Prompt::default()
    })
}

/// The text with its marks replaced, and where each replacement begins.
fn expand(text: &str, expansions: &[Expansion]) -> Result<(String, Vec<usize>), FamilyError> {
    let mut out = String::with_capacity(text.len());
    let mut places = Vec::with_capacity(expansions.len());
    let mut rest = text;
    for expansion in expansions {
        let Some((before, after)) = rest.split_once(expansion.mark.as_str()) else {
            return Err(FamilyError::config(
                "chat_template.jinja",
                format!("it does not put {} where a picture belongs", expansion.mark),
            ));
        };
        out.push_str(before);
        places.push(out.len());
        out.push_str(&expansion.text);
        rest = after;
    }
    // A mark that is left would become a visual token without a picture.
    if let Some(expansion) = expansions.iter().find(|expansion| rest.contains(&expansion.mark)) {
        return Err(FamilyError::config(
            "chat_template.jinja",
            format!("it puts {} where no picture belongs", expansion.mark),
        ));
    }
    out.push_str(rest);
    Ok((out, places))
}

/// The next `len` visual ids from `start` on.
fn run(ids: &[u32], start: usize, len: usize, visual: &[u32]) -> Result<std::ops::Range<usize>, FamilyError> {
    let is_visual = |id: &u32| visual.contains(id);
    let first = ids[start..].iter().position(is_visual).map(|at| start + at);
    let found = first.map(|first| first..first + len);
    found
        .filter(|range| {
            ids.get(range.clone())
                .is_some_and(|run| run.iter().all(is_visual))
        })
        .ok_or_else(|| FamilyError::config("tokenizer.json", "image tokens do not survive tokenization"))
}
