"""What transformers renders: python render.py TEMPLATE_FILE < conversations.json; one text or null per conversation."""

import json
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

template = Path(sys.argv[1]).read_text(encoding="utf-8")
rendered = []
for messages in json.load(sys.stdin):
    try:
        texts, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=True)
        rendered.append(texts[0])
    except Exception:
        rendered.append(None)
print(json.dumps(rendered))
