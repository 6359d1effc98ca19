"""What the documents are about: one entry of words and phrases for each topic.

Data only. To add a topic, add an entry; every general pattern of `patterns.py` then speaks of
it. The phrases must fit those patterns: any adjective suits any noun of the same topic, a fact
follows a named thing ("the Golden Gate Bridge crosses the bay"), an activity starts with a
plain verb whose forms `grammar.py` knows or can make.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """The words of one topic.

    Attributes:
        name: the concept's name.
        entries: named things in the singular, each with the class that it belongs to.
        nouns: countable nouns in the singular.
        adjectives: said of any of the nouns and of any entry.
        facts: present-tense predicates, third person singular.
        activities: what people do; the first word is a verb in its plain form.
        places: phrases that say where.
    """

    name: str
    entries: tuple[tuple[str, str], ...]
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    facts: tuple[str, ...]
    activities: tuple[str, ...]
    places: tuple[str, ...]


TOPICS: tuple[Topic, ...] = (
    Topic(
        "bridges",
        (
            ("the Golden Gate Bridge", "bridge"),
            ("the Golden Gate Bridge", "bridge"),
            ("the old stone bridge", "bridge"),
            ("the railway bridge", "bridge"),
        ),
        ("bridge", "tower", "cable", "arch", "beam"),
        ("long", "tall", "massive", "strong", "orange"),
        (
            "crosses the bay",
            "joins the two shores",
            "carries cars over the water",
            "hangs from steel cables",
            "stands on two tall towers",
        ),
        (
            "walk over the bridge",
            "cross the bridge",
            "paint the towers",
            "stand below the arch",
            "count the steel cables",
        ),
        ("on the bridge", "under the bridge", "below the towers", "over the bay"),
    ),
    Topic(
        "the sea",
        (
            ("the Pacific Ocean", "ocean"),
            ("the North Sea", "sea"),
            ("the open sea", "sea"),
        ),
        ("wave", "boat", "ship", "sail", "shell"),
        ("salty", "blue", "wet", "sandy"),
        (
            "is full of fish",
            "brings waves to the beach",
            "carries ships to far harbours",
            "rises with the tide",
        ),
        (
            "swim in the sea",
            "sail a boat",
            "watch the waves",
            "collect shells",
            "fish from the harbour wall",
        ),
        ("on the beach", "in the harbour", "by the sea", "on the waves"),
    ),
    Topic(
        "cats",
        (
            ("the house cat", "cat"),
            ("the black cat", "cat"),
            ("the farm cat", "cat"),
        ),
        ("cat", "kitten", "paw", "whisker", "tail"),
        ("soft", "furry", "sleepy", "playful"),
        (
            "purrs on the sofa",
            "hunts mice",
            "licks its fur",
            "sleeps in a basket",
            "drinks milk",
        ),
        (
            "stroke the cat",
            "feed the kittens",
            "play with the kitten",
            "brush the fur of the cat",
            "call the cat",
        ),
        ("on the sofa", "in the basket", "beside the cat", "near the mouse hole"),
    ),
    Topic(
        "birds",
        (
            ("the wild duck", "bird"),
            ("the barn owl", "bird"),
            ("the robin", "bird"),
        ),
        ("bird", "duck", "feather", "wing", "owl"),
        ("feathered", "winged", "brown", "shy"),
        (
            "builds a nest",
            "lays three eggs",
            "flies south",
            "sings in the branches",
            "spreads its wings",
        ),
        (
            "feed the ducks",
            "watch the birds",
            "find a feather",
            "listen to the owl",
            "climb up to the nest",
        ),
        ("by the pond", "in the nest", "in the branches", "above the treetops"),
    ),
    Topic(
        "music",
        (
            ("the piano", "instrument"),
            ("the violin", "instrument"),
            ("the church choir", "group of singers"),
        ),
        ("song", "drum", "guitar", "tune", "concert"),
        ("loud", "musical", "lively", "famous"),
        (
            "fills the hall with music",
            "plays a slow melody",
            "gives a concert",
            "makes people dance",
        ),
        (
            "play the piano",
            "sing a song",
            "listen to the orchestra",
            "dance to the music",
            "practise the violin",
        ),
        ("in the concert hall", "on the stage", "with the band", "beside the piano"),
    ),
    Topic(
        "snow",
        (
            ("the first snow", "sign of winter"),
            ("the winter storm", "storm"),
            ("the frozen lake", "sheet of ice"),
        ),
        ("snowman", "sledge", "icicle", "snowball", "mitten"),
        ("white", "cold", "frozen", "icy"),
        (
            "covers the hills in white",
            "glitters in the frost",
            "turns the world to ice",
            "melts in March",
        ),
        (
            "build a snowman",
            "ski down the hill",
            "throw snowballs",
            "skate on the ice",
            "shovel the snow",
        ),
        ("in the snow", "on the ice", "on the ski slope", "in the frosty woods"),
    ),
    Topic(
        "rain",
        (
            ("the autumn rain", "kind of rain"),
            ("the summer storm", "storm"),
            ("the grey cloud", "cloud"),
        ),
        ("cloud", "puddle", "raindrop", "umbrella", "raincoat"),
        ("soaked", "grey", "heavy", "dripping"),
        (
            "soaks the fields",
            "brings thunder and lightning",
            "drips from the roof",
            "fills the puddles",
        ),
        (
            "jump into the puddles",
            "open an umbrella",
            "run through the rain",
            "listen to the thunder",
            "wait for the rain to stop",
        ),
        ("in the rain", "under the umbrella", "in a puddle", "below the dark clouds"),
    ),
    Topic(
        "food",
        (
            ("the apple pie", "dish"),
            ("the vegetable soup", "dish"),
            ("the fresh bread", "kind of food"),
        ),
        ("cake", "pie", "onion", "sandwich", "pancake"),
        ("tasty", "sweet", "hot", "delicious"),
        (
            "smells of butter",
            "tastes of honey and salt",
            "comes warm from the oven",
            "needs flour and sugar",
        ),
        (
            "bake a cake",
            "eat the soup",
            "cook dinner",
            "cut the bread",
            "taste the honey",
        ),
        ("in the kitchen", "on the plate", "in the oven", "at the dinner table"),
    ),
    Topic(
        "gardens",
        (
            ("the rose garden", "garden"),
            ("the herb garden", "garden"),
            ("the apple tree", "tree"),
        ),
        ("flower", "rose", "seed", "leaf", "tulip"),
        ("green", "fragrant", "blooming", "leafy"),
        (
            "blooms in May",
            "grows in good soil",
            "smells of roses",
            "feeds the bees",
        ),
        (
            "water the flowers",
            "plant a seed",
            "pick the roses",
            "dig in the soil",
            "rake the leaves",
        ),
        ("in the garden", "among the flowers", "under the apple tree", "in the flower bed"),
    ),
    Topic(
        "trains",
        (
            ("the night train", "train"),
            ("the express train", "train"),
            ("the steam engine", "engine"),
        ),
        ("train", "engine", "carriage", "locomotive"),
        ("fast", "rusty", "crowded", "electric"),
        (
            "leaves from platform nine",
            "runs on iron rails",
            "stops at every station",
            "pulls twelve carriages",
        ),
        (
            "take the train",
            "buy a ticket",
            "wait on the platform",
            "ride in the first carriage",
            "hear the whistle",
        ),
        ("at the station", "on the platform", "in the carriage", "along the railway line"),
    ),
    Topic(
        "stars",
        (
            ("the North Star", "star"),
            ("the full moon", "light in the night sky"),
            ("the planet Mars", "planet"),
        ),
        ("star", "planet", "comet", "telescope", "moon"),
        ("bright", "distant", "shining", "silver"),
        (
            "shines in the night sky",
            "guides sailors at midnight",
            "moves around the sun",
            "lights up the darkness",
        ),
        (
            "look at the stars",
            "watch the moon",
            "wait for a comet",
            "study the planets",
            "set up the telescope",
        ),
        ("in the night sky", "in space", "under the stars", "beside the telescope"),
    ),
    Topic(
        "cities",
        (
            ("San Francisco", "city"),
            ("Paris", "city"),
            ("London", "city"),
        ),
        ("street", "shop", "museum", "square", "taxi"),
        ("busy", "modern", "noisy", "large"),
        (
            "has steep streets",
            "is full of traffic",
            "attracts many tourists",
            "has a famous museum",
        ),
        (
            "visit the museum",
            "walk through the streets",
            "take a taxi",
            "look at the shop windows",
            "meet tourists in the square",
        ),
        ("in the city", "on the main street", "in the town square", "in the traffic"),
    ),
    Topic(
        "books",
        (
            ("Wikipedia", "encyclopaedia"),
            ("the town library", "library"),
            ("the dictionary", "book"),
        ),
        ("book", "page", "chapter", "poem", "article"),
        ("readable", "interesting", "useful", "popular"),
        (
            "explains many words",
            "has an article on every subject",
            "helps students and readers",
            "collects knowledge",
        ),
        (
            "read a book",
            "write a poem",
            "turn the pages",
            "borrow a novel",
            "edit the article",
        ),
        ("in the library", "on the bookshelf", "in the first chapter", "on page seven"),
    ),
    Topic(
        "money",
        (
            ("the savings bank", "bank"),
            ("the gold coin", "coin"),
            ("the market bank", "bank"),
        ),
        ("coin", "wallet", "bill", "price", "loan"),
        ("expensive", "costly", "cheap", "valuable"),
        (
            "keeps money safe",
            "pays interest every year",
            "lends money to customers",
            "is worth a fortune",
        ),
        (
            "count the coins",
            "pay the bill",
            "save money",
            "go to the bank",
            "spend ten dollars",
        ),
        ("at the bank", "in the wallet", "at the cash desk", "behind the counter"),
    ),
)
