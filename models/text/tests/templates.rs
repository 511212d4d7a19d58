//! Published chat templates against transformers' rendering of them.
#![expect(clippy::unwrap_used, reason = "only tests call the helpers")]

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use reelsight_text::{ChatTemplate, Message, Part};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// Each conversation as transformers renders it; `None` where the template refuses.
fn rendered(template: &Path, conversations: &[Vec<Message>]) -> Vec<Option<String>> {
    let mut child = Command::new(repository().join(".venv/bin/python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render.py"))
        .arg(template)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(conversations).unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn conversations() -> Vec<Vec<Message>> {
    let text = |role, text: &str| Message {
        role,
        content: vec![Part::Text { text: text.into() }],
    };
    let video = |question: &str| Message {
        role: "user",
        content: vec![
            Part::Video,
            Part::Text {
                text: question.into(),
            },
        ],
    };
    let image = Message {
        role: "user",
        content: vec![Part::Image, Part::Text { text: "What?".into() }, Part::Image],
    };
    vec![
        vec![video("What moves?")],
        vec![
            video("What moves?"),
            text("assistant", " A circle. "),
            text("user", "Where?"),
        ],
        vec![text("system", "Be brief.\n"), video("<b>\"quoted\" & é 🙂</b>")],
        vec![image.clone(), text("assistant", "<think>hm</think>\n\nA"), image],
        vec![text("user", "  no video  ")],
        vec![text("assistant", "nobody asked")],
        vec![text("user", "one"), text("system", "too late")],
    ]
}

fn compare(template: &Path) {
    let source = std::fs::read_to_string(template).unwrap();
    let ours = ChatTemplate::new(source, Vec::new()).unwrap();
    let conversations = conversations();
    for (messages, expected) in conversations.iter().zip(rendered(template, &conversations)) {
        assert_eq!(ours.render(messages, true).ok(), expected, "{messages:?}");
    }
}

#[test]
fn a_large_published_template_renders_as_in_transformers() {
    let shared = std::env::var_os("REELSIGHT_SHARED").map_or(repository().join("../shared"), PathBuf::from);
    let template = shared.join("data/onnx-graphs/qwen3.5-0.8b/chat_template.jinja");
    if !template.is_file() {
        eprintln!("skipped: {} is not there", template.display());
        return;
    }
    compare(&template);
}

#[test]
fn white_space_control_renders_as_in_transformers() {
    let source = "{%- if messages[0].role == 'system' %}\n  {{- messages[0].content[0].text | trim }}\n{% endif %}\n\
        {% for message in messages %}\n    {%- set parts = message.content | selectattr('type', 'equalto', 'text') %}\n\
        {# a comment #}\n{{ loop.index }}:{{ message.role.upper() }}\n    {% for part in parts %}\n\
        {{ part.text.split(' ')[0].rstrip() | tojson }}{% if not loop.last %}, {% endif %}\n{% endfor %}\n\
        {% endfor %}\n{% if add_generation_prompt %}assistant:{% endif %}\n";
    let path = std::env::temp_dir().join(format!("reelsight-template-{}.jinja", std::process::id()));
    std::fs::write(&path, source).unwrap();
    compare(&path);
}
