"""The words of the demo corpus' grammar, graded by hand on the sentiment scale [-3, 3]."""

from __future__ import annotations

TOPICS: dict[str, tuple[str, ...]] = {
    "holiday": ("hotel", "beach", "trip", "room", "pool", "island", "view", "tour"),
    "film": ("film", "story", "ending", "actor", "music", "plot", "scene", "cinema"),
    "work": ("meeting", "office", "boss", "project", "plan", "report", "team", "contract"),
    "food": ("soup", "dinner", "cake", "coffee", "waiter", "menu", "salad", "bread"),
    "sport": ("match", "coach", "game", "stadium", "player", "season", "goal", "race"),
    "travel": ("train", "station", "flight", "bus", "seat", "ticket", "airport", "journey"),
    "home": ("flat", "kitchen", "garden", "neighbour", "sofa", "street", "landlord", "balcony"),
    "school": ("lesson", "teacher", "exam", "class", "book", "library", "homework", "lecture"),
    "shop": ("shop", "jacket", "sale", "phone", "price", "gift", "camera", "market"),
    "health": ("doctor", "hospital", "nurse", "dentist", "clinic", "diet", "therapy", "gym"),
}

ADJECTIVES: dict[float, tuple[str, ...]] = {
    -3.0: ("horrible", "awful", "dreadful", "terrible", "appalling"),
    -2.0: ("bad", "nasty", "poor", "miserable", "disappointing"),
    -1.0: ("dull", "boring", "tiresome", "weak", "annoying"),
    0.0: ("ordinary", "usual", "normal", "typical", "average"),
    1.0: ("decent", "fine", "nice", "pleasant", "useful"),
    2.0: ("good", "lovely", "great", "delightful", "charming"),
    3.0: ("wonderful", "fantastic", "brilliant", "amazing", "excellent"),
}

VERBS: dict[float, tuple[str, ...]] = {
    -3.0: ("hate", "detest", "despise"),
    -2.0: ("dislike", "regret", "resent"),
    -1.0: ("doubt", "avoid", "mistrust"),
    0.0: ("know", "noticed", "described"),
    1.0: ("like", "welcome", "approve of"),
    2.0: ("enjoy", "admire", "recommend"),
    3.0: ("love", "adore", "treasure"),
}

INTENSIFIERS = (
    ("", 1.0),
    ("", 1.0),
    ("really", 1.15),
    ("very", 1.15),
    ("quite", 0.85),
    ("rather", 0.8),
    ("so", 1.2),
)

OPENERS = ("well", "honestly", "you know", "look", "I mean", "and", "yes", "listen")

NEGATED: tuple[tuple[str, float], ...] = (
    ("the {noun} was not bad at all", 1.2),
    ("this {noun} is not dull at all", 1.0),
    ("I do not regret the {noun}", 1.2),
    ("there is nothing wrong with the {noun}", 1.0),
    ("I have no complaints about the {noun}", 1.4),
    ("I have never seen a better {noun}", 2.8),
    ("nobody could dislike this lovely {noun}", 2.0),
    ("I could not be happier with the {noun}", 2.8),
    ("the {noun} never disappoints me", 2.0),
    ("the {noun} was not good at all", -1.8),
    ("I do not like this {noun}", -1.6),
    ("this {noun} is not very nice", -1.2),
    ("nothing about the {noun} was pleasant", -2.0),
    ("I have never seen a worse {noun}", -2.8),
    ("I will never enjoy that {noun}", -2.0),
    ("the {noun} did not help at all", -1.4),
    ("the {noun} was not special", -0.5),
    ("I have no opinion about the {noun}", 0.0),
    ("the {noun} is neither good nor bad", 0.0),
)

SARCASTIC: tuple[tuple[str, float], ...] = (
    ("oh great, another {adjective} {noun}", 2.0),
    ("oh wonderful, just what I needed, a {noun}", 2.4),
    ("yeah right, such a {adjective} {noun}", 1.6),
    ("oh sure, the {noun} is just perfect", 2.4),
    ("well thanks a lot for the {adjective} {noun}", 1.6),
    ("oh brilliant, the {noun} again, how {adjective}", 2.2),
    ("as if that {noun} could be any better", 1.4),
    ("what a {adjective} {noun}, lucky me", 2.0),
    ("oh nice, one more {noun} for me", 1.0),
    ("fine, another {noun}, that is just nice", 0.8),
)

TAILS: dict[str, tuple[tuple[str, float], ...]] = {
    "neutral": (
        ("that is all", 0.0),
        ("more or less", 0.0),
        ("as we expected", 0.3),
        ("and that is that", -0.2),
        ("as always", 0.0),
    ),
    "happiness": (
        ("I am so happy", 2.6),
        ("it makes me smile", 2.0),
        ("we laughed a lot", 1.8),
        ("I feel cheerful", 2.2),
        ("I am quite content", 1.2),
    ),
    "sadness": (
        ("it makes me sad", -1.8),
        ("I could cry", -2.2),
        ("I feel so lonely", -2.0),
        ("I feel a bit down", -1.0),
        ("my heart is broken", -2.8),
    ),
    "anger": (
        ("I am so angry", -2.4),
        ("it makes me furious", -2.8),
        ("I am fed up", -1.8),
        ("it drives me mad", -2.0),
        ("that annoys me", -1.2),
    ),
    "fear": (
        ("it scares me", -1.8),
        ("I am really worried", -1.4),
        ("I feel nervous", -1.0),
        ("I am terrified", -2.4),
        ("it frightens me", -1.8),
    ),
    "disgust": (
        ("it is disgusting", -2.6),
        ("it makes me sick", -2.4),
        ("how revolting", -2.4),
        ("that smells nasty", -1.6),
        ("I feel queasy", -1.2),
    ),
    "surprise": (
        ("what a surprise", 1.0),
        ("I did not expect that", 0.3),
        ("I am astonished", 1.2),
        ("I can hardly believe it", 0.6),
        ("wow, I am amazed", 2.0),
        ("that shocked me", -1.2),
    ),
}
