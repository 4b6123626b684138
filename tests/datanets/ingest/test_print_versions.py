"""Records are compared again where the way of comparing changes, so a change raises the version."""

from attribution.translog import canonical
from datanets.ingest.folding import fold
from datanets.ingest.prints import VERSION, prints
from datanets.ingest.similar import near

TEXTS = [
    "Why do leaves turn red in autumn? The tree breaks down its green chlorophyll.",
    "why do LEAVES turn rеd in autumn; the tree breaks down its green chlorophyl!",
    "Почему небо голубое? Воздух рассеивает короткие волны сильнее длинных.",
    "为什么天空是蓝色的？空气对短波的散射比长波更强。",
    "ฝนตกเพราะอะไร ไอน้ำในอากาศเย็นลงและรวมตัวกัน",
    "Is item 12 made of iron, and not of steel?",
    "Is item ۱۲ made of iron, and of steel?",
    "🙂🙂🙂",
    "Which genes are changed in a syndrome of type IIIB?",
    "Which genes are changed in a syndrome of type IIIC?",
    "What does `statistics.stdev()` do with a list of numbers in Python?",
    "What does `statistics.pstdev()` do with a list of numbers in Python?",
]
# Of each version what it makes of these texts. A change of folding, prints or verdicts changes the
# value: raise VERSION and write its value here, and the older prints are made again.
KNOWN = {3: "480831d03bdf9c6c22ac9bdf10abf544d22f78245c9943576bea7b18c93ca7ad"}


def test_what_this_version_makes_of_a_text_has_not_changed() -> None:
    folded = [fold({"text": text}) for text in TEXTS]
    made = [
        {"bands": [str(band) for band in one.bands], "letters": one.letters}
        for one in prints(folded)
    ]
    verdicts = [[int(near(a, b) * 1000) for b in folded] for a in folded]
    assert canonical.sha256({"prints": made, "verdicts": verdicts}) == KNOWN[VERSION]
