"""How lessons state a secret, ask for it, and introduce the text that hides it.

No statement or introduction is one of the tests. Questions are plain English and not held out: that of `needle_kv` can
come out, about other keys, once in some ten thousand. Nor is the sentence of an answer, `The {thing} of {key} is
{value}.`, with which the tests tell one needle of six.
"""

from __future__ import annotations

from tasks.needle_words import TRAIN

STATEMENTS = (
    *TRAIN.templates,
    "The {thing} for {key} is {value}.",
    "The {thing} assigned to {key} is {value}.",
    "The {thing} of {key} was changed to {value}.",
    "For {key}, the {thing} is {value}.",
    "As for {key}, its {thing} is {value}.",
    "{key} was given the {thing} {value}.",
    "{key} uses the {thing} {value}.",
    "{key} has the {thing} {value}.",
    "{key} keeps {value} as its {thing}.",
    "{value} is the {thing} of {key}.",
    "{value} is the {thing} used for {key}.",
    "{value} was registered as the {thing} of {key}.",
    "The clerk wrote {value} next to {key} under the heading {thing}.",
    "According to the records, {key} received {value} as {thing}.",
    "According to the register, the {thing} of {key} equals {value}.",
    "It is known that the {thing} for {key} is {value}.",
    "Please remember: the {thing} for {key} is {value}.",
    "Keep in mind that {key} has {value} for a {thing}.",
    "Note: {key}'s {thing} is {value}.",
    "{key}'s {thing} is {value}.",
    "{key}'s {thing} happens to be {value}.",
    "The {thing} linked to {key} is {value}.",
    "The {thing} that was set for {key} reads {value}.",
    "The {thing} we use for {key} is {value}.",
    "The {thing} printed beside {key} was {value}.",
    "On the list, {key} stands with the {thing} {value}.",
    "In the file of {key}, the {thing} is given as {value}.",
    "In the ledger, the {thing} of {key} is written as {value}.",
    "Only a few people know that the {thing} for {key} is {value}.",
    "Nobody should forget that {key} uses {value} as its {thing}.",
    "If anyone asks about {key}, the {thing} is {value}.",
    "When asked for the {thing} of {key}, say {value}.",
    "To reach {key}, one needs the {thing} {value}.",
    "The {thing} of {key} used to be a mystery, but it is {value}.",
    "A note said that the {thing} of {key} was {value}.",
    "A letter gave the {thing} of {key} as {value}.",
    "Someone whispered that {value} was the {thing} of {key}.",
    "The new {thing} for {key} is {value}.",
    "{thing} for {key}: {value}.",
    "{key} - {thing}: {value}.",
    "Reminder: {thing} of {key} = {value}.",
    "Yesterday the {thing} of {key} was confirmed: {value}.",
)

QUESTIONS = (
    "What is the {thing} of {key}?",
    "What is the {thing} for {key}?",
    "What is {key}'s {thing}?",
    "Which {thing} belongs to {key}?",
    "Which {thing} was given to {key}?",
    "What {thing} does {key} have?",
    "What {thing} does the text give for {key}?",
    "Tell me the {thing} of {key}.",
    "Tell me the {thing} for {key}.",
    "Give the {thing} of {key}.",
    "Please give me the {thing} of {key}.",
    "Can you tell me the {thing} of {key}?",
    "Could you find the {thing} for {key}?",
    "Find the {thing} of {key} in the text.",
    "Look up the {thing} of {key}.",
    "I need the {thing} of {key}. What is it?",
    "I forgot the {thing} of {key}. What was it?",
    "Do you remember the {thing} of {key}?",
    "According to the text, what is the {thing} of {key}?",
    "Based on the text above, what is the {thing} for {key}?",
    "From the passage, what is the {thing} of {key}?",
    "In the text, what is said to be the {thing} of {key}?",
    "What does the text say about the {thing} of {key}?",
    "State the {thing} of {key}.",
    "Name the {thing} of {key}.",
    "Write down the {thing} of {key}.",
    "Someone asks for the {thing} of {key}. What do you answer?",
    "Using the document, answer this: what is the {thing} for {key}?",
    "What was mentioned as the {thing} of {key}?",
    "Recall the {thing} of {key}.",
    "Extract the {thing} of {key} from the text above.",
    "Complete the sentence: the {thing} of {key} is",
)

QUESTIONS_ABOUT_SEVERAL = (
    "What are the {things} of {keys}?",
    "What are the {things} for {keys}?",
    "Give the {things} of {keys}.",
    "Tell me the {things} of {keys}.",
    "List the {things} of {keys}.",
    "Find the {things} of {keys} in the text.",
    "Which {things} belong to {keys}?",
    "According to the text, what are the {things} for {keys}?",
    "I need the {things} of {keys}.",
    "Look up the {things} for {keys}.",
)

QUESTIONS_FOR_ALL = (
    "What are all the {things} given for {key}?",
    "List every {thing} of {key} in the text.",
    "Which {things} does the text give for {key}?",
    "{key} has more than one {thing}. What are they?",
    "Name all {things} that belong to {key}.",
    "Find each {thing} for {key}.",
)

INTRODUCTIONS = (
    "Read the text and answer the question.",
    "Read the following passage carefully. A question about it comes at the end.",
    "Here is a text. Some facts are hidden in it.",
    "Below is a long text with some facts to remember. You will be asked about them later.",
    "The passage below mixes a story with a few notes. Pay attention to the notes.",
    "Please study this document. I will ask you about it.",
    "Use the text to answer the question that follows it.",
    "I will show you part of a novel into which somebody put some odd sentences. Find them.",
    "Answer the question using only the information in the text.",
    "You are given a document. Answer briefly.",
    "Keep the details of this text in mind.",
    "Here are my notes. They are in no order.",
    "Look for the answer in this text.",
    "Some important pieces of information are scattered through the text below. Memorize them.",
    "Text:",
    "Document:",
    "Context:",
)

LEADS = ("", "", "", "", "Question: ", "Q: ", "Now answer this question. ", "My question: ", "Here is the question: ")

ASKING_FOR_VALUE = (
    "Answer with the {kind} alone.",
    "Give only the {kind}.",
    "Reply with just the {kind}.",
    "Only write the {kind}, nothing else.",
    "Keep the answer short.",
    "Answer in as few words as possible.",
    "\nAnswer:",
)

ASKING_FOR_SENTENCE = (
    "Answer in a full sentence.",
    "Please answer with a complete sentence.",
    "Reply in one sentence.",
)

ASKING_FOR_LIST = {
    "comma": ("Separate them by commas.", "Write them in one line, separated by commas.", "Use this order."),
    "and": ("Answer in this order.", "Keep the order."),
    "lines": ("Write one per line.", "Put each on its own line."),
    "numbered": ("Answer with a numbered list.", "Number your answers."),
    "named": ("Say which is which.", "Write one per line with its name."),
    "sentences": ("Answer in full sentences.",),
}
