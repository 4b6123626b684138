"""A page's script outside of a browser, by the Node that the product finds."""

import json
import subprocess
from pathlib import Path
from typing import Any

from ledger.chain.node import node_command

SCRIPTS = Path(__file__).resolve().parents[1] / "static" / "js"
READS = """
globalThis.document = { addEventListener() {} };
let text = "";
for await (const part of process.stdin) text += part;
const given = JSON.parse(text);
const script = await import(process.argv[1]);
"""


def run(script: str, program: str, given: Any) -> Any:
    """What `program` makes of `script` (a module of static/js) and `given`, both JSON: it sets
    `result`."""
    whole = f"{READS}\nlet result;\n{program}\nconsole.log(JSON.stringify(result));"
    done = subprocess.run(
        [*node_command(), "--input-type=module", "-e", whole, str(SCRIPTS / script)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
