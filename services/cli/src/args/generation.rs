//! How an answer is generated, and what it must look like.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use reelsight_proto::v1::GenerationConfig;

use crate::exit::Failure;

#[derive(Debug, ClapArgs)]
pub(crate) struct GenerationArgs {
    /// Longest answer in tokens.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Makes sampling repeatable.
    #[arg(long)]
    seed: Option<u64>,
    /// Draw from the K likeliest tokens.
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Draw from the likeliest tokens that have this probability together.
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Draw from tokens at least this share as likely as the likeliest.
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Draw from the likeliest tokens that have this share of the entropy together.
    #[arg(long, value_name = "H")]
    top_h: Option<f32>,
    /// Above 1: tokens of prompt and answer get less likely.
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f32>,
    /// Above 0: a token of the answer gets less likely each time.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Above 0: a token of the answer gets less likely, once.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// End the answer before this text; repeat for several.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Report how likely each token was, with this many alternatives (in the JSON document).
    #[arg(long, value_name = "N")]
    logprobs: Option<u32>,
    /// Answer with JSON that satisfies the JSON Schema in this file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["choice", "yes_no", "stop"])]
    schema: Option<PathBuf>,
    /// One of the texts that the answer is chosen from, by its probability; repeat for each.
    #[arg(long, value_name = "TEXT", conflicts_with = "yes_no")]
    choice: Vec<String>,
    /// Compare choices by log-probability per token: does not favour short ones.
    #[arg(long, requires = "choice")]
    choice_per_token: bool,
    /// Answer Yes or No, with the probability of each.
    #[arg(long)]
    yes_no: bool,
}

impl GenerationArgs {
    /// As the contract has it.
    pub(crate) fn config(&self) -> Result<GenerationConfig, Failure> {
        let json_schema = match &self.schema {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                Failure::input("SCHEMA_UNREADABLE", format!("read {}: {error}", path.display()))
            })?,
        };
        if self.schema.is_some() && json_schema.trim().is_empty() {
            return Err(Failure::input("SCHEMA_INVALID", "the schema's file is empty"));
        }
        Ok(GenerationConfig {
            model: String::new(),
            max_tokens: self.max_tokens.unwrap_or_default(),
            temperature: Some(self.temperature),
            top_p: self.top_p,
            seed: self.seed,
            stop: self.stop.clone(),
            json_schema,
            top_k: self.top_k.unwrap_or_default(),
            min_p: self.min_p,
            top_h: self.top_h,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            logprobs: self.logprobs,
            choices: self.choice.clone(),
            choices_per_token: self.choice_per_token,
            yes_no: self.yes_no,
        })
    }
}
