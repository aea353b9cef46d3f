"""RULER (Hsieh et al. 2024, arXiv:2404.06654): 13 tasks that are made at any length with any tokenizer.

Made as NVIDIA/RULER makes them (Apache-2.0): scripts/data/synthetic/{constants,niah,variable_tracking,
common_words_extraction,freq_words_extraction,qa}.py, scripts/synthetic.yaml, and for the scores
scripts/eval/{evaluate,synthetic/constants}.py. Templates and answer prefixes are those of constants.py to the letter.
All were read in public copies of the repository, the generators in their later form (haystack size by bisection).

Where this package differs, and why:

* The essays of Paul Graham have no licence: the haystack is public-domain novels or a folder of the user's.
* Sentences end by a rule of our own instead of NLTK's Punkt model, which is a download.
* Each example has its own random generator, shuffle and haystack size. The scripts share one shuffle and one size
  among all examples.
* Keys and values of one example are distinct, so that its answer is certain.
* A prompt and its answer in whole blocks stay within the length, the chat template included (frame).
* The example that cwe opens with stands in the user's turn, as vt's does. The script repeats the chat template there.
* vt's example takes half of the prompt at most, and has as many hops as what is asked; the script's has ten at most,
  and its answer prefix counts them all.
* fwe refuses lengths at which the third and the fourth word would tie (frequent_words).
* cwe refuses lengths that the 8,166 words of `wonderwords` do not fill: with Qwen's tokenizer they take 198,600 tokens,
  so that 131,072 works and 262,144 does not. There the script draws from a second list, json/english_words.json.
* qa passes over questions whose own documents do not fit; the script never returns from them.
"""
