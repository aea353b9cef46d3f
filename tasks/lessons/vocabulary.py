"""Words that lessons are made of. None is a key or a value of the test needles."""

from __future__ import annotations

from tasks.needle_words import TRAIN

CITIES = (
    *TRAIN.keys,
    *(
        "Bristol Cologne Florence Geelong Hobart Izmir Jaipur Krakow Leipzig Lyon Memphis Milan Nagoya Odessa Palermo "
        "Perth Quebec Recife Tampa Uppsala Valencia Windhoek Yerevan Zagreb Antwerp Basel Cordoba Dakar Essen"
    ).split(),
)

NAMES = (
    *TRAIN.names,
    *(
        "Alice Robert Clara Henry Martha Oscar Julia Samuel Helen Victor Laura Simon Grace Peter Emma Walter Rose Hugo "
        "Daniel Sarah Anna Benjamin Carol David Edith Frank Gloria Harold Isabel Jacob Karen Louis Maria Norman Olivia "
        "Patrick Quentin Ruth Stephen Teresa Ursula Vincent Wendy Xavier Yvonne Zachary"
    ).split(),
)

PLACES_WITH_NAMES = (
    "the North Star Hotel",
    "the Blue Heron",
    "Project Juniper",
    "Project Aurora",
    "the Maple Street office",
    "the Harbor Museum",
    "the Silver Line",
    "the Old Mill",
    "Fort Kestrel",
    "Camp Willow",
    "the Hilltop School",
    "the Greenfield clinic",
    "Station Nine",
    "the Oakwood library",
    "the ship Marigold",
    "Warehouse Delta",
    "the River Inn",
    "Team Falconry",
)

WORDS = (
    *TRAIN.words,
    *(
        "apple bridge candle desert engine forest garden harvest island jacket kitten lemon mirror needle "
        "ocean pencil quartz river silver tiger uniform valley window yellow anvil basket cloud dragon eagle "
        "flute glove honey ivory jungle kingdom lily mountain nest olive pearl queen rocket spider tower "
        "urchin vessel whale acorn beetle cabin daisy elbow fountain grape helmet insect juniper koala ladle "
        "maple noodle onion piano rabbit shadow thunder"
    ).split(),
)

COLORS = "red blue green yellow purple orange black white golden silver brown pink gray crimson turquoise".split()

OBJECTS = (
    "mirror basket blanket saddle candle telescope carpet helmet suitcase kettle guitar notebook hat clock vase rope "
    "shovel bicycle camera toolbox scarf bucket painting chair"
).split()

ROOMS = (
    "attic garden cellar library kitchen chapel barn harbor tower stable market bakery theater museum garage office "
    "station workshop greenhouse courtyard pantry hallway"
).split()

FOODS = (
    "apples bread cheese salmon carrots honey rice soup grapes walnuts pancakes olives lemons butter beans noodles "
    "pears chicken cabbage almonds"
).split()

JOBS = (
    "carpenter nurse pilot teacher baker sailor painter lawyer farmer tailor musician plumber dentist gardener "
    "librarian blacksmith journalist chemist"
).split()

ANIMALS = "dog cat parrot horse rabbit goat turtle hamster donkey goose pony ferret hedgehog owl".split()

HOBBIES = (
    "chess",
    "fishing",
    "painting",
    "gardening",
    "swimming",
    "cooking",
    "birdwatching",
    "archery",
    "sailing",
    "knitting",
    "rock climbing",
    "photography",
    "playing the cello",
    "collecting stamps",
)

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

MONTHS = "January February March April May June July August September October November December".split()
