"""Requests that the base model is asked to answer in its own words: about passages, and without one.

No wording of the benchmarks is used.
"""

from __future__ import annotations

from random import Random

_INTRODUCTIONS = (
    "Read this part of a novel.",
    "Here is an excerpt from a book.",
    "Please read the following text.",
    "The following passage comes from an old novel.",
    "Text:",
    "Passage:",
    "I am reading a book. This is the page where I am:",
    "",
    "",
)

_ABOUT_PASSAGE = (
    "Summarize the text in one sentence.",
    "Summarize this passage in two sentences.",
    "What is this text about?",
    "Who is the most important person in this passage?",
    "List the characters that are mentioned.",
    "Give this passage a title.",
    "Suggest three titles for this chapter.",
    "What happens at the end of the passage?",
    "What happens first?",
    "Where does the scene take place?",
    "Describe the mood of the passage in a few words.",
    "Which emotions do the characters show?",
    "Rewrite the first sentence in simple English.",
    "Rewrite the last sentence in modern English.",
    "Explain the passage to a child.",
    "What might happen next?",
    "Write one question that this text answers.",
    "Name three objects that are mentioned in the text.",
    "Is there a conversation in this passage? Answer yes or no and explain.",
    "Who is speaking? Answer as concisely as you can.",
    "What is the narrator's opinion? Answer in one short sentence.",
    "Answer with a few words only: what is the main topic?",
    "Write a short summary of this text for a library catalog.",
    "Give a list of three key points.",
    "What does the narrator want? Give a brief answer without explanation.",
    "Several people appear in the passage. How are they related? Give just the answer.",
    "Sum up what the people in this scene talk about and decide.",
    "What did the speakers say about each other? Answer in a few sentences.",
    "Pick an interesting sentence and explain it.",
    "What is the main conflict in this passage?",
    "In which time does the story take place? Keep it short.",
    "Which words tell you that this is an old book?",
    "Turn this passage into a short news report.",
    "Write a short diary entry of one of the characters.",
    "Who is {name}?",
    "What does {name} do in this passage?",
    "Describe {name} in one sentence.",
    "What do we learn about {name}? Use only the passage.",
    "Why is {name} mentioned? Answer briefly.",
)

_TOPICS = (
    "the moon,photosynthesis,gravity,volcanoes,the water cycle,electricity,magnets,rainbows,bees,whales,dinosaurs,the "
    "heart,vaccines,computers,the internet,bicycles,trains,bread,chocolate,coffee,tea,cheese,the Roman Empire,the "
    "printing press,the pyramids,jazz,chess,football,poetry,democracy,money,banks,insurance,friendship,courage,sleep,"
    "exercise,recycling,solar power,rivers,glaciers,deserts,forests,earthquakes,maps,calendars,clocks,telescopes,"
    "microscopes,batteries"
).split(",")

_ABOUT_TOPIC = (
    "Explain {topic} in one sentence.",
    "Explain {topic} to a ten-year-old.",
    "Write a short paragraph about {topic}.",
    "Tell me three facts about {topic}.",
    "Why do people care about {topic}?",
    "Write a four-line poem about {topic}.",
    "Give me a list of five words related to {topic}.",
    "What would you teach a beginner about {topic}?",
    "Write a title for an article about {topic}.",
    "Ask me a quiz question about {topic}.",
)

