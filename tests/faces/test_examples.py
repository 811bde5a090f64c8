"""The examples run, end well, say what they show, and leave nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SHOWN = {
    "card_status.py": ["before:  False, None\ncalled:  True, None\nrunning: True, {'phase': 'asking the bank'}", "ended:   False, {'success': False, 'errors': ['Credit expire date not given']}", "the first is the same", "nobody:  False, None", "peek:    [5, 9, 3, 3, 9, 3]\npage:    [3, 3]", "3,006 in all, 6 in the queue low", "failed:  [0, 500, 1000, 1500, 2000, 2500], as ['no such metric: 0']", "monitor: 6 failed in metrics, 0 in low", "queue:   metrics: 2,994 completed, 6 failed", "retried: 6"],
    "export_topic.py": ["now:    Ruby: A: 1;B: 2;C: 3", "later:  Ruby: A: 1;B: 2;C: 3", "piece A: completed", "retried: Ruby: A: 1;B: 2;C: 3", "runs of the pieces: [1, 2, 1]", "nested: 'Ruby: A: 1;B: 2;C: 3\\nAn empty topic: '"],
    "fulfilment.py": ["now:     charge of subscription 1, no colour", "charge_credit_card → set_up_subscription → send_email_receipt", "charge_credit_card → set_up_red_subscription → send_email_receipt", "later:   charge of subscription 3, blue\n         charge_credit_card → SetUpBlueSubscription → send_email_receipt", "found:   {'subscription_id': 2,", "failed:  failed at main/set_up_subscription", "ConnectionError: the provisioning service does not answer, with", "set_up_subscription failed/1, send_email_receipt pending/0", "charge_credit_card completed/1, set_up_subscription completed/2, send_email_receipt completed/1", "retried main/set_up_subscription by ann", "undone:  charge of subscription 4 was given back", "once:    two starts"],
    "now_or_later_objects.py": ["good morning Ada, right here", "later:  good morning Ada, in the background\n        delivered to Ada", "now_or_later_objects.SomeProcess.call with", "the child says: hello 1/3, in the background", "waited for Ada", "_secret cannot run later: it is private"],
    "now_or_later.py": ["right here", "in the background, attempt 2", "ConnectionError", "hello Ada, hello Grace", "hello asyncio", "argument since"],
    "parts_celery.py": ["finished: 8 words in 5 parts"],
    "parts_piecework.py": ["failed: 50 rows in 5 parts", "part 1: integer division or modulo by zero", "finished: 50 rows in 5 parts"],
    "parts_processes.py": ["finished: 20 parts, 20 answers, 1 of them the last", "the sum of the squares is 2470"],
    "parts_rq.py": ["finished: TO BE OR NOT"],
    "web_app.py": ["lifespan.startup.complete", "hello ada", "web polled", "lifespan.shutdown.complete"],
}  # fmt: skip


def test_every_example_is_run_here() -> None:
    assert sorted(SHOWN) == sorted(path.name for path in EXAMPLES.glob("*.py"))


OWN_FILE = re.compile(r'f"sqlite:///\{[^"]*\}(?:/jobs\.db)?"')


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_shows_what_it_promises(
    name: str, store_url: str, shelf: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """On another shelf nothing is changed but the URL."""
    source = (EXAMPLES / name).read_text("utf-8")
    (own_file,) = OWN_FILE.findall(source)
    arguments = [request.getfixturevalue("redis").url] if name == "parts_rq.py" else []
    program = tmp_path / name
    program.write_text(source if shelf == "sqlite" else source.replace(own_file, repr(store_url)), "utf-8")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), *arguments],
        cwd=here,
        env={
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TMPDIR": str(scratch),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for said in SHOWN[name]:
        assert said in done.stdout
    assert list(scratch.iterdir()) == []
    assert list(here.iterdir()) == []
