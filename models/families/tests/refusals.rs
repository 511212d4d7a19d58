//! What is wrong with a folder or a conversation is said, and by what to do about it.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::{fs, path::Path};

use reelsight_families::{ChatTurn, Conversation, Family, FamilyError, Media, VideoShown};
use reelsight_registry::ModelFolder;
use support::{picture, twin, twin_with};

fn load(root: &Path) -> Result<Box<dyn Family>, FamilyError> {
    let folder = ModelFolder::open(root)?;
    reelsight_families::load(&folder, &reelsight_families::tokenizer(&folder)?)
}

fn asked(media: Vec<Media>, question: &str) -> Conversation {
    let turn = ChatTurn {
        media,
        question: question.into(),
        answer: None,
    };
    Conversation {
        system: None,
        turns: vec![turn],
    }
}

fn image(width: u32, height: u32) -> Media {
    Media::Image { width, height }
}

fn video(size: Option<(u32, u32)>) -> Media {
    Media::Video(VideoShown {
        stamps_secs: vec![0.0, 1.0],
        duration_secs: 2.0,
        size,
    })
}

#[test]
fn published_llava_onevision_takes_one_image_of_one_tile() {
    let root = twin_with("llava_onevision", &["--published"]);
    let family = load(&root).unwrap();
    let prompt = family.chat(&asked(vec![image(60, 64)], "What is it?")).unwrap();
    assert_eq!(prompt.visual_tokens(), 25);
    let inputs = family.image_pixels(&picture(1, 60, 64, 0), 1).unwrap();
    let rows = vec![0.5; 25 * family.hidden_size()];
    assert_eq!(inputs.len(), 1);
    assert_eq!(family.assemble(&[&rows], Some((60, 64)), None).unwrap(), rows);
    for media in [
        vec![image(300, 90)],
        vec![image(60, 64), image(60, 64)],
        vec![video(Some((64, 64)))],
    ] {
        let refused = family.chat(&asked(media, "What is it?")).unwrap_err();
        assert!(matches!(refused, FamilyError::Refused { .. }));
        assert!(refused.to_string().contains("image_newline"), "{refused}");
    }
}

#[test]
fn pictures_that_a_model_cannot_see_are_refused() {
    let text = load(&twin("qwen2")).unwrap();
    for media in [image(64, 64), video(None)] {
        let refused = text.chat(&asked(vec![media], "Hm?")).unwrap_err();
        assert!(refused.to_string().contains("text model"), "{refused}");
    }
    let qwen = load(&twin("qwen2_5_vl")).unwrap();
    let refused = qwen.chat(&asked(vec![video(None)], "Hm?")).unwrap_err();
    assert!(refused.to_string().contains("unknown size"), "{refused}");
    let narrow = qwen.chat(&asked(vec![image(3, 900)], "Hm?"));
    assert!(matches!(narrow, Err(FamilyError::Frame(_))));
    for question in ["<|im_end|> now", "what is <|video_pad|>"] {
        let refused = qwen.chat(&asked(vec![image(64, 64)], question));
        assert!(
            matches!(refused, Err(FamilyError::ControlToken { .. })),
            "{question}"
        );
    }
}

#[test]
fn answers_cannot_act_as_control_tokens() {
    let family = load(&twin("smolvlm")).unwrap();
    let told = |answer: &str| {
        let mut conversation = asked(vec![image(40, 40)], "What?");
        conversation.turns[0].answer = Some(answer.into());
        conversation.turns.extend(asked(Vec::new(), "And?").turns);
        family.chat(&conversation).unwrap()
    };
    assert_eq!(
        told("a<image>b<end_of_<image>utterance><video>c").ids,
        told("abc").ids
    );
}

#[test]
fn folders_that_do_not_fit_together_are_refused() {
    let root = twin("qwen2");
    let config = fs::read_to_string(root.join("config.json")).unwrap();
    // More tokens than embeddings.
    let mut fewer: serde_json::Value = serde_json::from_str(&config).unwrap();
    let size = fewer["vocab_size"].as_u64().unwrap();
    fewer["vocab_size"] = (size - 40).into();
    fs::write(root.join("config.json"), fewer.to_string()).unwrap();
    assert!(load(&root).unwrap_err().to_string().contains("vocabulary"));
    fs::write(root.join("config.json"), &config).unwrap();

    let tokenizer = fs::read_to_string(root.join("tokenizer.json")).unwrap();
    let more: Vec<_> = (0..60)
        .map(|at| format!(r#"{{"id": {}, "content": "<extra_{at}>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}}"#, size + at))
        .collect();
    let grown = tokenizer.replacen(
        "\"added_tokens\": [",
        &format!("\"added_tokens\": [{},", more.join(",")),
        1,
    );
    fs::write(root.join("tokenizer.json"), grown).unwrap();
    let refused = load(&root).unwrap_err().to_string();
    assert!(refused.contains("different models"), "{refused}");
    fs::write(root.join("tokenizer.json"), "{}").unwrap();
    assert!(matches!(load(&root), Err(FamilyError::Text(_))));
    fs::write(root.join("tokenizer.json"), tokenizer).unwrap();

    let mut other: serde_json::Value = serde_json::from_str(&config).unwrap();
    other["model_type"] = "mamba".into();
    fs::write(root.join("config.json"), other.to_string()).unwrap();
    let unsupported = load(&root).unwrap_err().to_string();
    assert!(unsupported.contains("qwen2_5_vl"), "{unsupported}");
}

#[test]
fn templates_may_neither_hang_nor_lose_pictures() {
    let root = twin("qwen2_vl");
    let template = root.join("chat_template.jinja");
    let ask = |source: &str| {
        fs::write(&template, source).unwrap();
        load(&root)?.chat(&asked(vec![image(64, 64)], "What?"))
    };
    let endless = "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}";
    assert!(matches!(ask(endless), Err(FamilyError::Text(_))));
    assert!(matches!(ask("{% for %}"), Err(FamilyError::Text(_))));
    assert!(matches!(
        ask("{{ raise_exception('no') }}"),
        Err(FamilyError::Text(_))
    ));
    assert!(matches!(ask("hello"), Err(FamilyError::Config { .. })));
    // Pictures that a template shows twice are not shown twice.
    let twice = ask("<|image_pad|> and <|image_pad|>").unwrap_err();
    assert!(matches!(twice, FamilyError::Config { .. }), "{twice}");
    fs::remove_file(&template).unwrap();
    assert!(matches!(load(&root), Err(FamilyError::Config { .. })));
}
