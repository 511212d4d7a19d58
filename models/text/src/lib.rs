//! Tokenizer, chat template, stop strings, streaming detokeniser.
