"""Numbers that keep one builder from taking everything."""

RUNS_PER_BUILDER = 3  # queued or running at one time
CHECKED_ROWS = 3_000  # records that the wizard looks at before a run; the worker checks all
SHOWN_FINDINGS = 200  # kept with a run for its page
LOG_TAIL_BYTES = 20_000
# Wei per token for a model whose owner has set no price yet: 0.00001 and 0.00003 OPEN.
INPUT_PRICE = 10**13
OUTPUT_PRICE = 3 * 10**13
HIGHEST_PRICE = 10**18  # wei per token
