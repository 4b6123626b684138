"""How much one request, and one person at a time, may ask for."""

from datetime import timedelta

BODY_BYTES = 1_000_000
BODY_DEPTH = 32
MESSAGES = 1_000
STOP_STRINGS = 4
STOP_LENGTH = 200  # characters

CHOICES = 16  # prompts times `n` of one request
LOGPROBS = 20  # likely tokens told for each place
BIASES = 300
TOOLS = 64
EMBEDDED_TEXTS = 64  # of one request
SCHEMA_LENGTH = 10_000  # characters

# What a request gets that does not say `max_tokens`; less where the context ends before.
DEFAULT_MAX_TOKENS = 256
# Requests of one person that are unfinished at the same time; the next one gets 429.
UNFINISHED_PER_PERSON = 64
RETRY_AFTER_SECONDS = 2
# From the hold to the end; then it is cancelled, charged for what it gave, and the rest released.
DEADLINE = timedelta(minutes=10)
# The hold outlives the deadline, so that the last token can still be captured.
HOLD_SLACK = timedelta(minutes=5)

# Keeping an adapter in memory: wei per mebibyte and day, days at most, and how many bytes of a
# worker may be pinned together (half of what its adapters have).
PIN_PRICE = 10**15
PIN_DAYS = 30
PINNED_BYTES = 1 << 30

# Records that are put into a prompt, and how much of a base's context they may take with what
# stands between them.
RETRIEVED_RECORDS = 4
RETRIEVAL_TOKENS = 512
RETRIEVAL_FRACTION = 4

# Wei per token of a base that nobody has priced: 1 OPEN for a million tokens read.
BASE_INPUT_PRICE = 10**12
BASE_OUTPUT_PRICE = 3 * 10**12
