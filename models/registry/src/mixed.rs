//! Whether the files of a folder are of one model.

use std::path::Path;

use serde_json::Value;

use crate::{Dim, Port, RegistryError, Role, choose::Graphs};

/// Compares what graphs and configuration say of the same sizes, as far as both say it.
pub(crate) fn check(root: &Path, config: &Value, graphs: &Graphs) -> Result<(), RegistryError> {
    let Some(decoder) = graphs.get(&Role::Decoder).map(|graph| &graph.summary) else {
        return Ok(());
    };
    let text = Some(&config["text_config"]).filter(|text| text.is_object());
    let text = text.unwrap_or(config);
    let said = |name: &str| text[name].as_i64();
    let output = |role: Role| graphs.get(&role).and_then(|graph| graph.summary.outputs.first());
    let embeds = decoder.input("inputs_embeds");
    if embeds.is_none() && decoder.input("input_ids").is_none() && !decoder.inputs.is_empty() {
        return Err(mixed(
            root,
            "the decoder takes neither inputs_embeds nor input_ids",
        ));
    }
    if embeds.is_some() && !graphs.contains_key(&Role::EmbedTokens) {
        return Err(RegistryError::MissingFiles {
            path: root.to_owned(),
            files: vec!["onnx/embed_tokens.onnx".into()],
        });
    }
    let logits = decoder.outputs.iter().find(|port| port.name == "logits");
    let cached = decoder
        .inputs
        .iter()
        .filter(|port| {
            let inner = port.name.strip_prefix("past_key_values.");
            inner.is_some_and(|inner| inner.split_once('.').is_some_and(|(_, part)| part == "key"))
        })
        .count();
    let layers = i64::try_from(cached).ok().filter(|&layers| layers > 0);
    let pairs = [
        ("width of embeddings", embeds.and_then(width), said("hidden_size")),
        (
            "width of embeddings",
            output(Role::EmbedTokens).and_then(width),
            said("hidden_size"),
        ),
        (
            "width of image features",
            output(Role::VisionEncoder).and_then(width),
            embeds.and_then(width),
        ),
        ("number of layers", layers, said("num_hidden_layers")),
        (
            "size of the vocabulary",
            logits.and_then(width),
            said("vocab_size"),
        ),
    ];
    for (what, graph, other) in pairs {
        if let (Some(graph), Some(other)) = (graph, other)
            && graph != other
        {
            return Err(mixed(
                root,
                format!("the {what} is {graph} in one graph and {other} elsewhere"),
            ));
        }
    }
    Ok(())
}

/// The last axis.
fn width(port: &Port) -> Option<i64> {
    match port.dims.last() {
        Some(Dim::Fixed(size)) => Some(*size),
        _ => None,
    }
}

fn mixed(root: &Path, why: impl Into<String>) -> RegistryError {
    RegistryError::Mixed {
        path: root.to_owned(),
        why: why.into(),
    }
}