_ALONE = (
    "What is the capital of France?",
    "What is the largest planet in the solar system?",
    "How many days are there in a leap year?",
    "What is the boiling point of water in degrees Celsius?",
    "Who wrote Romeo and Juliet?",
    "Which ocean is the largest?",
    "What language is spoken in Brazil?",
    "Name the seven colors of the rainbow.",
    "List the months of the year.",
    "Count from one to twenty.",
    "Write the alphabet.",
    "Write the even numbers up to 20.",
    "Name five fruits.",
    "Name ten animals.",
    "Give me three synonyms for happy.",
    "What is the opposite of cold?",
    "Use the word harbor in a sentence.",
    "Translate 'good morning' into Spanish.",
    "Translate 'thank you very much' into French.",
    "Correct this sentence: She go to school yesterday.",
    "Rewrite this politely: Give me the book.",
    "Make this sentence shorter: The meeting that we had planned for Monday has been moved to Tuesday.",
    "Is this sentence positive or negative? I loved every minute of the film.",
    "Write a haiku about winter.",
    "Write a limerick about a cat.",
    "Tell me a short joke.",
    "Tell me a story in three sentences.",
    "Write the first paragraph of a detective story.",
    "Describe a sunset at the sea.",
    "Write a short letter to a friend who is ill.",
    "Write an email to my boss asking for a day off.",
    "Write a thank-you note to a teacher.",
    "Write an invitation to a birthday party.",
    "Write a short product description for a wooden chair.",
    "Write a slogan for a bakery.",
    "Give me a simple recipe for pancakes.",
    "How do I boil an egg?",
    "How do I plant a tree?",
    "How can I sleep better?",
    "How do I learn a new language?",
    "Give me five tips for saving money.",
    "Give me three ideas for a rainy day.",
    "Plan a day in a big city for me.",
    "What should I pack for a hiking trip?",
    "What are the benefits of reading?",
    "What are the advantages and disadvantages of living in a city?",
    "Compare cats and dogs.",
    "What is the difference between weather and climate?",
    "Why is the sky blue?",
    "Why do leaves change color in autumn?",
    "How does a refrigerator work?",
    "What is a prime number?",
    "What is a metaphor? Give an example.",
    "What is an algorithm?",
    "What is a variable in programming?",
    "Write a Python function that adds two numbers.",
    "Write a Python function that reverses a string.",
    "Write a Python loop that prints the numbers from 1 to 10.",
    "Write a Python function that checks whether a number is even.",
    "Write a JavaScript function that returns the larger of two numbers.",
    "Write an HTML page with a heading and a paragraph.",
    "Write an SQL query that selects all users older than 30.",
    "Write a JSON object with a name, an age and a city.",
    "Make a Markdown table with three countries and their capitals.",
    "Make a shopping list for a picnic.",
    "Write a to-do list for cleaning the house.",
    "Make a weekly timetable for studying.",
    "Introduce yourself.",
    "What can you do?",
    "Who are you?",
    "How are you today?",
    "Hello!",
    "I feel sad today. What can I do?",
    "Give me a motivating sentence.",
    "What is a good name for a dog?",
    "Suggest a name for a coffee shop.",
    "Which book should I read next?",
    "Give me a riddle and its answer.",
    "What would you do with a million dollars?",
    "Write a dialogue between a baker and a customer.",
    "Write a short speech for a wedding.",
    "Explain the saying 'better late than never'.",
    "What does 'once in a blue moon' mean?",
    "Describe the color red to somebody who cannot see.",
    "Imagine a new animal and describe it.",
    "What is the meaning of the word 'generous'?",
    "Which is heavier, a kilogram of iron or a kilogram of feathers?",
    "Sort these numbers: 14, 3, 27, 8, 19.",
    "Sort these words by the alphabet: pear, apple, orange, banana.",
    "Write the sentence 'I am learning' ten times.",
    "Spell the word 'necessary'.",
    "How many letters are in the word 'elephant'?",
    "Which word does not belong: dog, cat, table, horse?",
    "Continue the series: 2, 4, 8, 16,",
    "What time is it half an hour after 10:45?",
    "If today is Tuesday, what day is tomorrow?",
    "Turn this into a question: The train leaves at noon.",
    "Put this into the past tense: I walk to the park.",
    "Write a sentence with the words river, stone and night.",
    "Name three inventions and say what they are for.",
)

_SUMS = (
    "What is {a} plus {b}?",
    "What is {a} minus {b}?",
    "What is {c} times {d}?",
    "Tom has {c} apples and buys {d} more. How many apples does he have?",
    "A ticket costs {c} dollars. How much do {d} tickets cost?",
    "Add the numbers {a}, {b} and {c}.",
)


def passage_introduction(rng: Random) -> str:
    """What stands before a passage; may be nothing."""
    return rng.choice(_INTRODUCTIONS)


def about_passage(rng: Random, names: list[str], count: int) -> list[str]:
    """Different requests about a passage; `names` occur in it."""
    possible = [text for text in _ABOUT_PASSAGE if names or "{name}" not in text]
    return [text.format(name=rng.choice(names)) if "{name}" in text else text for text in rng.sample(possible, count)]


def without_passage(rng: Random) -> str:
    """A request that stands alone."""
    sort = rng.random()
    if sort < 0.5:
        return rng.choice(_ALONE)
    if sort < 0.9:
        return rng.choice(_ABOUT_TOPIC).format(topic=rng.choice(_TOPICS))
    low, high = rng.randrange(2, 13), rng.randrange(2, 13)
    first, second = sorted((rng.randrange(10, 200), rng.randrange(10, 200)), reverse=True)
    return rng.choice(_SUMS).format(a=first, b=second, c=low, d=high)
