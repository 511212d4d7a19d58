//! One module per model family: tensor names, shapes, prompt layout.
