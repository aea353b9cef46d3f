"""Training data that turns an autoregressive model into one that writes blocks: see tasks.lessons.mix."""
