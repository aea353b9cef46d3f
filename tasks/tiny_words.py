"""The closed vocabulary of the embedded model's language: one word, one token.

The order is the token id. A checkpoint is bound to it: append, never reorder.
"""

from __future__ import annotations

SPECIAL = ("<pad>", "<mask>", "<eos>", "<bos>")
PAD, MASK, EOS, BOS = range(4)

# Answers: what a needle, a code, a pair or a vote can name.
VALUES = tuple(
    """
    amber azure beige black bronze cobalt coral crimson cyan ebony emerald fuchsia garnet green hazel indigo ivory
    jade khaki lilac lime maroon mauve ochre olive opal orange peach pink plum purple red ruby rust saffron sage
    scarlet sepia sienna tan teal topaz umber violet white yellow zinc chrome copper pewter
    badger beetle bison camel cobra condor cougar coyote crane dingo dolphin eagle falcon ferret finch gecko goose
    heron hornet hyena ibex iguana jackal jaguar koala lemur lizard llama lynx magpie marmot moose newt ocelot osprey
    otter owl panda parrot pelican puma quail raven salmon seal skunk stork tapir tiger walrus
    anvil arrow axle barrel beacon bell bolt boot brush bucket cable chain chisel compass cork crown dagger dial drum
    fork funnel gear goblet harp hinge hook horn jar keg kite lens lever mallet mast medal spindle oar pedal pipe
    plank pulley quill rope saddle shovel spade spool statue sword vase
    """.split()
)

ADJECTIVES = tuple(
    """
    old quiet bright narrow golden distant gentle heavy silver broken early hollow humble ancient frozen little misty
    proud rapid solemn tender vivid warm wild young mellow calm dusty faint grand
    """.split()
)

NOUNS = tuple(
    """
    river garden bridge teacher window market forest engine lantern harbor village painter kitchen valley mountain
    letter soldier clock farmer castle meadow sailor island library orchard pilot road temple tower wagon basket
    candle doctor feather hammer journal ladder mirror needle oven pencil rabbit shadow ticket violin whistle anchor
    bottle curtain drawer fountain glove helmet inkwell jacket kettle locket magnet notebook
    """.split()
)

VERBS = tuple(
    """
    watches follows paints carries opens builds finds keeps leaves moves passes reaches shows takes turns visits
    waits wears writes breaks brings calls crosses covers draws feeds guards holds joins lifts
    """.split()
)

PREPOSITIONS = tuple("near under behind with for in at".split())

NUMBERS = tuple("one two three four five six seven eight nine ten".split())

FUNCTION = tuple(
    """
    the a of is are what which who where does do has have most secret passphrase passphrases code codes answer
    leads lead to after step steps vote votes word words value values key keys and then because while equals
    variable ? : . , ; = -
    """.split()
)

# Keys: 256 invented city names.
_STEMS = "Al Bar Cor Dun El Far Gor Hal Il Jor Kal Lor Mar Nor Or Pel".split()
_ENDINGS = "ton ville burg mere ford dale holm stad by wick port field mont grad minster haven".split()
CITIES = tuple(stem + ending for stem in _STEMS for ending in _ENDINGS)

VOCABULARY = (*SPECIAL, *VALUES, *FUNCTION, *PREPOSITIONS, *NUMBERS, *ADJECTIVES, *NOUNS, *VERBS, *CITIES)
TOKEN_ID = {word: index for index, word in enumerate(VOCABULARY)}

if len(TOKEN_ID) != len(VOCABULARY):
    raise AssertionError("the tiny vocabulary has a word twice")
